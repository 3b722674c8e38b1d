"""The front's part of live help: from a link to the right hub, and from there to the server.

    GET  /-/help?on=INSTANCE&owner=NAME&server=&code=…  what the link does to this browser
    POST /-/help                                        to that instance, whose page asks anew
    GET  /-/help/in/HUB?key=PASS&server=…               on to the next, with the old route
    GET  /-/in?key=PASS&server=…                        (helpers' name) takes the pass, goes in
    GET  /-/help/on/HUB?path=…                          a login that ends at the helpers' name

The owner's instance is asked twice, for agreement and for the login to the server; from both the
browser comes back to the instance of its own servers. The door leads such a login to it
(`compose/proxy/config/door-help.conf`), also a later one.

A helper's browser has two names: at `hubs` its own hubs, at `help` nothing but the server that it
was let into. Pages of a server are its owner's, and what they do they do as who looks at them:
at another name that is nothing.
"""

from __future__ import annotations

import re
import time
from urllib.parse import quote, urlencode

from tornado.web import HTTPError

from afportal.front.choice import choose
from afportal.front.handlers import FrontHandler
from afportal.hubs import Hub
from afportal.live_help import door_pass
from afportal.people import NAME

# What can stand in a link; whether it is good is the hub's to say.
_CODE = re.compile(r"[A-Za-z0-9_-]{43}")
_CALLBACK = re.compile(r"/(?P<hub>[^/]+)/user/[^/]+/(?:[^/]+/)?oauth_callback")
_LOGIN = ("code", "state", "error", "error_description")


class HelpHandler(FrontHandler):
    """A link by which somebody is asked for help."""

    def _instance(self, name: str) -> tuple[Hub, str]:
        """Return hub and instance of that name. Raises HTTP 404."""
        for hub, instance in self.front.hubs.get().instances():
            if instance == name and hub.login == "header":
                return hub, instance
        raise HTTPError(
            404, reason="The hub of this link is not there any more. Ask who sent it for a new one."
        )

    def _code(self, code: str) -> str:
        if not _CODE.fullmatch(code):
            raise HTTPError(
                400,
                reason="This is no whole link: a part was lost, as when it is copied over two "
                "lines. Copy all of it, or ask who sent it to send it again.",
            )
        return code

    async def get(self) -> None:
        """Say where it leads."""
        self.need_person()
        # As Apache says it: a hub logs the address of the page before where it fails.
        self.set_header("Referrer-Policy", "strict-origin")
        code = self._code(self.get_query_argument("code", ""))
        hub, instance = self._instance(self.get_query_argument("on", ""))
        # Whoever made the link wrote it: a name, and no words of theirs.
        owner = self.get_query_argument("owner", "")
        owner = owner if NAME.fullmatch(owner) else ""
        self.show("help.html", hub=hub, instance=instance, owner=owner, code=code)

    async def post(self) -> None:
        """Go there: by a form, so that nobody is moved by a link."""
        self.need_person()
        if not self.from_own_page():
            raise HTTPError(403, reason="This form was sent by a page of another site")
        code = self._code(self.get_body_argument("code", ""))
        hub, instance = self._instance(self.get_body_argument("on", ""))
        found = await self.front.cells.look(hub, "", self.front.state.drained())
        if not any(i.name == instance and i.alive for i in found):
            self.show("unavailable.html", 503, hub=hub, instance=instance, others=False)
            return
        self.route(hub, instance)
        self.redirect(f"/{hub.name}/hub/accept-share?code={code}", status=303)


class _LeaveHandler(FrontHandler):
    """From the owner's instance to the helpers' name."""

    async def route_back(self, hub: Hub) -> None:
        """Have this browser come to the instance of its own servers again."""
        person = self.need_person()
        found = await self.front.cells.look(hub, person, self.front.state.drained())
        own = choose(person, found)
        if own is not None:
            self.route(hub, own)


class HelpInHandler(_LeaveHandler):
    """Who was given a pass takes it to where it is looked at."""

    async def get(self, name: str) -> None:
        """Go on there."""
        hub = self.need_hub(name)
        await self.route_back(hub)
        asked = {part: self.get_query_argument(part, "") for part in ("key", "server")}
        self.set_header("Referrer-Policy", "no-referrer")
        self.redirect(f"{self.front.help_url}/-/in?{urlencode(asked)}")


class HelpLoginHandler(_LeaveHandler):
    """A helper's login to the server ends at the name where they see it.

    JupyterHub sends every browser back to the name of its hubs, where the door refuses a helper.
    """

    async def get(self, name: str) -> None:
        """Go on there."""
        hub = self.need_hub(name)
        self.need_person()
        path = self.get_query_argument("path", "")
        called = _CALLBACK.fullmatch(path)
        if called is None or called["hub"] != hub.name:
            raise HTTPError(404, reason="There is no such page here")
        await self.route_back(hub)
        login = {part: said for part in _LOGIN if (said := self.get_query_argument(part, ""))}
        self.set_header("Referrer-Policy", "no-referrer")
        self.redirect(f"{self.front.help_url}{quote(path)}?{urlencode(login)}")


class InHandler(FrontHandler):
    """The first page at the helpers' name: the browser keeps its pass, in place of the last."""

    def get(self) -> None:
        """Take it, and go to the server."""
        value = self.get_query_argument("key", "")
        found = door_pass.read(self.front.proxy_secret, value, time.time())
        server = self.get_query_argument("server", "")
        if found is None or "/" in server:
            raise HTTPError(
                403, reason="The help is over, or this is no way in. Ask for a new link."
            )
        path = f"/{found.hub}/user/{quote(found.owner, safe='')}/"
        self.set_cookie(
            door_pass.COOKIE,
            value,
            path="/",
            max_age=max(1, found.until_s - int(time.time())),
            secure=True,
            httponly=True,
            samesite="Lax",
        )
        # What the pages of the last server left here is not for the next one's to find. Cookies
        # stay: the pass is one.
        self.set_header("Clear-Site-Data", '"storage", "cache"')
        self.set_header("Referrer-Policy", "no-referrer")
        self.redirect(f"{path}{quote(server, safe='')}/" if server else path)
