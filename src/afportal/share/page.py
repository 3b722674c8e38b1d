"""What a link opens, and the list of one's links, in a browser.

    GET  /af/share?key=…[&outputs=clear]  what it is, and where it may be opened
    POST /af/share?key=…&where=running    {"server"}: on to that server, which fetches a copy
    POST /af/share?key=…&where=new        the spawn form's fields: the same with a new server
    GET  /af/shares                       one's own links, who opened them; POST {"id"} revokes
    GET  /af/shares/all                   everybody's, for operators

The link stands in `key`, which JupyterHub leaves out of its log.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jupyterhub.handlers.base import BaseHandler
from jupyterhub.utils import url_escape_path, url_path_join
from tornado import web
from tornado.httputil import url_concat

from afportal import form
from afportal.operators import for_operators
from afportal.portal import Portal
from afportal.share.asked import asked, shares
from afportal.share.environment import (
    Match,
    Place,
    environment_of,
    nearest,
    offered_to,
    places_of,
    ran_in,
)
from afportal.share.link import (
    KEY,
    LOOKED,
    OPENED,
    REFUSED,
    Share,
    ShareRefused,
    TooManyGuesses,
    Use,
)
from afportal.share.settings import MIB

if TYPE_CHECKING:
    from afportal.spawner import PortalSpawner


class Problem(Exception):
    """A link that cannot be opened: what is wrong, and what to do.

    Args:
        status: of HTTP.
        title: what is wrong, in a few words.
        words: the rest.
    """

    def __init__(self, status: int, title: str, words: str, *, wait_s: int = 0) -> None:
        super().__init__(f"{title}. {words}")
        self.status, self.title, self.words, self.wait_s = status, title, words, wait_s


@dataclass(frozen=True)
class Running:
    """A server of somebody's that a copy may be opened in.

    Args:
        fits: it runs in what is proposed to them.
    """

    name: str
    environment: str
    backend: str
    fits: bool

    @property
    def title(self) -> str:
        """What people call it."""
        return f"server {self.name}" if self.name else "your server"


def when(at_s: float) -> str:
    """Return a time for a page: "2026-11-30 04:12 UTC"."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def how_long(seconds: float) -> str:
    """Return a length of time in words: "2 h 5 min", "4 min"."""
    hours, minutes = divmod(max(0, round(seconds / 60)), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def size(count: int) -> str:
    """Return a size in words: "12 KiB", "3.2 MiB"."""
    return f"{count / MIB:.1f} MiB" if count >= MIB else f"{max(1, round(count / 1024))} KiB"


class Page(BaseHandler):
    """A page about links: kept by no cache, its address told to no other page."""

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "strict-origin")

    def log_exception(self, kind: Any, error: Any, trace: Any) -> None:
        """Log without the address: tornado would write all of it, and the link in it."""
        if isinstance(error, web.HTTPError):
            self.log.warning("%d %s: %s", error.status_code, self.request.path, error.log_message)
        else:
            self.log.error("%s failed", self.request.path, exc_info=(kind, error, trace))

    async def show(self, template: str, **values: Any) -> None:
        """Answer with a page."""
        words = {"when": when, "how_long": how_long, "size": size}
        page = await self.render_template(template, user=self.current_user, **words, **values)
        self.finish(page)

    async def show_problem(self, problem: Problem) -> None:
        """Answer with what is wrong."""
        self.set_status(problem.status)
        if problem.wait_s:
            self.set_header("Retry-After", str(problem.wait_s))
        await self.show("af_share_problem.html", problem=problem)


