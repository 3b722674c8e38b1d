"""What a session tells and asks of share links, with its own token; reached from inside alone.

    GET    /api/af/shares                 how far they reach, and the person's own links
    POST   /api/af/shares                 a snapshot (tar), what it is in `X-Af-Share` -> {"url", …}
    POST   /api/af/shares/ID              a newer one for the same link
    DELETE /api/af/shares/ID              ends a link
    POST   /api/af/share-arrivals         {"key"} -> what this server shall fetch
    POST   /api/af/share-arrivals/content {"key"} -> the snapshot, once

A session is believed what its person's files are called and hold: whoever opens them knows from
whom they are. What they ran in the hub takes from its own record.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tornado import web
from tornado.httputil import url_concat

from afportal.catalogue import problems
from afportal.hub_api import SessionHandler
from afportal.share.asked import asked, shares
from afportal.share.bodies import NewShare, RanIn
from afportal.share.contents import Receiving, TooLarge
from afportal.share.environment import environment_of, ran_in
from afportal.share.link import ID, KEY, Share, ShareRefused, Use
from afportal.share.settings import MIB
from afportal.share.store import Shares

if TYPE_CHECKING:
    from collections.abc import Callable

    from afportal.spawner import PortalSpawner

HEADER = "X-Af-Share"
_CHUNK = 256 * 1024
# What is beyond a limit is still read so far, so that a refusal is heard and no broken line.
_HEARD_OUT = 64 * MIB


class Key(BaseModel):
    """Body of /share-arrivals: which copy."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    key: Annotated[str, Field(pattern=rf"^{KEY.pattern}$")]


def told(share: Share, now_s: float, uses: list[Use]) -> dict[str, Any]:
    """Return a link as its owner sees it; the link itself is known to nobody any more."""
    snapshot = share.snapshot
    return {
        "id": share.id,
        "name": snapshot.name,
        "kind": snapshot.kind,
        "path": snapshot.path,
        "audience": share.audience.words,
        "made_s": share.made_s,
        "sent_s": share.sent_s,
        "expires_s": share.expires_s,
        "over": share.over(now_s),
        "version": share.version,
        "size": share.size,
        "left_out": snapshot.left_out,
        "uses": [
            {name: value for name, value in asdict(use).items() if name != "share"} for use in uses
        ],
    }


class _Handler(SessionHandler):
    def _refuse(self, error: ShareRefused) -> web.HTTPError:
        return web.HTTPError(error.status, str(error))

    async def _session(self) -> PortalSpawner:
        spawner = self._spawner()
        await self._check_host(spawner)
        return spawner

    async def _ran_in(self, spawner: PortalSpawner) -> RanIn:
        try:
            return ran_in(await environment_of(spawner))
        except LookupError as error:
            raise web.HTTPError(409, f"this cannot be shared: {error}") from error


@web.stream_request_body
class _Taking(_Handler):
    """Takes a snapshot as it comes, into a file."""

    _spawner_that_sends: PortalSpawner
    _receiving: Receiving | None = None
    _too_large: str = ""

    async def prepare(self) -> None:
        """Know who sends before the first byte is taken."""
        await super().prepare()
        if self.request.method != "POST":
            return
        self._shares: Shares = shares()
        self._spawner_that_sends = await self._session()
        owner = self._spawner_that_sends.user.name
        renewed = self.path_kwargs.get("share") or ""
        try:
            most = await asked(self._shares.most_bytes, owner, renewed)
        except ShareRefused as error:
            raise self._refuse(error) from error
        self._most = most
        self.request.connection.set_max_body_size(most + _HEARD_OUT)
        self._receiving = await asked(self._shares.contents.receive, most)

    def data_received(self, chunk: bytes) -> None:
        """Take a part of it."""
        if self._receiving is None or self._too_large:
            return
        try:
            self._receiving.write(chunk)
        except TooLarge:
            settings = self._shares.settings
            self._too_large = (
                f"more than {self._most / MIB:.1f} MiB sent; one link may hold "
                f"{settings.largest_mib} MiB, all of yours {settings.quota_mib}"
            )
        except OSError as error:
            self.log.error("share links: %s", error)
            self._too_large = "the facility's disk for share links is full: tell its operators"

    def on_connection_close(self) -> None:
        """Forget what did not come to its end."""
        self._give_up()
        super().on_connection_close()

    def write_error(self, status_code: int, **more: Any) -> None:
        """Forget what is refused, before that is heard."""
        self._give_up()
        super().write_error(status_code, **more)

    def _give_up(self) -> None:
        if self._receiving is not None:
            self._receiving.give_up()
            self._receiving = None

    def _about(self) -> NewShare:
        try:
            raw = base64.b64decode(self.request.headers.get(HEADER, ""), validate=True)
            return NewShare.model_validate_json(raw)
        except (binascii.Error, UnicodeDecodeError) as error:
            raise web.HTTPError(400, f"{HEADER} is no base64: {error}") from error
        except ValidationError as error:
            raise web.HTTPError(400, problems(error)) from error

    async def _take(self, keep: Callable[..., Any], about: NewShare, *args: Any) -> Any:
        """Have what was received kept. Raises `HTTPError`."""
        settings = self._shares.settings
        if self._too_large or self._receiving is None:
            raise web.HTTPError(413, self._too_large or "nothing was sent")
        if about.snapshot.files > settings.most_files:
            raise web.HTTPError(
                413,
                f"{about.snapshot.files} files sent; one link may hold {settings.most_files}",
            )
        received = await asked(self._receiving.done)
        where = await self._ran_in(self._spawner_that_sends)
        try:
            kept = await asked(keep, *args, where, received)
        except ShareRefused as error:
            raise self._refuse(error) from error
        self._receiving = None
        return kept


