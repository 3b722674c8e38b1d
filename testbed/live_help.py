"""Live help as people use it: owners through a server, helpers through a browser session."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import websocket

from testbed import loopback
from testbed.errors import ScenarioFailed
from testbed.hub_client import REQUEST_TIMEOUT_S, HubClient
from testbed.markup import text_of

COOKIE = "__Host-af_help"
_FORM = re.compile(r'<form[^>]*method="post"[^>]*action="([^"]*)"(.*?)</form>', re.DOTALL)
_FIELD = re.compile(r'<input type="hidden" name="([^"]*)" value="([^"]*)"')


@dataclass(frozen=True)
class Helped:
    """Somebody who lets others in, through a server of theirs that runs."""

    client: HubClient
    server: str = ""

    def ask(self, method: str, path: str = "", **more: Any) -> requests.Response:
        """Ask the server's own route; the answer may be a refusal."""
        path = f"{self.client.server_path(self.server)}/api/af/live-help{path}"
        return self.client.request(method, path, **more)

    def _told(self, method: str, path: str = "", **more: Any) -> Any:
        answer = self.ask(method, path, **more)
        if not answer.ok:
            raise ScenarioFailed(
                f"{method} live-help{path} of {self.client.user} gave {answer.status_code}",
                seen=answer.text[:300],
            )
        return answer.json()

    def link(self, lifetime_min: int = 15) -> str:
        """Make a link for one person."""
        return str(self._told("POST", json={"lifetime_min": lifetime_min})["url"])

    def people(self) -> list[str]:
        """Who may come in now."""
        return [one["name"] for one in self._told("GET")["people"]]

    def end(self, what: str = "") -> None:
        """End what is named ("/people/bob"), or all."""
        self._told("DELETE", what)


@dataclass
class Helper:
    """Somebody who opens such links, in a browser session without a browser.

    Args:
        browser: In which they are logged in at the front door.
        server: Where they see the server that they were let into, without a slash at the end;
            empty until then.
    """

    name: str
    browser: requests.Session
    verify: str | bool
    server: str = field(default="")

    def open(self, url: str) -> requests.Response:
        """Go to an address as a browser does, wherever that leads."""
        return self.browser.get(url, timeout=REQUEST_TIMEOUT_S)

    def send(self, page: requests.Response) -> requests.Response:
        """Send the form that stands on a page."""
        found = _FORM.search(page.text)
        if found is None:
            raise ScenarioFailed(
                f"no form at {urlsplit(page.url).path}: HTTP {page.status_code}",
                seen=text_of(page.text)[:300],
            )
        fields = dict(_FIELD.findall(found[2]))
        return self.browser.post(urljoin(page.url, found[1]), fields, timeout=REQUEST_TIMEOUT_S)

    def look(self, link: str) -> requests.Response:
        """Go by the front's page to the hub's own page of a link."""
        return self.send(self.open(link))

    def come_in(self, link: str) -> None:
        """Open a link, and agree to everything.

        Raises:
            ScenarioFailed: That does not end in the server.
        """
        arrived = self.send(self.look(link))
        base, found, _ = arrived.url.partition("/lab")
        if not found or arrived.status_code != 200 or COOKIE not in self.cookies_for(arrived.url):
            raise ScenarioFailed(
                f"{self.name} is not in: HTTP {arrived.status_code} at "
                f"{arrived.url.partition('?')[0]}",
                seen=text_of(arrived.text)[:300],
            )
        self.server = base

    def get(self, path: str = "/api/status", **more: Any) -> requests.Response:
        """Ask the server; redirects are shown."""
        return self.browser.get(
            self.server + path, allow_redirects=False, timeout=REQUEST_TIMEOUT_S, **more
        )

    def ask(self, method: str, path: str, **more: Any) -> requests.Response:
        """Ask the server to do something, as its own pages do."""
        cookies = self._jar_for(f"{self.server}/")
        return self.browser.request(
            method,
            self.server + path,
            headers={"X-XSRFToken": cookies.get("_xsrf", ""), "Origin": self.origin},
            allow_redirects=False,
            timeout=REQUEST_TIMEOUT_S,
            **more,
        )

    @property
    def origin(self) -> str:
        """Of the server's pages."""
        parts = urlsplit(self.server)
        return f"{parts.scheme}://{parts.netloc}"

    def route(self, hub: str) -> str:
        """The instance of a hub that this browser is led to at the hubs' name, empty for none."""
        named = (c.value for c in iter(self.browser.cookies) if c.name == f"route_{hub}")
        return next(named, None) or ""

    def forget_login(self) -> None:
        """Lose the session that this browser has at the server; the pass stays."""
        path = urlsplit(self.server).path
        for cookie in list(iter(self.browser.cookies)):
            if (cookie.path or "").rstrip("/") == path and cookie.name != COOKIE:
                self.browser.cookies.clear(cookie.domain, cookie.path, cookie.name)

    def cookies_for(self, url: str) -> str:
        """What this browser would send there in `Cookie`."""
        asked = self.browser.prepare_request(requests.Request("GET", url))
        return str(asked.headers.get("Cookie", ""))

    def _jar_for(self, url: str) -> Mapping[str, str]:
        pairs = (pair.partition("=") for pair in self.cookies_for(url).split("; "))
        return {name: value for name, _, value in pairs}

    @property
    def the_pass(self) -> str:
        """The pass through the door."""
        return self._jar_for(f"{self.server}/")[COOKIE]

    def with_pass(self, value: str | None, path: str = "/api/status") -> int:
        """The status that the door, or who is behind it, gives for another pass, or none."""
        cookies = {**self._jar_for(f"{self.server}/"), COOKIE: value or ""}
        if value is None:
            del cookies[COOKIE]
        stranger = loopback.session(self.verify)
        return stranger.get(
            self.server + path,
            headers={"Cookie": "; ".join(f"{n}={v}" for n, v in cookies.items())},
            allow_redirects=False,
            timeout=REQUEST_TIMEOUT_S,
        ).status_code

    def web_socket(self, path: str) -> websocket.WebSocket:
        """Open a web socket of the server, as its own pages do."""
        url = self.server + path
        header = {"Cookie": self.cookies_for(url)}
        return loopback.web_socket(url, header=header, verify=self.verify, origin=self.origin)


def close_of(socket: websocket.WebSocket, timeout_s: float) -> int:
    """Read a web socket until it is closed, and return the code of that.

    Raises:
        ScenarioFailed: It stays open.
    """
    socket.settimeout(timeout_s)
    try:
        while True:
            opcode, data = socket.recv_data(control_frame=True)
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return int.from_bytes(data[:2], "big")
    except websocket.WebSocketTimeoutException as error:
        raise ScenarioFailed(f"a helper's web socket is open after {timeout_s:.0f} s") from error


def problem(page: requests.Response) -> str:
    """The words of a hub's page that says what is wrong with a link.

    Raises:
        ScenarioFailed: It is no such page.
    """
    if "data-af-help-problem=" not in page.text:
        raise ScenarioFailed(
            f"no page that says what is wrong: HTTP {page.status_code}",
            seen=text_of(page.text)[:300],
        )
    return text_of(page.text)
