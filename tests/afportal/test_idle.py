"""Servers that nobody uses are ended, after word to their session; what is used is not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from jupyterhub import orm

from afportal.idle import LAST_ANSWER_S, LOOK_EVERY_S, IdleServers, Unused, unused
from afportal.portal import IdleSettings

HOUR = 3600.0
NOW = 1_800_000_000.0
SETTINGS = IdleSettings(end_after_min=480, warn_min=15)


def naive(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, UTC).replace(tzinfo=None)


@pytest.fixture
def database() -> Any:
    """Alice's servers: used, long unused, never used, used before it was started, and stopped."""
    session = orm.new_session_factory("sqlite:///:memory:")()
    alice = orm.User(name="alice")
    session.add(alice)
    times = {
        "used": (NOW - 20 * HOUR, NOW - 60),
        "unused": (NOW - 20 * HOUR, NOW - 9 * HOUR),
        "never": (NOW - 10 * HOUR, None),
        "new": (NOW - HOUR, NOW - 30 * HOUR),
    }
    for name, (started_s, used_s) in times.items():
        session.add(
            orm.Spawner(
                name=name, user=alice, server=orm.Server(), started=naive(started_s),
                last_activity=naive(used_s) if used_s else None,
            )
        )  # fmt: skip
    session.add(orm.Spawner(name="stopped", user=alice, last_activity=naive(NOW - 90 * HOUR)))
    session.commit()
    return session


def test_running_servers_without_use_are_found(database: Any) -> None:
    """By their last use, or their start where that is later."""
    row = database.query(orm.User).one().id
    assert sorted(unused(database, NOW - 8 * HOUR), key=lambda u: u.server) == [
        Unused(row, "never", NOW - 10 * HOUR),
        Unused(row, "unused", NOW - 9 * HOUR),
    ]


class Facility:
    """One server, and what it was told."""

    def __init__(self, used_s: float, settings: IdleSettings = SETTINGS) -> None:
        self.used_s = used_s
        self.ready = self.answers = True
        self.warned: list[float] = []
        self.ended: list[float] = []
        self.servers = IdleServers(
            self.find, lambda _: self if self.ready else None, lambda: settings
        )

    def find(self, before_s: float) -> list[Unused]:
        return [Unused(1, "", self.used_s)] if self.used_s < before_s else []

    def warn_idle(self, ends_s: float) -> None:
        self.warned.append(ends_s)

    def answered_since(self, asked_s: float) -> bool:
        assert asked_s >= self.used_s
        return self.answers

    def end_idle(self, idle_s: float) -> None:
        self.ended.append(idle_s)

    def look(self, from_s: float, to_s: float) -> None:
        """A round each minute."""
        at_s = from_s
        while at_s <= to_s:
            self.servers.round(at_s)
            at_s += 60


def test_a_server_is_warned_and_then_ended() -> None:
    """Each minute of the last quarter of an hour; at its end once more, and then it is over."""
    facility = Facility(NOW)
    facility.look(NOW, NOW + 7.7 * HOUR)
    assert facility.warned == []
    facility.look(NOW + 7.7 * HOUR, NOW + 8 * HOUR - 1)
    (ends_s,) = set(facility.warned)
    assert NOW + 8 * HOUR <= ends_s <= NOW + 8 * HOUR + 60
    assert len(facility.warned) >= 14
    assert facility.ended == []
    facility.servers.round(ends_s)
    assert (facility.ended, facility.servers.pause_s) == ([], LAST_ANSWER_S)
    facility.servers.round(ends_s + LAST_ANSWER_S)
    assert facility.ended == [ends_s + LAST_ANSWER_S - NOW]
    assert facility.servers.pause_s == LOOK_EVERY_S


def test_who_does_not_answer_is_not_ended() -> None:
    """A suspended job, or one whose connection is away, may compute: it is asked again."""
    facility = Facility(NOW)
    facility.answers = False
    facility.look(NOW, NOW + 10 * HOUR)
    assert facility.ended == []
    facility.answers = True
    facility.servers.round(NOW + 10 * HOUR + 60)
    assert len(facility.ended) == 1


def test_use_in_the_last_moment_counts() -> None:
    """What the last answer tells is heard before the end."""
    facility = Facility(NOW)
    facility.look(NOW, NOW + 8 * HOUR + 60)
    assert facility.servers.pause_s == LAST_ANSWER_S
    facility.used_s = NOW + 8 * HOUR + 50
    facility.look(NOW + 8 * HOUR + 80, NOW + 9 * HOUR)
    assert facility.ended == []


def test_one_that_breaks_takes_no_other_with_it() -> None:
    """Each server is judged by itself."""
    facility = Facility(NOW - 30 * HOUR)
    others = facility.find
    facility.servers._find = lambda before_s: [  # type: ignore[method-assign]
        Unused(9, "broken", NOW - 30 * HOUR), *others(before_s)
    ]  # fmt: skip
    facility.servers._spawner = lambda server: (  # type: ignore[method-assign]
        None.gone if server.server else facility  # type: ignore[attr-defined]
    )
    facility.look(NOW, NOW + HOUR)
    assert len(facility.ended) >= 1


def test_who_comes_back_has_all_the_time_again() -> None:
    """Use after the warning counts, as that of a kernel which began to compute."""
    facility = Facility(NOW)
    facility.look(NOW, NOW + 8 * HOUR - 120)
    facility.used_s = NOW + 8 * HOUR - 90
    facility.look(NOW + 8 * HOUR - 60, NOW + 15 * HOUR)
    assert facility.ended == []


def test_nobody_is_ended_unwarned() -> None:
    """A hub that was away for a day, or looked seldom, gives a quarter of an hour first."""
    facility = Facility(NOW - 30 * HOUR)
    facility.servers.round(NOW)
    assert (facility.warned, facility.ended) == ([NOW + 15 * 60], [])
    facility.look(NOW + 60, NOW + 15 * 60 - 1)
    assert facility.ended == []
    facility.look(NOW + 15 * 60, NOW + 16 * 60)
    assert len(facility.ended) == 1


def test_a_facility_may_never_end_any() -> None:
    """Nothing is looked for where 0 minutes are said; one that is gone is passed over."""
    never = Facility(NOW, IdleSettings(end_after_min=0))
    never.look(NOW, NOW + 20 * HOUR)
    assert (never.warned, never.ended) == ([], [])
    gone = Facility(NOW)
    gone.ready = False
    gone.look(NOW, NOW + 9 * HOUR)
    assert (gone.warned, gone.ended) == ([], [])
