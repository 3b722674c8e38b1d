"""What a link to live help opens, and the way from there into the server.

    GET  /accept-share?code=…     whose server it is, and what coming in means
    POST /accept-share            {"code"}: uses the code up, and goes in
    GET  /af/help/OWNER[/SERVER]  asks who was let in before whether they want to go in again
    POST /af/help/OWNER[/SERVER]  goes in

The first is JupyterHub's own address; its page would let somebody in for ever. To go in is to be
given a pass through the door in place of the last one: no link does it, and no page of a server.
"""

from __future__ import annotations

import re
import time
from typing import Any
from urllib.parse import unquote, urlsplit

from jupyterhub import apihandlers, handlers, orm, scopes
from jupyterhub.apihandlers.auth import OAuthAuthorizeHandler
from jupyterhub.handlers.pages import AcceptShareHandler
from jupyterhub.utils import url_escape_path, url_path_join
from tornado import web
from tornado.httputil import url_concat

from afportal.live_help import grants
from afportal.live_help.api import settings
from afportal.live_help.door_pass import Pass
from afportal.portal import Portal
from afportal.share.asked import asked, shares
from afportal.share.link import TooManyGuesses
from afportal.share.page import Page, Problem

CODE = re.compile(r"[A-Za-z0-9_-]{43}")


def _name_of(hub: Any) -> str:
    """Return the name by which the front door knows this hub: "htc" of /htc/hub/."""
    return str(hub.base_url).removesuffix("hub/").strip("/")


class _HelpPage(Page):
    def _here(self, server: orm.Spawner) -> str:
        path = [self.hub.base_url, "af/help", url_escape_path(server.user.name)]
        return str(url_path_join(*path, *([url_escape_path(server.name)] if server.name else [])))

    async def show_problem(self, problem: Problem) -> None:
        """Answer with what is wrong, and with the servers that are open to this person."""
        self.set_status(problem.status)
        if problem.wait_s:
            self.set_header("Retry-After", str(problem.wait_s))
        open_now = [
            (share.owner.name, share.spawner.name, self._here(share.spawner))
            for share in grants.open_for(self.current_user.orm_user)
        ]
        await self.show("af_help_problem.html", problem=problem, open_now=open_now)

    def _way_in(self, share: orm.Share) -> str:
        """Return where this browser gets a pass through the door. Raises `Problem`."""
        server, helper = share.spawner, self.current_user.orm_user
        self._check_runs(server)
        try:
            value = Pass(
                until_s=int(grants.unix(share.expires_at)) + 1,
                hub=_name_of(self.hub),
                instance=Portal.instance().settings.cell,
                owner=server.user.name,
                person=helper.name,
            ).written(settings().secret_file.read_text().strip())
        except ValueError as error:
            raise Problem(409, "There is no way in for you", str(error)) from error
        self.log.info("live help: %s goes into %s/%s", helper.name, server.user.name, server.name)
        # JupyterHub leaves what is called `key` out of its log.
        goal = f"/-/help/in/{_name_of(self.hub)}"
        return str(url_concat(goal, {"key": value, "server": server.name}))

    def _check_runs(self, server: orm.Spawner) -> None:
        """Raise `Problem` where nobody could come in because there is nothing."""
        user = self._user_from_orm(server.user)
        spawner = user.spawners.get(server.name)
        if spawner is None or not spawner.ready:
            raise Problem(
                409,
                f"{server.user.name}'s server does not run",
                f"It has ended, or is not ready yet. Ask {server.user.name} to start it, and for "
                "a new link: one made for a server ends with it.",
            )


