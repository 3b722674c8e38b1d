"""The front's pages. Apache has judged the session already; this service only reads who."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from jinja2 import Environment
from tornado.httpclient import AsyncHTTPClient
from tornado.web import HTTPError, RequestHandler

from afportal.front.cells import ASK_TIMEOUT_S, Cells, running
from afportal.front.choice import choose, hub_for_share
from afportal.front.identity import person_of
from afportal.front.next_page import next_page
from afportal.front.page import Page
from afportal.front.state import State
from afportal.front.watched import Watched
from afportal.hubs import Hub, Hubs

# Cookies of a hub, each with its path below the hub's own.
_HUB_COOKIES = (
    ("jupyterhub-session-id", ""),
    ("jupyterhub-hub-login", "hub/"),
    ("_xsrf", "hub/"),
)
# What can stand in a share link; whether it is one the hubs know.
_SHARE = re.compile(r"[A-Za-z0-9_-]{32}")


@dataclass(frozen=True)
class Front:
    """Everything the pages are made from.

    Args:
        hubs_url: where browsers find these pages, without a slash at the end.
        help_url: where helpers find the server that they were let into.
        login_url: where browsers find Keycloak.
        login_health_url: asked to tell whether Keycloak is up.
    """

    page: Watched[Page]
    hubs: Watched[Hubs]
    state: State
    cells: Cells
    templates: Environment
    proxy_secret: str
    hubs_url: str
    help_url: str
    login_url: str
    login_health_url: str


class FrontHandler(RequestHandler):
    """What all pages share: who asks, templates, and headers that leave no room."""

    front: Front

    def initialize(self, front: Front) -> None:
        self.front = front

    def set_default_headers(self) -> None:
        # The login's name stands in form-action because a form may lead to a fresh login.
        front: Front = self.application.settings["front"]
        self.set_header(
            "Content-Security-Policy",
            "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
            f"form-action 'self' {front.login_url}; frame-ancestors 'none'",
        )
        self.set_header("Cache-Control", "no-store")
        self.clear_header("Server")

    def check_xsrf_cookie(self) -> None:
        """See `from_own_page`: browsers name the page that a form stood on."""

    @property
    def person(self) -> str:
        """The person who is logged in, empty for nobody."""
        return person_of(self.request.headers, self.front.proxy_secret)

    def need_person(self) -> str:
        """Return the person. Raises 401 for nobody."""
        if not self.person:
            raise HTTPError(401, reason="Nobody is logged in here")
        return self.person

    def need_hub(self, name: str) -> Hub:
        """Return the hub of that name. Raises 404 when there is none."""
        try:
            return self.front.hubs.get().hub(name)
        except KeyError:
            known = ", ".join(self.front.hubs.get().names)
            raise HTTPError(404, reason=f"No hub has this name; there are {known}") from None

    def from_own_page(self) -> bool:
        """Whether this request was sent by a page of ours, by a click, or by no browser."""
        site = self.request.headers.get("Sec-Fetch-Site", "same-origin")
        origin = self.request.headers.get("Origin", self.front.hubs_url)
        return site in ("same-origin", "none") and origin == self.front.hubs_url

    def show(self, template: str, status: int = 200, **values: Any) -> None:
        """Answer with a page."""
        self.set_status(status)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        common = {
            "page": self.front.page.get(),
            "announcement": self.front.state.announcement(),
            "person": self.person,
        }
        self.finish(self.front.templates.get_template(template).render(**common, **values))

    def route(self, hub: Hub, instance: str) -> None:
        """Have this browser come to that instance until it logs out."""
        self.set_cookie(
            f"route_{hub.name}",
            instance,
            path=f"/{hub.name}/",
            secure=True,
            httponly=True,
            samesite="Lax",
        )

    def write_error(self, status_code: int, **kwargs: Any) -> None:  # noqa: ARG002 - tornado's
        try:
            standard = HTTPStatus(status_code).phrase
        except ValueError:
            standard = "Error"
        self.show("problem.html", status_code, title=standard, words=self._reason)


class LandingHandler(FrontHandler):
    """The first page: the hubs, the notice, what is new, whom to ask."""

    async def get(self) -> None:
        hubs = self.front.hubs.get()
        drained = self.front.state.drained()
        found = await self.front.cells.look_at_all(hubs, self.person, drained)
        self.show("landing.html", hubs=hubs.hubs, found=found, running=running)


class HealthHandler(FrontHandler):
    """The landing page can be made from what is there now."""

    def get(self) -> None:
        self.show("landing.html", hubs=self.front.hubs.get().hubs, found={}, running=running)


class AnnouncementHandler(FrontHandler):
    """The announcement alone, for the login page."""

    def get(self) -> None:
        self.finish({"announcement": self.front.state.announcement()})


class GoHandler(FrontHandler):
    """Choose an instance of a hub for the person, set the route, go on."""

    async def get(self, name: str) -> None:
        hub, person = self.need_hub(name), self.need_person()
        target = next_page(hub.name, self.get_query_argument("next", ""))
        if hub.login == "keycloak":
            self.redirect(target)
            return
        found = await self.front.cells.look(hub, person, self.front.state.drained())
        wished = self.get_query_argument("instance", "")
        instance = wished if wished in {i.name for i in found if i.alive} else ""
        instance = instance or choose(person, found) or ""
        if not instance:
            self.set_header("Refresh", "10")
            self.show("unavailable.html", 503, hub=hub, instance="", others=False)
            return
        self.route(hub, instance)
        self.redirect(target)


class ShareHandler(FrontHandler):
    """A share link, which belongs to no hub: on to one where this person can open it."""

    async def get(self) -> None:
        self.need_person()
        # As Apache says it: a hub logs the address of the page before where it fails.
        self.set_header("Referrer-Policy", "strict-origin")
        key = self.get_query_argument("key", "")
        if not _SHARE.fullmatch(key):
            raise HTTPError(
                400,
                reason="This is no whole share link: a part was lost, as when it is copied over "
                "two lines. Copy all of it, or ask who sent it to send it again.",
            )
        hubs = self.front.hubs.get()
        found = await self.front.cells.look_at_all(hubs, self.person, self.front.state.drained())
        if self.get_query_argument("choose", ""):
            self.show("share.html", hubs=hubs.hubs, found=found, running=running, key=key)
            return
        made_on = self.get_query_argument("on", "")
        hub = hub_for_share(hubs, found, made_on)
        self.redirect(f"/{hub.name}/hub/af/share?key={key}")


class ElsewhereHandler(FrontHandler):
    """Leave an instance for another one; by a form, so that nobody is moved by a link."""

    async def post(self, name: str) -> None:
        hub, person = self.need_hub(name), self.need_person()
        if not self.from_own_page():
            raise HTTPError(403, reason="This form was sent by a page of another site")
        left = self.get_body_argument("instance", "")
        found = await self.front.cells.look(hub, person, self.front.state.drained())
        others = [i for i in found if i.alive and i.name != left]
        instance = choose(person, others)
        if instance is None:
            self.show("unavailable.html", 503, hub=hub, instance=left, others=False)
            return
        self.route(hub, instance)
        self.redirect(f"/{hub.name}/hub/", status=303)


class UnavailableHandler(FrontHandler):
    """What Apache shows when a back end does not answer: which one, and what can be done."""

    async def get(self, name: str) -> None:
        hubs = self.front.hubs.get()
        instance = self.get_query_argument("instance", "")
        if name in hubs.names:
            hub = hubs.hub(name)
            found = await self.front.cells.look(hub, "", self.front.state.drained())
            if any(i.name == instance and not i.alive for i in found):
                others = any(i.alive for i in found if i.name != instance)
                self.show("unavailable.html", 503, hub=hub, instance=instance, others=others)
                return
        if not await self._login_answers():
            self.show("login-down.html", 503)
            return
        self.set_header("Retry-After", "5")
        words = "Something between you and the hub did not answer in time. Reload this page."
        self.show("problem.html", 503, title="Try once more", words=words)

    async def _login_answers(self) -> bool:
        url = self.front.login_health_url
        try:
            answer = await AsyncHTTPClient().fetch(
                url, connect_timeout=ASK_TIMEOUT_S, request_timeout=ASK_TIMEOUT_S, raise_error=False
            )
        except OSError:
            return False
        return answer.code == 200

    # ErrorDocument keeps the method of what failed.
    post = put = patch = delete = get


class NoRouteHandler(FrontHandler):
    """A script's request without a route: what to do, as JSON."""

    def get(self, name: str) -> None:
        self.set_status(409)
        self.finish(
            {
                "message": f"this browser has no route to an instance of {name}; "
                f"open {self.front.hubs_url}/{name}/ first"
            }
        )

    post = put = patch = delete = options = get


