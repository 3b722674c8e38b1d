"""Somebody in a browser session at a hub of the front door, without a browser."""

import http.client
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.cookiejar import Cookie
from typing import Any
from urllib.parse import urlsplit

import requests

from testbed import entry, loopback
from testbed.hub_client import REQUEST_TIMEOUT_S, HubClient
from testbed.site import Hub, Person, Site


@dataclass(frozen=True)
class Guest:
    """A person's cookies, and what the front door makes of them."""

    site: Site
    hub: Hub
    person: Person
    browser: requests.Session

    @property
    def url(self) -> str:
        """The hub's, without a slash at the end."""
        return self.site.entry_url(self.hub)

    @property
    def instance(self) -> str:
        """Where the sticky route leads; empty while there is none."""
        return self.cookies().get(f"route_{self.hub.name}", "")

    def cookies(self) -> dict[str, str]:
        """Every cookie of this session, by name."""
        held: Iterable[Cookie] = iter(self.browser.cookies)
        return {cookie.name: cookie.value or "" for cookie in held}

    def get(self, path: str, *, follow: bool = False, **more: Any) -> requests.Response:
        """Ask for a page of the hub; redirects are shown, unless they shall be followed."""
        return self.browser.get(
            self.url + path, allow_redirects=follow, timeout=REQUEST_TIMEOUT_S, **more
        )

    def who(self, **more: Any) -> str | None:
        """Whom the hub takes this session for; None when for nobody.

        Args:
            more: As `requests` takes it: forged headers, other cookies.
        """
        headers = {"X-XSRFToken": entry.xsrf(self.browser, self.url), **more.pop("headers", {})}
        answer = self.get("/hub/api/user", headers=headers, **more)
        return str(answer.json()["name"]) if answer.status_code == 200 else None

    def client(self) -> HubClient:
        """A client with a token that is made now."""
        return entry.client(self.site, self.hub, self.person, self.browser)

    def copy(self) -> "Guest":
        """The same cookies in a session of their own, as somebody who had copied them."""
        session = loopback.session(self.site.verify)
        session.cookies.update(self.browser.cookies)
        return Guest(self.site, self.hub, self.person, session)


@dataclass(frozen=True)
class Answer:
    """What came back for a request that was written by hand."""

    status: int
    headers: Mapping[str, str]
    text: str


def say(
    site: Site,
    url: str,
    target: str,
    headers: Sequence[tuple[str, str]] = (),
    *,
    method: str = "GET",
) -> Answer:
    """Send a request exactly as it is written, with what no library would let through.

    Args:
        url: Whose connection is opened, and what stands in `Host`.
        target: The request's target as it goes over the wire.
        headers: In this order, as often and in the spelling as they stand here.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}:{port}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers]
    with loopback.connect_tls(host, port, verify=site.verify) as tls:
        tls.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        answer = http.client.HTTPResponse(tls, method=method)
        answer.begin()
        try:
            text = answer.read().decode(errors="replace")
        except (http.client.IncompleteRead, ssl.SSLError, OSError):
            text = ""
        return Answer(answer.status, dict(answer.getheaders()), text)