class ShareHandler(Page):
    """What a link opens."""

    @property
    def _outputs(self) -> bool:
        return str(self.get_query_argument("outputs", "keep")) != "clear"

    async def _admitted(self) -> Share:
        """Return what the link is, for whom it is meant. Raises `Problem`."""
        found, user = shares(), self.current_user
        key = self.get_query_argument("key", "")
        if not KEY.fullmatch(key):
            raise Problem(
                400,
                "This is no whole share link",
                "A part of it was lost, as when it is copied over two lines. Copy all of it, or "
                "ask who sent it to send it again.",
            )
        try:
            share = await asked(found.find, key, user.name)
        except TooManyGuesses as error:
            self.log.warning("%s tried too many share links", user.name)
            raise Problem(
                error.status, "Too many links tried", str(error), wait_s=error.wait_s
            ) from error
        if share is None:
            raise Problem(
                404,
                "There is no such share link",
                "It may have been mistyped, or have ended long ago. Ask who sent it for a new one.",
            )
        await self._check(share)
        return share

    async def _check(self, share: Share) -> None:
        user, found = self.current_user, shares()
        groups = frozenset(group.name for group in user.groups)
        if share.owner != user.name and not share.audience.has(user.name, groups):
            await asked(found.note, share, user.name, REFUSED, self._cell)
            raise Problem(
                403,
                "This link is not for you",
                f"{share.owner} made it for {share.audience.words}; you are {user.name}, in "
                f"{', '.join(sorted(groups)) or 'no group'}. Ask {share.owner} for a link that is "
                "for you.",
            )
        if how := share.over(found.clock()):
            at_s = share.revoked_s if share.revoked_s is not None else share.expires_s
            words = "was revoked by its owner" if how == "revoked" else "was good until then"
            raise Problem(
                410,
                f"This link has {'been revoked' if how == 'revoked' else 'expired'}",
                f"{when(at_s)}: it {words}. Ask {share.owner} for a new one.",
            )

    @property
    def _cell(self) -> str:
        return Portal.instance().settings.cell

    @web.authenticated
    async def get(self) -> None:
        """Say what it is, and where it may be opened."""
        found, user = shares(), self.current_user
        try:
            share = await self._admitted()
            match, places = await self._proposed(share)
        except Problem as problem:
            await self.show_problem(problem)
            return
        await asked(found.note, share, user.name, LOOKED, self._cell)
        running = await self._running(match)
        await self.show(
            "af_share.html",
            share=share,
            opened=await asked(found.opened, share, user.name),
            match=match,
            places=places,
            running=running,
            may_start=bool(self._free_name()[1]),
            outputs=self._outputs,
            now_s=found.clock(),
            here=self._here,
            elsewhere=self._elsewhere(),
        )

    def _here(self, **changed: str) -> str:
        """Return this page's address with other choices."""
        chosen = {
            "key": self.get_query_argument("key"),
            "outputs": "keep" if self._outputs else "clear",
        }
        return str(url_concat(f"{self.hub.base_url}af/share", {**chosen, **changed}))

    def _elsewhere(self) -> str:
        url = shares().settings.url
        asked_for = {"choose": "1", "key": self.get_query_argument("key")}
        return str(url_concat(url, asked_for)) if url else ""

    async def _proposed(self, share: Share) -> tuple[Match, list[Place]]:
        """Return what it is opened in, and where. Raises `Problem`."""
        portal, spawner = Portal.instance(), self.current_user.spawners[""]
        catalogue = spawner.offered()
        person = await spawner.person(wait=False)
        offered = offered_to(catalogue, person, portal.backend_names)
        match = nearest(share.ran_in, share.snapshot, offered, catalogue, person.groups)
        if match is None:
            raise Problem(
                403,
                "You cannot start a server here",
                "This hub offers you no environment: open the link at another hub, or ask "
                f"{portal.settings.contact or 'its operators'}.",
            )
        return match, places_of(match.environment, catalogue, person, portal.backend_names)

    async def _running(self, match: Match) -> list[Running]:
        """Return this person's servers here, those that fit first."""
        found = [
            await self._as_running(spawner, match)
            for spawner in self.current_user.spawners.values()
            if spawner.ready
        ]
        return sorted(found, key=lambda server: (not server.fits, server.name))

    async def _as_running(self, spawner: PortalSpawner, match: Match) -> Running:
        try:
            environment = await environment_of(spawner)
        except LookupError:
            return Running(
                spawner.name, "an environment that is gone", spawner.backend.title, False
            )
        fits = ran_in(environment) == ran_in(match.environment)
        return Running(spawner.name, environment.shown, spawner.backend.title, fits)

    def _free_name(self) -> tuple[str, bool]:
        """Return a name for a new server, and whether there may be one."""
        user = self.current_user
        if not user.spawners[""].active:
            return "", True
        return f"share-{secrets.token_hex(3)}", bool(self.allow_named_servers)

    @web.authenticated
    async def post(self) -> None:
        """Go on to the server that fetches the copy."""
        try:
            share = await self._admitted()
            if self.get_query_argument("where", "") == "new":
                await self._go_on_to_new(share)
            else:
                await self._go_on_to_running(share)
        except Problem as problem:
            await self.show_problem(problem)

    async def _go_on_to_running(self, share: Share) -> None:
        name = self.get_body_argument("server", "")
        spawner = self.current_user.spawners.get(name)
        if spawner is None or not spawner.ready:
            raise Problem(
                409,
                "That server does not run any more",
                "Go back to the link, and open it in another one.",
            )
        self.redirect(await self._arrive_url(share, name), status=303)

    async def _go_on_to_new(self, share: Share) -> None:
        user = self.current_user
        name, allowed = self._free_name()
        if not allowed:
            raise Problem(
                409,
                "You have a server already",
                "This hub lets nobody have two: open the link in the one that runs, or stop it.",
            )
        try:
            fields = form.text_of(self.request.body_arguments)
            await user.spawners[""].granted(form.options_from_form(fields))
        except ValueError as error:
            raise Problem(
                409, "That server would be refused", f"{error}. Go back and choose another."
            ) from error
        path = [
            self.hub.base_url,
            "spawn",
            user.escaped_name,
            *([url_escape_path(name)] if name else []),
        ]
        goal = await self._arrive_url(share, name)
        self.redirect(url_concat(url_path_join(*path), {"next": goal}), status=307)

    async def _arrive_url(self, share: Share, server: str) -> str:
        user = self.current_user
        key = await asked(
            shares().expect, share, user.name, self._cell, server, outputs=self._outputs
        )
        return str(url_concat(url_path_join(user.server_url(server), "af/arrive"), {"key": key}))


