"""What a server's own token opens: that person's own things, and of the portal one port."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from testbed.hub_client import HubClient, Spawn
from testbed.kernels import Kernel
from testbed.promises import expect_within
from testbed.secret import Secret

pytestmark = pytest.mark.needs("htcondor")

REFUSED = (400, 401, 403, 404, 405)

# Asks from inside the job, from the very host that the scheduler names.
FROM_INSIDE = """
import json, os, ssl, urllib.error, urllib.request
hub = ssl.create_default_context(cafile=os.environ["AF_SECRETS"] + "/tls/hub-authority.pem")
def ask(method, path, body, token):
    request = urllib.request.Request(
        os.environ["JUPYTERHUB_API_URL"] + path,
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={"Content-Type": "application/json"}
        | ({"Authorization": "token " + token} if token else {}),
    )
    try:
        with urllib.request.urlopen(request, timeout=30, context=hub) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
token = open(os.environ["AF_SECRETS"] + "/jupyterhub_token").read().strip()
"""

# Method, path below /hub/api, body: none of it may work with alice's server token.
FORBIDDEN = [
    ("GET", "/af/spawns/{bob}", None),
    ("DELETE", "/af/spawns/{bob}", None),
    ("GET", "/af/queue", None),
    ("GET", "/users/{bob}", None),
    ("GET", "/users", None),
    ("POST", "/users/{bob}/server", {}),
    ("DELETE", "/users/{bob}/server", None),
    ("POST", "/users/{bob}/tokens", {}),
    ("POST", "/batchspawner", {"port": 8888}),
    ("POST", "/batchspawner", {"batch_query_cmd": "id"}),
    ("POST", "/af/hello", {}),
    ("POST", "/af/hello", {"port": 22}),
    ("POST", "/af/hello", {"port": 0}),
    ("POST", "/af/hello", {"port": "8888"}),
    ("POST", "/af/hello", {"port": 8888, "host": "hub"}),
    ("POST", "/af/hello", {"port": 8888, "ip": "127.0.0.1"}),
    ("POST", "/af/hello", {"port": 8888, "cmd": ["id"]}),
    ("POST", "/af/hello", {"port": 8888, "batch_query_cmd": "id"}),
    ("POST", "/af/hello", [8888]),
    ("POST", "/af/exchange", {"code": "x" * 43, "started_s": 0}),
    ("POST", "/af/exchange", {"code": "x" * 43, "started_s": 0, "user": "{bob}"}),
    ("POST", "/af/exchange", {"code": ""}),
    ("GET", "/af/exchange", None),
    ("GET", "/af/hello", None),
    ("POST", "/af/limits", {"job": "1.0"}),
    ("POST", "/af/more-time", {}),
    ("POST", "/af/more-time", {"minutes": 10**9}),
    ("POST", "/af/more-time", {"minutes": 60, "user": "{bob}"}),
    ("GET", "/af/own-environments", None),
    ("POST", "/af/own-environments", []),
    ("POST", "/af/own-environments", {"environments": [], "user": "{bob}"}),
    ("POST", "/af/own-environments", {"environments": [{"name": "x", "prefix": "relative"}]}),
    (
        "POST",
        "/af/own-environments",
        {"environments": [{"name": "x", "prefix": "/x", "groups": ["gpu"]}]},
    ),
    (
        "POST",
        "/af/own-environments",
        {
            "environments": [
                {"name": "x", "container": {"image": "/x", "bind": [{"source": "/x:/etc"}]}}
            ]
        },
    ),
    ("POST", "/af/own-environments", {"environments": [{"name": "x", "prefix": "/x"}] * 21}),
    ("POST", "/af/shares", {}),
    ("DELETE", "/af/shares/0123456789abcdef", None),
    ("POST", "/af/share-arrivals", {"key": "x" * 32}),
    ("POST", "/af/share-arrivals/content", {"key": "x" * 32}),
    ("POST", "/af/live-help", {}),
    ("POST", "/af/live-help", {"lifetime_min": 10**6}),
    ("POST", "/af/live-help", {"lifetime_min": 15, "owner": "{bob}"}),
    ("DELETE", "/af/live-help/people/{bob}", None),
    ("POST", "/share-codes/{bob}/", {}),
    ("POST", "/shares/{bob}/", {"user": "{bob}"}),
    ("GET", "/shares/{bob}", None),
    ("POST", "/shutdown", {}),
    ("GET", "/proxy", None),
]


@dataclass(frozen=True)
class Session:
    """Alice's server and the token that it holds, as any code of hers can read it."""

    kernel: Kernel
    server_token: HubClient