class AcceptHandler(_HelpPage):
    """What a link opens."""

    async def _code(self) -> orm.ShareCode:
        """Return what the link is. Raises `Problem`."""
        code, user = self.get_argument("code", ""), self.current_user
        if not CODE.fullmatch(code):
            raise Problem(
                400,
                "This is no whole link",
                "A part of it was lost, as when it is copied over two lines. Copy all of it, or "
                "ask who sent it to send it again.",
            )
        try:
            await asked(shares().check_guesses, user.name)
        except TooManyGuesses as error:
            self.log.warning("%s tried too many links to live help", user.name)
            raise Problem(
                error.status, "Too many links tried", str(error), wait_s=error.wait_s
            ) from error
        found: orm.ShareCode | None = orm.ShareCode.find(self.db, code)
        if found is None:
            await asked(shares().note_guess, user.name)
            raise Problem(
                404,
                "This link is not good any more",
                "A link to live help is for one person, and for a short time: it was used, has "
                "expired, or was ended by its owner. Ask for a new one.",
            )
        if found.owner is user.orm_user:
            raise Problem(
                403,
                "This is a link into your own server",
                "It is for somebody else: send it to who shall help you. You need none.",
            )
        self._check_runs(found.spawner)
        return found

    @web.authenticated
    async def get(self) -> None:
        """Say whose server it is, and what it means to come in."""
        try:
            code = await self._code()
        except Problem as problem:
            await self.show_problem(problem)
            return
        await self.show(
            "af_help.html",
            code=self.get_argument("code"),
            owner=code.owner.name,
            server=code.spawner.name,
            ends_s=grants.unix(code.expires_at),
            now_s=time.time(),
            cell=Portal.instance().settings.cell,
        )

    @web.authenticated
    async def post(self) -> None:
        """Use the code up, and go on."""
        try:
            code = await self._code()
            server = code.spawner
            try:
                share = grants.let_in(self.db, code, self.current_user.orm_user)
            except ValueError as error:
                raise Problem(
                    410, "This link has expired", f"Ask {server.user.name} for a new one."
                ) from error
            self.log.info(
                "live help: %s is let into %s/%s until %s UTC",
                self.current_user.name, server.user.name, server.name, share.expires_at,
            )  # fmt: skip
            goal = self._way_in(share)
        except Problem as problem:
            await self.show_problem(problem)
            return
        self.redirect(goal, status=303)


class EnterHandler(_HelpPage):
    """The way in for who was let in before.

    A navigation says nothing of who wants it, and its way can lead over pages of ours; a form with
    this page's own `_xsrf` does.
    """

    @web.authenticated
    async def get(self, owner: str, server: str = "") -> None:
        """Ask."""
        try:
            found = self._share(owner, server).spawner
            self._check_runs(found)
        except Problem as problem:
            await self.show_problem(problem)
            return
        here = self._here(found)
        await self.show("af_help_enter.html", owner=owner, server=server, here=here)

    @web.authenticated
    async def post(self, owner: str, server: str = "") -> None:
        """Go to the server with a pass through the door."""
        try:
            goal = self._way_in(self._share(owner, server))
        except Problem as problem:
            await self.show_problem(problem)
            return
        self.redirect(goal, status=303)

    def _share(self, owner: str, server: str) -> orm.Share:
        for share in grants.open_for(self.current_user.orm_user):
            if (share.owner.name, share.spawner.name) == (owner, server):
                return share
        raise Problem(
            403,
            f"{owner}'s server is not open to you",
            "Nobody let you in there, or the help is over: its time has ended, its owner ended it, "
            "or the server has ended. Open the link again that let you in, or ask for a new one.",
        )


class AuthorizeHandler(OAuthAuthorizeHandler):
    """JupyterHub's own; who was let in is asked nothing more, and is led to the helpers' name."""

    def _is_helper(self, client: orm.OAuthClient | None) -> bool:
        server = client.spawner if client is not None else None
        helper = self.current_user.orm_user
        return server is not None and grants.open_to(server, helper) is not None

    def needs_oauth_confirm(self, user: Any, oauth_client: Any, requested_scopes: Any) -> bool:
        """Ask nobody twice: they said that they want to come. To more than that they did not."""
        said = scopes.access_scopes(oauth_client) | scopes.identify_scopes()
        said |= scopes.identify_scopes(user.orm_user)
        if self._is_helper(oauth_client) and said.issuperset(requested_scopes):
            return False
        return bool(super().needs_oauth_confirm(user, oauth_client, requested_scopes))

    def send_oauth_response(self, headers: Any, body: Any, status: int) -> None:
        """Send a helper's login to where they see the server; JupyterHub knows one name alone."""
        client = self.oauth_provider.fetch_by_client_id(self.get_argument("client_id", ""))
        if self._is_helper(client) and "Location" in headers:
            goal = urlsplit(headers["Location"])
            lead = url_concat(f"/-/help/on/{_name_of(self.hub)}", {"path": unquote(goal.path)})
            headers = {**headers, "Location": f"{lead}&{goal.query}"}
        super().send_oauth_response(headers, body, status)


def put_in() -> None:
    """Have this process's hub open links by these pages in place of JupyterHub's."""
    for found, theirs, ours in (
        (handlers.default_handlers, AcceptShareHandler, AcceptHandler),
        (apihandlers.default_handlers, OAuthAuthorizeHandler, AuthorizeHandler),
    ):
        found[:] = [
            (route, ours if handler is theirs else handler, *more)
            for route, handler, *more in found
        ]


HANDLERS: list[tuple[Any, ...]] = [
    (r"/af/help/(?P<owner>[^/]+)", EnterHandler),
    (r"/af/help/(?P<owner>[^/]+)/(?P<server>[^/]+)", EnterHandler),
]
