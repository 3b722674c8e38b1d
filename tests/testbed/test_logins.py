"""People log in once each, at the hub that is asked, by the way that the site names."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from testbed import entry, loopback
from testbed.errors import LoginRefused, UsageError
from testbed.hub_client import HubClient
from testbed.logins import Logins
from testbed.secret import Secret
from testbed.site import Site, parse_site

PLAIN = """
name = "lab"
front_door = "http://127.0.0.1:{port}"
[[hubs]]
name = "hub"
[backends.htcondor]
[[users]]
name = "alice"
password_env = "ALICE"
[[users]]
name = "bob"
token_env = "BOB"
[[users]]
name = "watcher"
role = "observer"
token_env = "WATCHER"
"""
ENVIRON = {"ALICE": "swordfish", "BOB": "token-of-bob", "WATCHER": "stem"}


class PlainHub(http.server.BaseHTTPRequestHandler):
    """JupyterHub's log-in form and its token page, and nothing else."""

    seen: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.seen.append(f"GET {self.path}")
        self._answer(200, "<html></html>", {"Set-Cookie": "_xsrf=before; Path=/hub/"})

    def do_POST(self) -> None:
        self.seen.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.path.startswith("/hub/login"):
            form = parse_qs(body)
            if form["_xsrf"] != ["before"] or form["password"] != ["swordfish"]:
                wrong = '<p class="login_error">Invalid username or password</p>'
                return self._answer(403, wrong)
            to = parse_qs(urlsplit(self.path).query)["next"][0]
            return self._answer(303, "", {"Location": to, "Set-Cookie": "_xsrf=after; Path=/hub/"})
        return self._answer(
            200, json.dumps({"token": "made"}), {"Content-Type": "application/json"}
        )

    def _answer(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(text))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def plain_site() -> Iterator[Site]:
    """A facility with one plain JupyterHub."""
    PlainHub.seen.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), PlainHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield parse_site(PLAIN.format(port=server.server_port), Path("site.toml"))
    server.shutdown()
    server.server_close()


def test_a_plain_hubs_form_is_filled_in(plain_site: Site) -> None:
    """Without `[login]` a password goes into JupyterHub's own form, once."""
    with Logins(plain_site, ENVIRON) as logins:
        client = logins.client("alice", "htcondor")
        assert logins.client("alice") is client
        assert logins.visitor("alice").on("htcondor") is client
        assert (client.token, client.instance) == ("made", "")
        assert logins.known == [client]
    assert PlainHub.seen == [
        "GET /hub/login",
        "POST /hub/login?next=%2Fhub%2Ftoken",
        "GET /hub/token",
        "POST /hub/api/users/alice/tokens",
    ]


def test_a_wrong_password_is_told_in_the_hubs_words(plain_site: Site) -> None:
    with (
        Logins(plain_site, {"ALICE": "wrong"}) as logins,
        pytest.raises(LoginRefused, match="Invalid username or password"),
    ):
        logins.client("alice")


def test_a_token_needs_no_login(plain_site: Site) -> None:
    with Logins(plain_site, ENVIRON) as logins:
        assert logins.client("bob").token == "token-of-bob"
        assert [observer.token for observer in logins.observers()] == ["stem"]
        assert logins.observer().token == "stem"
    assert PlainHub.seen == []


def test_an_observer_is_at_every_instance() -> None:
    """Of a balanced hub each instance has its own token, with its name behind the same stem."""
    text = PLAIN.format(port=1).replace(
        'name = "hub"', 'name = "htc"\ninstances = ["htc-1", "htc-2"]'
    )
    with Logins(parse_site(text, Path("site.toml")), ENVIRON) as logins:
        assert [observer.instance for observer in logins.observers()] == ["htc-1", "htc-2"]
        assert logins.observer("htc-2").token == "stem.htc-2"
        with pytest.raises(UsageError, match="htc-3"):
            logins.observer("htc-3")


def test_a_site_without_an_observer_says_so() -> None:
    text = PLAIN.format(port=1).replace('role = "observer"\n', "")
    with (
        Logins(parse_site(text, Path("site.toml")), ENVIRON) as logins,
        pytest.raises(UsageError, match="no observer"),
    ):
        logins.observers()


def test_each_hub_behind_one_name_has_its_own_xsrf_cookie() -> None:
    with loopback.session() as browser:
        for path, value in (("/htc/hub/", "one"), ("/hpc/hub/", "two"), ("/", "none's")):
            browser.cookies.set("_xsrf", value, domain="hubs.af.localhost", path=path)
        assert entry.xsrf(browser, "https://hubs.af.localhost/htc") == "one"
        assert entry.xsrf(browser, "https://hubs.af.localhost/hpc") == "two"
        assert entry.xsrf(browser, "https://hubs.af.localhost/oauth") == "none's"
        browser.cookies.clear()
        with pytest.raises(UsageError, match="no XSRF cookie"):
            entry.xsrf(browser, "https://hubs.af.localhost/htc")


def test_a_token_names_its_instance() -> None:
    client = HubClient("http://127.0.0.1:1/htc/", "alice", Secret("0" * 32 + ".htc-2"))
    assert (client.instance, client.url) == ("htc-2", "http://127.0.0.1:1/htc")
    assert client.log_command == "testbed logs hub-htc-2"
    again = client.again(Secret("0" * 32))
    assert (again.user, again.instance, again.log_command) == ("alice", "", "testbed status")
