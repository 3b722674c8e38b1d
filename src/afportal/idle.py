"""Ends servers that nobody uses, after word to their session; never one that computes.

What counts as use is JupyterHub's: requests through the proxy, and what the session tells, for
which a kernel that computes is in use. Before the end a session is asked, over the connection
that it holds, whether that is still so, and its person is warned there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import or_, select

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from afportal.portal import IdleSettings

log = logging.getLogger(__name__)

LOOK_EVERY_S = 60.0


@dataclass(frozen=True)
class Unused:
    """A running server that nobody used for a while.

    Args:
        person, server: row of the person in JupyterHub's database, name of the server.
        since_s: its last use, or its start, unix seconds.
    """

    person: int
    server: str
    since_s: float


class Warned(Protocol):
    """The part of a spawner that is needed here."""

    def warn_idle(self, ends_s: float) -> None:
        """Tell the session when it will be ended, and ask when it was last used."""

    def end_idle(self, idle_s: float) -> None:
        """End it."""


def unused(database: Session, before_s: float) -> list[Unused]:
    """Return the running servers that were last used before that time, by one query."""
    from jupyterhub import orm

    # JupyterHub's times are naive ones of UTC.
    before = datetime.fromtimestamp(before_s, UTC).replace(tzinfo=None)
    used = orm.Spawner.last_activity
    rows = database.execute(
        select(orm.Spawner.user_id, orm.Spawner.name, used, orm.Spawner.started).where(
            orm.Spawner.server_id.is_not(None),
            orm.Spawner.started < before,
            or_(used.is_(None), used < before),
        )
    )
    return [
        Unused(person, server, max(last or started, started).replace(tzinfo=UTC).timestamp())
        for person, server, last, started in rows
    ]


class IdleServers:
    """Looks once a minute, and oftener where people are warned later than that.

    Args:
        find: returns the running servers last used before a time, unix seconds.
        spawner: returns the spawner of such a one; None: it is gone.
        settings: what holds now.
    """

    def __init__(
        self,
        find: Callable[[float], list[Unused]],
        spawner: Callable[[Unused], Warned | None],
        settings: Callable[[], IdleSettings],
    ) -> None:
        self._find = find
        self._spawner = spawner
        self._settings = settings
        # Server → since when it is unused, and when its session was first told.
        self._told: dict[tuple[int, str], tuple[float, float]] = {}

    def round(self, now_s: float) -> None:
        """Look once: tell those whose time comes, end those whose time is over."""
        settings = self._settings()
        end_after_s, warn_s = 60 * settings.end_after_min, 60 * settings.warn_min
        told: dict[tuple[int, str], tuple[float, float]] = {}
        found = self._find(now_s - max(end_after_s - warn_s, 0)) if end_after_s else []
        for server in found:
            key = (server.person, server.server)
            spawner = self._spawner(server)
            if spawner is None:
                continue
            since_s, told_s = self._told.get(key, (server.since_s, now_s))
            if since_s != server.since_s:  # it was used meanwhile
                told_s = now_s
            # Whoever is late to be told has the whole time that a warning gives.
            ends_s = max(server.since_s + end_after_s, told_s + warn_s)
            if now_s >= ends_s:
                spawner.end_idle(now_s - server.since_s)
                continue
            told[key] = (server.since_s, told_s)
            spawner.warn_idle(ends_s)
        self._told = told

    async def run(self) -> None:
        """Look for ever."""
        while True:
            try:
                self.round(time.time())
            except Exception:
                log.exception("idle servers: round failed")
            await asyncio.sleep(min(LOOK_EVERY_S, 60 * self._settings().warn_min / 2))


def of_this_hub(hub: Any, settings: Callable[[], IdleSettings]) -> IdleServers:
    """Return one for a hub (`JupyterHub`)."""

    def spawner(server: Unused) -> Warned | None:
        with contextlib.suppress(KeyError):
            found = hub.users[server.person].spawners[server.server]
            if found.ready and hasattr(found, "warn_idle"):
                running: Warned = found
                return running
        return None

    return IdleServers(lambda before_s: unused(hub.db, before_s), spawner, settings)
