"""Ends servers that nobody uses, after word to their session; never one that computes.

What counts as use is JupyterHub's: requests through the proxy, and what the session tells, for
which a kernel that computes is in use. Before the end a session is told, over the connection
that it holds, and asked whether that is still so. One that does not answer is not ended: nobody
knows what it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import or_, select

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from afportal.portal import IdleSettings

log = logging.getLogger(__name__)

LOOK_EVERY_S = 60.0
# Twice what a session waits between two words.
LAST_ANSWER_S = 20.0


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

    def answered_since(self, asked_s: float) -> bool:
        """Tell whether its session has said something since then, unix seconds."""

    def end_idle(self, idle_s: float) -> None:
        """End it."""


@dataclass(frozen=True)
class _Told:
    """What is kept of a server that was warned.

    Args:
        since_s: its last use then.
        told_s: when its session was first told.
        asked_s: when it was asked for the last time, its time being over; None: not yet.
    """

    since_s: float
    told_s: float
    asked_s: float | None = None


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
        self._told: dict[tuple[int, str], _Told] = {}

    def round(self, now_s: float) -> None:
        """Look once: tell those whose time comes, end those whose time is over."""
        settings = self._settings()
        end_after_s, warn_s = 60 * settings.end_after_min, 60 * settings.warn_min
        found = self._find(now_s - max(end_after_s - warn_s, 0)) if end_after_s else []
        told: dict[tuple[int, str], _Told] = {}
        for server in found:
            key = (server.person, server.server)
            known = self._told.get(key)
            if known is None or known.since_s != server.since_s:  # it was used meanwhile
                known = _Told(server.since_s, now_s)
            after: _Told | None = known
            try:
                after = self._judge(server, known, now_s, end_after_s, warn_s)
            except Exception:
                log.exception("idle servers: %s", server)
            if after is not None:
                told[key] = after
        self._told = told

    def _judge(
        self, server: Unused, known: _Told, now_s: float, end_after_s: float, warn_s: float
    ) -> _Told | None:
        spawner = self._spawner(server)
        if spawner is None:
            return None
        if known.asked_s is not None and spawner.answered_since(known.asked_s):
            spawner.end_idle(now_s - server.since_s)
            return None
        # Whoever is late to be told has the whole time that a warning gives.
        ends_s = max(server.since_s + end_after_s, known.told_s + warn_s)
        over = now_s >= ends_s
        spawner.warn_idle(max(ends_s, now_s))
        return replace(known, asked_s=now_s) if over and known.asked_s is None else known

    @property
    def pause_s(self) -> float:
        """How long until the next look: shorter where somebody was asked for the last time."""
        if any(known.asked_s is not None for known in self._told.values()):
            return LAST_ANSWER_S
        return min(LOOK_EVERY_S, 60 * self._settings().warn_min / 2)

    async def run(self) -> None:
        """Look for ever."""
        while True:
            pause_s = LOOK_EVERY_S
            try:
                self.round(time.time())
                pause_s = self.pause_s
            except Exception:
                log.exception("idle servers: round failed")
            await asyncio.sleep(pause_s)


def of_this_hub(
    hub: Any, settings: Callable[[], IdleSettings], flush: Callable[[], None]
) -> IdleServers:
    """Return one for a hub (`JupyterHub`).

    Args:
        flush: writes what sessions have said of their use to the hub's database.
    """

    def find(before_s: float) -> list[Unused]:
        flush()
        return unused(hub.db, before_s)

    def spawner(server: Unused) -> Warned | None:
        with contextlib.suppress(KeyError):
            found = hub.users[server.person].spawners[server.server]
            if found.ready and hasattr(found, "warn_idle"):
                running: Warned = found
                return running
        return None

    return IdleServers(find, spawner, settings)
