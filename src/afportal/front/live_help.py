"""The front's part of live help: from a link to the right hub, and from there to the server.

    GET  /-/help?on=INSTANCE&owner=NAME&server=&code=…  what the link does to this browser
    POST /-/help                                        to that instance, whose page asks anew
    GET  /-/help/on/HUB?path=…                          a login that ends at the helpers' name
    GET  /-/in?key=PASS&server=…                        (helpers' name) takes the pass, goes in

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
        self.set_header("Referrer-Policy", "same-origin")
        code = self._code(self.get_query_argument("code", ""))
        hub, instance = self._instance(self.get_query_argument("on", ""))
        self.show(
            "help.html",
            hub=hub,
            instance=instance,
            owner=self.get_query_argument("owner", ""),
            code=code,
        )

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


class HelpLoginHandler(FrontHandler):
    """A helper's login to the server ends at the name where they see it.

    JupyterHub sends every browser back to the name of its hubs, where the door refuses a helper.
    They are at the owner's instance until here, and come back to their own.
    """

    async def get(self, name: str) -> None:
        """Go on there."""
        hub, person = self.need_hub(name), self.need_person()
        path = self.get_query_argument("path", "")
        called = _CALLBACK.fullmatch(path)
        if called is None or called["hub"] != hub.name:
            raise HTTPError(404, reason="There is no such page here")
        found = await self.front.cells.look(hub, person, self.front.state.drained())
        own = choose(person, found)
        if own is not None:
            self.route(hub, own)
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
        self.set_header("Referrer-Policy", "no-referrer")
        self.redirect(f"{path}{quote(server, safe='')}/" if server else path)
