"""When servers were last used: told often, written now and then, never set back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from jupyterhub import orm

from afportal import usage
from afportal.usage import Usage

EARLY, LATE = 1_700_000_000.0, 1_700_000_500.0


class WatchedUsage(Usage):
    """Tells when it has written."""

    def __init__(self, database: Callable[[], Any]) -> None:
        super().__init__(database)
        self.written = asyncio.Event()

    def write(self) -> None:
        super().write()
        self.written.set()


def naive(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, UTC).replace(tzinfo=None)


@pytest.fixture
def database() -> Any:
    """Alice with two servers: one that was used early, one that never was."""
    session = orm.new_session_factory("sqlite:///:memory:")()
    alice = orm.User(name="alice", last_activity=naive(EARLY))
    used = orm.Spawner(name="used", user=alice, last_activity=naive(EARLY))
    session.add_all([alice, used, orm.Spawner(name="new", user=alice)])
    session.commit()
    return session


def told(database: Any) -> dict[str, datetime | None]:
    database.expire_all()
    servers = {s.name: s.last_activity for s in database.query(orm.Spawner)}
    return servers | {"alice": database.query(orm.User).one().last_activity}


def test_all_that_was_told_is_written_together(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A moment after the first word, with all that came meanwhile; the last of each counts."""
    monkeypatch.setattr(usage, "WRITTEN_AFTER_S", 0.05)
    rows = {s.name: (s.id, s.user_id) for s in database.query(orm.Spawner)}

    async def main() -> None:
        kept = WatchedUsage(lambda: database)
        kept.note(*rows["new"], LATE)
        kept.note(*rows["new"], EARLY)
        kept.note(*rows["used"], LATE - 100)
        assert told(database)["new"] is None
        async with asyncio.timeout(10):
            await kept.written.wait()

    asyncio.run(main())
    assert told(database) == {
        "new": naive(LATE), "used": naive(LATE - 100), "alice": naive(LATE),
    }  # fmt: skip


def test_a_later_use_stays(database: Any) -> None:
    row = database.query(orm.Spawner).filter_by(name="used").one()

    async def main() -> None:
        kept = Usage(lambda: database)
        kept.note(row.id, row.user_id, EARLY - 1000)
        kept.note(9999, 9999, LATE)  # a server that is gone
        kept.write()
        kept.write()

    asyncio.run(main())
    assert told(database) == {"new": None, "used": naive(EARLY), "alice": naive(EARLY)}
