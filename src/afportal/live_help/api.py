"""What a session asks of live help, with its own token; reached from inside alone.

GET    /api/af/live-help              how long it may be, unused links, and who is let in
POST   /api/af/live-help              {"lifetime_min"} -> {"url", …}: a link for one person
DELETE /api/af/live-help              ends all
DELETE /api/af/live-help/links/ID     ends an unused link
DELETE /api/af/live-help/people/NAME  puts somebody out
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from jupyterhub import orm
from pydantic import BaseModel, ConfigDict, Field
from tornado import web
from tornado.httputil import url_concat

from afportal.hub_api import SessionHandler
from afportal.live_help import grants
from afportal.live_help.settings import LiveHelpSettings
from afportal.people import NAME
from afportal.portal import Portal

if TYPE_CHECKING:
    from afportal.spawner import PortalSpawner


class NewLink(BaseModel):
    """Body of a request for a link."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    lifetime_min: int = Field(ge=1)


def settings() -> LiveHelpSettings:
    """Return how this hub has live help. Raises HTTP 404: it has none."""
    found = Portal.instance().live_help
    if found is None:
        raise web.HTTPError(404, "this hub has no live help")
    return found


class LiveHelpHandler(SessionHandler):
    """Who may come into the server that asks."""

    async def _session(self) -> PortalSpawner:
        spawner = self._spawner()
        await self._check_host(spawner)
        if self._spawner() is not spawner:  # it has ended meanwhile
            raise web.HTTPError(403, "this server is over")
        return spawner

    async def get(self) -> None:
        """Tell."""
        spawner = await self._session()
        allowed, server = settings(), spawner.orm_spawner
        self._answer(
            {
                "longest_min": allowed.longest_min,
                "lifetimes_min": allowed.lifetimes_min,
                "links": [_link(code) for code in grants.codes_of(server)],
                "people": [_person(share) for share in grants.people_in(server)],
            }
        )

    async def post(self) -> None:
        """Make a link; this answer alone has it."""
        spawner = await self._session()
        body: NewLink = self._body(NewLink)
        allowed, server = settings(), spawner.orm_spawner
        if body.lifetime_min > allowed.longest_min:
            raise web.HTTPError(
                400,
                f"{body.lifetime_min} minutes asked; live help lasts {allowed.longest_min} at most",
            )
        if not spawner.ready:
            raise web.HTTPError(409, "this server is not ready: nobody could come in")
        if not NAME.fullmatch(spawner.user.name):
            raise web.HTTPError(409, "nobody can be let in: your name cannot stand in a pass")
        if grants.is_full(server):
            raise web.HTTPError(
                409, f"there are {grants.MOST_CODES} unused links to this server: end one first"
            )
        code, key = grants.make_code(self.db, server, body.lifetime_min)
        self.log.info(
            "live help: %s made link %s, for one person and %d minutes",
            spawner._log_name, code.id, body.lifetime_min,
        )  # fmt: skip
        # A little later, so that it is over by then.
        asyncio.get_running_loop().call_later(
            body.lifetime_min * 60 + 1, grants.end_expired, server
        )
        query = {
            "on": spawner.portal.settings.cell,
            "owner": spawner.user.name,
            "server": spawner.name,
            "code": key,
        }
        self._answer({"url": str(url_concat(allowed.url, query)), **_link(code)})

    async def delete(self, link: str = "", person: str = "") -> None:
        """End what the path names, or all."""
        server = (await self._session()).orm_spawner
        why = "ended by the server's owner"
        if link:
            rows: list[Any] = [code for code in grants.codes_of(server) if str(code.id) == link]
        elif person:
            rows = [share for share in grants.people_in(server) if share.user.name == person]
        else:
            rows = [*server.shares, *server.share_codes]
        if not rows and (link or person):
            raise web.HTTPError(404, "that is over already")
        grants.end(server, why, rows)
        self.set_status(204)


def _link(code: orm.ShareCode) -> dict[str, Any]:
    return {
        "id": str(code.id),
        "made_s": grants.unix(code.created_at),
        "ends_s": grants.unix(code.expires_at),
    }


def _person(share: orm.Share) -> dict[str, Any]:
    return {
        "name": share.user.name,
        "since_s": grants.unix(share.created_at),
        "ends_s": grants.unix(share.expires_at),
    }


HANDLERS: list[tuple[Any, ...]] = [
    (r"/api/af/live-help", LiveHelpHandler),
    (r"/api/af/live-help/links/(?P<link>[0-9]{1,12})", LiveHelpHandler),
    (rf"/api/af/live-help/people/(?P<person>{NAME.pattern})", LiveHelpHandler),
]