class LogoutHandler(FrontHandler):
    """One Log Out: every hub's sessions, the route, then the proxy's and Keycloak's."""

    async def get(self) -> None:
        person = self.need_person()
        # "same-site": a page of the helpers' name, which is somebody else's.
        if self.request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
            self.show("logout.html")
            return
        hubs = self.front.hubs.get()
        await self.front.cells.end_sessions(hubs, person)
        for hub in hubs.hubs:
            self._forget(f"route_{hub.name}", f"/{hub.name}/")
            for cookie, below in _HUB_COOKIES:
                self._forget(cookie, f"/{hub.name}/{below}")
            self._forget(f"jupyterhub-user-{person}", f"/{hub.name}/user/{person}/")
        goal = quote(f"{self.front.hubs_url}/-/logged-out", safe="")
        self.redirect(f"/-/oidc?logout={goal}")

    def _forget(self, cookie: str, path: str) -> None:
        """Expire a cookie; tornado's own way keeps one path only for each name."""
        value = f"{cookie}=; Path={path}; Max-Age=0; Secure; HttpOnly; SameSite=Lax"
        self.add_header("Set-Cookie", value)


class LoggedOutHandler(FrontHandler):
    """The end of the session, and of every cookie that is left of it."""

    def get(self) -> None:
        self.set_header("Clear-Site-Data", '"cookies"')
        self.show("logged-out.html")


class AccountHandler(FrontHandler):
    """To the person's own page at Keycloak."""

    def get(self) -> None:
        self.redirect(f"{self.front.login_url}/realms/af/account/")


class NotFoundHandler(FrontHandler):
    """Everything else."""

    def prepare(self) -> None:
        raise HTTPError(404, reason="There is no such page here")