@pytest.fixture
def alice(neighbours: tuple[HubClient, HubClient]) -> HubClient:
    """Whose token is tried, at the HTCondor hub."""
    return neighbours[0]


@pytest.fixture
def bob(neighbours: tuple[HubClient, HubClient]) -> HubClient:
    """On whom it is tried: somebody of the same hub instance."""
    return neighbours[1]


@pytest.fixture
def session(alice: HubClient, spawn: Callable[..., Spawn]) -> Iterator[Session]:
    """Alice's server on HTCondor, with a kernel that holds her server's token."""
    spawn(alice, "htcondor")
    with Kernel.start(alice) as kernel:
        kernel.run(FROM_INSIDE)
        token = kernel.run("print(token, end='')").stdout
        yield Session(kernel, alice.again(Secret(token)))


def _with(bob: HubClient, path: str, body: object) -> tuple[str, object]:
    filled = json.loads(json.dumps(body).replace("{bob}", bob.user))
    return path.replace("{bob}", bob.user), filled


def test_server_token_opens_nothing_else_from_outside(
    session: Session, alice: HubClient, bob: HubClient
) -> None:
    """Alice's server token, used from anywhere, is refused on every route of the portal."""
    opened = []
    for method, path, body in FORBIDDEN:
        path, filled = _with(bob, path, body)
        answer = session.server_token.request(
            method, f"/hub/api{path}", **({} if body is None else {"json": filled})
        )
        if answer.status_code not in REFUSED:
            opened.append(f"{method} {path} {body}: {answer.status_code}")
    assert not opened
    assert alice.servers()[""]["ready"]
    assert session.kernel.run("6 * 7").value == "42"


def test_server_token_opens_nothing_else_from_inside(
    session: Session, alice: HubClient, bob: HubClient
) -> None:
    """The same from inside the job, whose host the scheduler vouches for."""
    asked = [(method, *_with(bob, path, body)) for method, path, body in FORBIDDEN]
    statuses = json.loads(
        session.kernel.run(
            f"print(json.dumps([ask(*each, token) for each in json.loads({json.dumps(asked)!r})]))",
            timeout_s=120,
        ).stdout
    )
    opened = [
        f"{method} {path} {body}: {status}"
        for (method, path, body), status in zip(asked, statuses, strict=True)
        if status not in REFUSED
    ]
    assert not opened
    # A session's secrets are for its server's token: neither for its person's nor for another's.
    for person in (alice, bob):
        asked = Secret(f"print(ask('POST', '/af/secrets', {{}}, {str(person.token)!r}))")
        assert session.kernel.run(asked).stdout.strip() == "403"
    assert alice.servers()[""]["ready"]


def test_server_token_does_not_open_other_peoples_servers(
    session: Session, bob: HubClient, spawn: Callable[..., Spawn]
) -> None:
    """Alice's server token is worth nothing at bob's running server."""
    spawn(bob, "htcondor")
    for method, path in [
        ("GET", "/api/status"),
        ("GET", "/api/contents"),
        ("POST", "/api/kernels"),
    ]:
        answer = session.server_token.request(method, bob.server_path() + path)
        assert answer.status_code in (302, 401, 403), f"{method} {path}: {answer.status_code}"
        assert "token" not in answer.text.lower() or answer.status_code == 403


def test_code_cannot_be_used_twice(session: Session, alice: HubClient) -> None:
    """The one-time code of a session is refused the second time, and the session ends."""
    status = session.kernel.run(
        """
import glob
(path,) = glob.glob(os.environ["_CONDOR_CREDS"] + "/*.use")
code = open(path).read().strip()
print(ask("POST", "/af/exchange", {"code": code, "started_s": 0}, ""), end="")
"""
    ).stdout
    assert status == "403"
    expect_within(
        30,
        lambda: "" not in alice.servers(),
        what="the session whose code was used twice has ended",
    )
    assert "second time" in alice.spawn_account()["reason"]
