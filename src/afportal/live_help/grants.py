"""Who may come into whose server until when: JupyterHub's share codes and shares, with ends.

JupyterHub (6.1) gives a code an end, and none to the share that it is exchanged for; and a share
whose end has come goes on to grant until an hourly sweep deletes it. Here each share has an end,
and grants nothing from then on. A code is good for one person: it is gone when it was used.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from jupyterhub import orm
from sqlalchemy import event
from sqlalchemy.orm import object_session

log = logging.getLogger(__name__)

MOST_CODES = 10
_plain_scopes = orm._Share.scopes
_longest_min = 60


def enforce_ends(longest_min: int) -> None:
    """Have every share of this process end, after so many minutes where nobody says when.

    Whatever asks for the scopes of a share asks this property; it is the one place where
    JupyterHub's two ways to work out a person's permissions meet.
    """
    global _longest_min
    _longest_min = longest_min
    orm.Share.scopes = property(_scopes, _plain_scopes.fset)
    if not event.contains(orm.Share, "before_insert", _give_end):
        event.listen(orm.Share, "before_insert", _give_end)


def _scopes(share: orm.Share) -> Any:
    return [] if share.expired else _plain_scopes.fget(share)


def _give_end(_mapper: Any, _connection: Any, share: orm.Share) -> None:
    if share.expires_at is None:
        share.expires_at = share.now() + timedelta(minutes=_longest_min)


def unix(at: datetime) -> float:
    """Return a time of JupyterHub's database, UTC without saying so, in unix seconds."""
    return at.replace(tzinfo=UTC).timestamp()


def is_full(server: orm.Spawner) -> bool:
    """Tell whether a server has as many unused codes as it may have."""
    return len(codes_of(server)) >= MOST_CODES


def make_code(db: Any, server: orm.Spawner, lifetime_min: float) -> tuple[orm.ShareCode, str]:
    """Make a code to a server; returns it with the code itself, which is known this once."""
    made: tuple[orm.ShareCode, str] = orm.ShareCode.new(
        db,
        server,
        scopes=[f"access:servers!server={server.user.name}/{server.name}"],
        expires_in=round(lifetime_min * 60),
    )
    return made


def let_in(db: Any, code: orm.ShareCode, person: orm.User) -> orm.Share:
    """Use a code up for a person; their access ends when the code would have.

    Raises:
        ValueError: it has expired in this moment.
    """
    before = open_to(code.spawner, person)
    ends = [one.expires_at for one in (code, before) if one is not None]
    share: orm.Share = code.exchange(person)
    share.expires_at = max(ends)
    db.delete(code)
    db.commit()
    return share


def codes_of(server: orm.Spawner) -> list[orm.ShareCode]:
    """Return the codes to a server that nobody has used and that are good."""
    return [code for code in server.share_codes if not code.expired]


def people_in(server: orm.Spawner) -> list[orm.Share]:
    """Return whom a server is open to now."""
    return [share for share in server.shares if share.user is not None and not share.expired]


def open_to(server: orm.Spawner, person: orm.User) -> orm.Share | None:
    """Return by what a server is open to a person, None where it is not."""
    return next((share for share in people_in(server) if share.user is person), None)


def open_for(person: orm.User) -> list[orm.Share]:
    """Return by what servers of others are open to a person."""
    return [share for share in person.shared_with_me if not share.expired]


def end(server: orm.Spawner, why: str, rows: Sequence[orm.Share | orm.ShareCode]) -> int:
    """End these of a server's codes and shares; returns how many people that puts out."""
    db = object_session(server)
    if db is None or not rows:
        return 0
    people = [row.user.name for row in rows if isinstance(row, orm.Share) and row.user is not None]
    for row in rows:
        db.delete(row)
    db.commit()
    shown = f"{server.user.name}/{server.name}"
    for name in people:
        log.info("live help: %s may come into %s no more: %s", name, shown, why)
    if codes := len(rows) - len(people):
        log.info("live help: %d links to %s are ended: %s", codes, shown, why)
    return len(people)


def end_all(server: orm.Spawner, why: str) -> int:
    """End all that opens a server to others; returns how many people that puts out."""
    if object_session(server) is None:  # it is gone, and all of it
        return 0
    return end(server, why, [*server.shares, *server.share_codes])


def end_expired(server: orm.Spawner) -> None:
    """Forget what has ended, and say so in the log."""
    if object_session(server) is None:  # it is gone, and all of it
        return
    over = [row for row in (*server.shares, *server.share_codes) if row.expired]
    end(server, "its time is over", over)