class SharesHandler(_Taking):
    """A person's links."""

    async def get(self) -> None:
        """Tell them, and how far links reach."""
        spawner = await self._session()
        owner, found = spawner.user.name, shares()
        links = await asked(found.of, owner)
        uses = await asked(found.uses, links)
        try:
            room = await asked(found.most_bytes, owner)
        except ShareRefused:
            room = 0
        settings, now_s = found.settings, found.clock()
        self._answer(
            {
                "lifetime_min": settings.lifetime_min,
                "longest_min": settings.longest_min,
                "largest_bytes": settings.largest_mib * MIB,
                "room_bytes": room,
                "most_files": settings.most_files,
                "groups": sorted(spawner.groups()),
                "links": [told(link, now_s, uses[link.id]) for link in links],
            }
        )

    async def post(self) -> None:
        """Make a link; this answer alone has it."""
        about, spawner = self._about(), self._spawner_that_sends
        owner, cell = spawner.user.name, spawner.portal.settings.cell
        key, share = await self._take(self._shares.add, about, owner, cell, about)
        self.log.info("%s: made share link %s", owner, share.id)
        self._answer({"url": self._link(key), **told(share, self._shares.clock(), [])})

    def _link(self, key: str) -> str:
        # Under this name JupyterHub leaves it out of its log; and what cuts off its end is seen.
        if url := self._shares.settings.url:
            hub = self.hub.base_url.removesuffix("hub/").strip("/")
            return str(url_concat(url, {"on": hub, "key": key}))
        public = self.settings.get("public_url")
        base = public.geturl() if public else f"{self.request.full_url().partition('/hub/')[0]}/"
        return str(url_concat(f"{base.rstrip('/')}/hub/af/share", {"key": key}))


class ShareHandler(_Taking):
    """One link of a person's."""

    async def post(self, share: str) -> None:
        """Make what came its newest version."""
        about, owner = self._about(), self._spawner_that_sends.user.name
        renewed = await self._take(self._shares.renew, about, owner, share, about.snapshot)
        self.log.info("%s: share link %s is at version %d", owner, share, renewed.version)
        self._answer(told(renewed, self._shares.clock(), []))

    async def delete(self, share: str) -> None:
        """End it."""
        spawner = await self._session()
        try:
            await asked(shares().revoke, spawner.user.name, share)
        except ShareRefused as error:
            raise self._refuse(error) from error
        self.log.info("%s: share link %s is revoked", spawner.user.name, share)
        self.set_status(204)


class ArrivalHandler(_Handler):
    """What a server shall fetch."""

    async def post(self) -> None:
        """Tell what it is."""
        arrival = await self._of_arrival(shares().arrival)
        share = arrival.share
        self._answer(
            {
                "share": share.id,
                "owner": share.owner,
                "kind": share.snapshot.kind,
                "name": share.snapshot.name,
                "version": share.version,
                "size": share.size,
                "files": share.snapshot.files,
                "outputs": arrival.outputs,
            }
        )

    async def _of_arrival(self, look: Callable[..., Any]) -> Any:
        spawner = await self._session()
        body: Key = self._body(Key)
        person, cell = spawner.user.name, spawner.portal.settings.cell
        try:
            return await asked(look, body.key, person, cell, spawner.name)
        except ShareRefused as error:
            raise self._refuse(error) from error


class ContentHandler(ArrivalHandler):
    """The snapshot itself."""

    async def post(self) -> None:
        """Send it, once."""
        share, file = await self._of_arrival(shares().fetch)
        self.log.info(
            "%s: has a copy of %s's share link %s", self.current_user.name, share.owner, share.id
        )
        self.set_header("Content-Type", "application/x-tar")
        self.set_header("Content-Length", str(share.size))
        self.set_header("Cache-Control", "no-store")
        with file:
            while chunk := await asyncio.to_thread(file.read, _CHUNK):
                self.write(chunk)
                await self.flush()


HANDLERS: list[tuple[Any, ...]] = [
    (r"/api/af/shares", SharesHandler),
    (rf"/api/af/shares/(?P<share>{ID})", ShareHandler),
    (r"/api/af/share-arrivals", ArrivalHandler),
    (r"/api/af/share-arrivals/content", ContentHandler),
]
