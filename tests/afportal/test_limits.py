"""A session warns before its time, memory or use is over, once each, and takes it back."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from afportal.session.limits import Limits

NOW = 1_800_000_000.0
LOG = logging.getLogger("test")


class Session(Limits):
    """One on a clock of the test's own, that counts its news."""

    def __init__(self, **about: Any) -> None:
        self.at_s = NOW
        self.news: list[list[str]] = []
        super().__init__(
            {
                "warn_time_min": [30, 5],
                "warn_memory_ratio": 0.9,
                "memory_limit_mib": 1000,
                "time": {"ends_s": NOW + 3600, "longest_s": None, "words": ""},
            }
            | about,
            now=lambda: self.at_s,
        )
        self.changed = lambda: self.news.append([w["id"] for w in self.warnings])


class Hub:
    """Answers what the scheduler says now; counts how often it was asked."""

    def __init__(self, ends_s: float | None) -> None:
        self.ends_s = ends_s
        self.asked = 0
        self.away = False
        self.heard = asyncio.Event()

    async def ask(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        assert (what, body) == ("limits", {})
        self.asked += 1
        self.heard.set()
        if self.away:
            raise ConnectionError("away")
        return {"ends_s": self.ends_s, "longest_s": None, "words": ""}


def watched(session: Session, hub: Hub, *looks: float) -> None:
    """Have the watch look at these times, one after the other."""

    async def run() -> None:
        task = asyncio.create_task(session.watch_time(hub.ask, LOG))
        for at_s in looks:
            session.at_s = at_s
            session._moved.set()
            for _ in range(10):
                await asyncio.sleep(0)
        assert not task.done()
        task.cancel()

    asyncio.run(run())


def test_each_mark_warns_once() -> None:
    """Half an hour and five minutes before the end; looks between them tell nothing new."""
    session, hub = Session(), Hub(NOW + 3600)
    watched(session, hub, NOW, NOW + 1700, NOW + 1801, NOW + 2400, NOW + 3301, NOW + 3500)
    assert session.news == [[f"time {NOW + 3600:.0f} 30"], [f"time {NOW + 3600:.0f} 5"]]
    assert hub.asked == 2
    assert session.warnings[0]["ends_s"] == NOW + 3600


def test_the_hub_is_asked_before_a_warning() -> None:
    """An operator has given more time: nobody is warned of an end that is none."""
    session, hub = Session(), Hub(NOW + 7200)
    watched(session, hub, NOW, NOW + 1801, NOW + 1900)
    assert session.warnings == []
    assert session.ends_s == NOW + 7200
    assert hub.asked == 1


def test_a_hub_that_is_away_keeps_nobody_from_warning() -> None:
    session, hub = Session(), Hub(None)
    hub.away = True
    watched(session, hub, NOW + 1801, NOW + 1802)
    assert [w["kind"] for w in session.warnings] == ["time"]
    assert hub.asked == 1


def test_more_time_takes_the_warning_back() -> None:
    session, hub = Session(), Hub(NOW + 3600)
    watched(session, hub, NOW + 1801)
    assert session.warnings
    session.ends_at(NOW + 9000)
    assert session.warnings == []
    assert session.news[-1] == []


def test_a_backend_without_limits_is_asked_once() -> None:
    """On a login node nothing ends a session."""
    session, hub = Session(time={}), Hub(None)
    watched(session, hub, NOW, NOW + 100, NOW + 1e6)
    assert (hub.asked, session.warnings) == (1, [])


def test_an_end_that_was_not_known_at_the_start() -> None:
    """Slurm may still be configuring the node at the exchange."""
    session, hub = Session(time={}), Hub(NOW + 200)
    watched(session, hub, NOW, NOW + 1)
    assert [w["id"] for w in session.warnings] == [f"time {NOW + 200:.0f} 5"]


@pytest.mark.parametrize(
    ("used", "warned"), [([100, 899], 0), ([900], 1), ([950, 900, 850, 990], 1), ([950, 800], 0)]
)
def test_memory(used: list[int], warned: int) -> None:
    """From nine tenths of the limit on, until it is clearly less again."""
    session = Session()
    for mib in used:
        session.memory_is(mib)
    assert len(session.warnings) == warned
    assert session.as_dict()["memory"] == {
        "used_mib": used[-1], "peak_mib": max(used), "limit_mib": 1000,
    }  # fmt: skip


def test_memory_without_a_limit_warns_of_nothing() -> None:
    session = Session(memory_limit_mib=None)
    session.memory_is(10**6)
    assert session.news == []


def test_use_takes_the_idle_warning_back() -> None:
    """The hub repeats it each minute: that is one warning."""
    session = Session()
    session.unused_until(NOW + 900)
    session.unused_until(NOW + 900)
    assert len(session.news) == 1
    session.is_used()
    assert session.news[-1] == []


def test_an_idle_warning_that_is_not_repeated_goes() -> None:
    session, hub = Session(), Hub(NOW + 3600)
    session.unused_until(NOW + 900)
    watched(session, hub, NOW + 60, NOW + 160)
    assert session.warnings == []


DRAIN = {"deed": "drain", "words": "new disks", "at_s": NOW + 600, "ends": True}
MAINTENANCE = {"deed": "maintenance", "words": "", "at_s": NOW + 900, "ends": False}


def test_what_the_scheduler_announces_is_a_warning_until_it_is_taken_back() -> None:
    """The same word again is no news; one warning a kind, of the first that comes."""
    session = Session()
    session.announced([MAINTENANCE, DRAIN, DRAIN | {"at_s": NOW + 60}])
    session.at_s += 30
    session.announced([DRAIN | {"at_s": NOW + 60}, MAINTENANCE])
    assert len(session.news) == 1
    drain, maintenance = (w for w in sorted(session.warnings, key=lambda w: w["kind"]))
    assert (drain["since_s"], drain["at_s"], drain["ends_s"]) == (NOW, NOW + 60, NOW + 60)
    assert (drain["words"], maintenance["kind"]) == ("new disks", "maintenance")
    assert (maintenance["at_s"], maintenance["ends_s"]) == (NOW + 900, None)
    session.announced([MAINTENANCE])
    session.announced([])
    assert session.news[1:] == [[f"maintenance {NOW + 900:.0f} "], []]
    assert session.warnings == []


def test_no_more_time_is_offered_of_a_machine_that_is_taken() -> None:
    """Maintenance alone takes nothing."""
    session = Session(time={"ends_s": NOW + 3600, "longest_s": NOW + 7200, "words": ""})
    session.announced([MAINTENANCE])
    assert session.as_dict()["time"]["longest_s"] == NOW + 7200
    session.announced([MAINTENANCE, DRAIN])
    assert session.as_dict()["time"] == {"ends_s": NOW + 3600, "longest_s": None, "words": ""}
    session.announced([])
    assert session.as_dict()["time"]["longest_s"] == NOW + 7200


def test_an_announcement_leaves_other_warnings_alone() -> None:
    session = Session()
    session.memory_is(950)
    session.announced([])
    assert len(session.news) == 1
    session.announced([DRAIN, DRAIN | {"deed": "something of a later hub's"}])
    assert [w["kind"] for w in session.warnings] == ["memory", "drain"]
