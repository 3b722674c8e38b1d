"""When servers were last used, as their sessions tell: kept in JupyterHub's database in bulk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, or_, update

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

# So much of what was told is lost with a hub that is killed.
WRITTEN_AFTER_S = 30.0


def _database() -> Session:
    from jupyterhub.app import JupyterHub

    session: Session = JupyterHub.instance().db
    return session


class Usage:
    """What was told since the last write.

    JupyterHub reads a row again after every commit, with all that belongs to it: a change of the
    objects for each word costs ten milliseconds. Here some statements change all rows.
    """

    def __init__(self, database: Callable[[], Session] = _database) -> None:
        self._database = database
        self._servers: dict[int, float] = {}
        self._people: dict[int, float] = {}
        self._writing: asyncio.TimerHandle | None = None

    def note(self, server: int, person: int, at_s: float) -> None:
        """Take word of a use.

        Args:
            server, person: rows of JupyterHub's tables `spawners` and `users`.
            at_s: unix seconds.
        """
        self._servers[server] = max(at_s, self._servers.get(server, 0.0))
        self._people[person] = max(at_s, self._people.get(person, 0.0))
        if self._writing is None:
            loop = asyncio.get_running_loop()
            self._writing = loop.call_later(WRITTEN_AFTER_S, self.write)

    def write(self) -> None:
        """Write what was told; a row that knows of a later use stays as it is."""
        from jupyterhub import orm

        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        if not (self._servers or self._people):
            return  # a commit has JupyterHub read its rows anew
        session = self._database()
        for table, told in ((orm.Spawner, self._servers), (orm.User, self._people)):
            # JupyterHub's times are naive ones of UTC.
            rows = [
                {"row": row, "at": datetime.fromtimestamp(at_s, UTC).replace(tzinfo=None)}
                for row, at_s in told.items()
            ]
            told.clear()
            if rows:
                older = or_(table.last_activity.is_(None), table.last_activity < bindparam("at"))
                statement = (
                    update(table.__table__)
                    .where(table.id == bindparam("row"), older)
                    .values(last_activity=bindparam("at"))
                )
                session.connection().execute(statement, rows)
        session.commit()
