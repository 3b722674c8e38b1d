"""A machine that got onto the facility's network, with no key: what it can reach.

A throw-away container stands for it: a laptop in the wrong socket, or a compromised
appliance. It may know names and ports; it holds nothing else but, in one case, a token that
it stole.
"""

import json
from collections.abc import Callable, Iterator

import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from testbed.bed import Bed
from testbed.hub_client import Spawn
from testbed.kernels import Kernel
from testbed.logins import Visitor
from testbed.site import Site

pytestmark = pytest.mark.needs("faults")

# Sends one JSON request, to whoever answers there, and prints the status; 0: there was no answer.
ASK = """
import http.client, json, ssl, sys, urllib.error, urllib.request
url, method, token, body = json.loads(sys.argv[1])
headers = {"Content-Type": "application/json"}
if token:
    headers["Authorization"] = "token " + token
try:
    with urllib.request.urlopen(
        urllib.request.Request(url, json.dumps(body).encode(), headers, method=method),
        timeout=30,
        context=ssl._create_unverified_context(),
    ) as answer:
        print(answer.status)
except urllib.error.HTTPError as error:
    print(error.code)
except (OSError, http.client.BadStatusLine) as error:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if not isinstance(reason, (ssl.SSLError, ConnectionResetError, BrokenPipeError)):
        raise
    print(0)
"""

READ_TOKEN = """
import os
print(open(os.environ["AF_SECRETS"] + "/jupyterhub_token").read())
"""


class Stranger:
    """A container on the bed's network that is no part of the bed."""

    def __init__(self, container: DockerContainer) -> None:
        self._container = container

    def run(self, *argv: str) -> tuple[int, str]:
        """Run a program there: exit code and output."""
        done = self._container.exec(list(argv))
        return done.exit_code, done.output.decode(errors="replace")

    def ask(self, url: str, body: object, *, method: str = "POST", token: str = "") -> int:
        """Send one request from there and return its status."""
        code, output = self.run("python3", "-c", ASK, json.dumps([url, method, token, body]))
        assert code == 0, output
        return int(output)


@pytest.fixture(scope="module")
def stranger(bed: Bed) -> Iterator[Stranger]:
    """A throw-away container with the schedulers' clients and no key."""
    # Its reaper is an image from a registry; `with` removes the container as well.
    testcontainers_config.ryuk_disabled = True
    container = DockerContainer(
        f"{bed.settings.images}/batch",
        command="tail -f /dev/null",
        network_mode=f"{bed.project}_default",
        labels={"org.af-testbed": "1"},
    )
    with container:
        yield Stranger(container)


def test_the_minters_make_nothing(stranger: Stranger) -> None:
    """A request that is not signed with the shared secret gets no token."""
    for url in ("https://condor-ap:9700/token", "https://slurmctld:9700/token"):
        assert stranger.ask(url, {"person": "alice", "lifetime_s": 60}) == 403


def test_the_login_node_starts_nothing(stranger: Stranger) -> None:
    """The login node's agent obeys the hub alone."""
    body = {
        "person": "alice", "server": "alice/", "cell": "htc-1", "code": "x",
        "argv": ["/opt/envs/notebook/bin/python", "-c", "0"], "environment": {},
    }  # fmt: skip
    assert stranger.ask("https://login-node:9710/sessions", body) == 403


def test_the_proxies_take_no_route(site: Site, stranger: Stranger) -> None:
    """Routes are the hubs' to make: who has no certificate of the cell is not even heard."""
    for hub in site.hubs:
        for instance in hub.instances:
            url = f"https://chp-{instance}:8001/api/routes/{hub.name}/user/alice"
            assert stranger.ask(url, {"target": "http://stranger:1"}) == 0


# Every spelling that some server on the way might take for the header of a person.
SPELLINGS = ("X-Remote-User", "x_remote_user", "X-Remote_User", "REMOTE_USER", "X-Forwarded-User")


@pytest.mark.needs("front_door")
def test_hubs_believe_no_header_alone(site: Site, stranger: Stranger) -> None:
    """At a hub's own port a person's name is worth nothing without the front door's secret."""
    for hub in site.hubs:
        for instance in hub.instances:
            for secret in ("", "x" * 64):
                headers = [part for name in SPELLINGS for part in ("-H", f"{name}: alice")]
                code, output = stranger.run(
                    "curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", *headers,
                    *(["-H", f"X-Proxy-Secret: {secret}"] if secret else []),
                    f"https://hub-{instance}:8081/{hub.name}/hub/api/user",
                )  # fmt: skip
                assert code == 0
                assert output in ("401", "403"), f"{instance}: HTTP {output}"


def test_slurm_obeys_no_name_alone(stranger: Stranger) -> None:
    """Without a token, and with a token that is none, slurmrestd gives and takes nothing."""
    url = "http://slurmrestd:6820/slurm/v0.0.42/jobs/"
    for headers in ([], ["-H", "X-SLURM-USER-NAME: slurm", "-H", "X-SLURM-USER-TOKEN: none"]):
        code, output = stranger.run("curl", "-s", "-w", "\n%{http_code}", *headers, url)
        assert code == 0
        assert output.rsplit("\n", 1)[1] in ("401", "511"), output[-300:]


@pytest.mark.parametrize("schedd", ["condor-ap", "condor-ap-hub"])
def test_htcondor_shows_no_queue(stranger: Stranger, schedd: str) -> None:
    """Without a token neither access point shows a job."""
    code, output = stranger.run(
        "env",
        "_CONDOR_CONDOR_HOST=condor-cm",
        "_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS=IDTOKENS",
        *("condor_q", "-allusers", "-pool", "condor-cm", "-name", f"sched@{schedd}"),
    )
    assert code != 0, output


def test_the_directory_shows_no_password(bed: Bed, stranger: Stranger) -> None:
    """People and groups are public inside, password hashes are not."""
    login = bed.exec(
        "ldap", ["ldapsearch", "-xLLL", "-H", "ldap://ldap", "-b", "dc=af,dc=test", "uid=alice"]
    )
    assert "uidNumber" in login.stdout
    assert "userPassword" not in login.stdout
    code, output = stranger.run(
        "curl", "-s", "ldap://ldap/dc=af,dc=test?userPassword?sub?uid=alice"
    )
    assert "userPassword" not in output, (code, output)


@pytest.mark.needs("htcondor")
def test_a_stolen_server_token_is_none_elsewhere(
    stranger: Stranger, alice: Visitor, site: Site, spawn: Callable[..., Spawn]
) -> None:
    """What a session says and gets counts from the machine that the scheduler names alone."""
    client = alice.on("htcondor")
    spawn(client, "htcondor")
    with Kernel.start(client) as kernel:
        read = (
            'import os; print(open(os.environ["AF_SECRETS"] + "/jupyterhub_token").read(), end="")'
        )
        token = kernel.run(read).stdout.strip()
        base = f"https://hub-{client.instance}:8081/{site.hub_for('htcondor').name}"
        for name, body in (
            ("hello", {"port": 8888}),
            ("secrets", {}),
            ("limits", {}),
            ("more-time", {"minutes": 5}),
            ("own-environments", {"environments": []}),
        ):
            assert stranger.ask(f"{base}/hub/api/af/{name}", body, token=token) == 403, name
        assert client.servers()[""]["ready"]
        assert kernel.run("1 + 1").value == "2"