class SharesHandler(Page):
    """One's own links."""

    @web.authenticated
    async def get(self) -> None:
        """Show them, with who opened them."""
        links = await asked(shares().of, self.current_user.name)
        await self.show_list(links, everybody=False)

    async def show_list(self, links: Sequence[Share], *, everybody: bool) -> None:
        """Answer with these links."""
        found = shares()
        await self.show(
            "af_shares.html",
            links=links,
            uses=_in_words(await asked(found.uses, links)),
            now_s=found.clock(),
            everybody=everybody,
            cell=Portal.instance().settings.cell,
        )

    @web.authenticated
    async def post(self) -> None:
        """End one."""
        share = self.get_body_argument("id", "")
        try:
            await asked(shares().revoke, self.current_user.name, share)
        except ShareRefused as error:
            raise web.HTTPError(error.status, str(error)) from error
        self.log.info("%s: share link %s is revoked", self.current_user.name, share)
        self.redirect(f"{self.hub.base_url}af/shares", status=303)


class AllSharesHandler(SharesHandler):
    """Everybody's links, for those who run the facility."""

    @web.authenticated
    @for_operators
    async def get(self) -> None:
        """Show them; nobody's link can be opened from here."""
        await self.show_list(await asked(shares().all), everybody=True)

    def post(self) -> None:
        """Nothing is ended from here."""
        raise web.HTTPError(405)


_WHAT = {LOOKED: "looked at it", OPENED: "fetched a copy", REFUSED: "was refused: not for them"}


def _in_words(uses: Mapping[str, Sequence[Use]]) -> dict[str, list[str]]:
    return {
        share: [
            f"{use.person} {_WHAT.get(use.what, use.what)}, version {use.version}, {when(use.at_s)}"
            for use in found
        ]
        for share, found in uses.items()
    }


HANDLERS: list[tuple[Any, ...]] = [
    (r"/af/share", ShareHandler),
    (r"/af/shares", SharesHandler),
    (r"/af/shares/all", AllSharesHandler),
]
