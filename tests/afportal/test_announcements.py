"""What a scheduler has announced is asked for seldom, and never holds anything up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import classad2
import pytest

from afportal.backends import (
    Announced,
    Deed,
    JobStatus,
    SchedulerError,
    Standing,
    announcements,
    htcondor_pool,
    slurm_announced,
)
from afportal.backends.announcements import Announcements, Told
from afportal.backends.htcondor import HTCondorBackend
from afportal.backends.slurm import SlurmBackend

DATA = Path(__file__).parents[1] / "data"

AT_S = 1_800_000_000.0
DRAIN = Announced(Deed.DRAIN, "disks", AT_S, ends=True)


class Scheduler:
    """Answers what its test last said, when it lets it."""

    def __init__(self) -> None:
        self.told: Told = {}
        self.asked = 0
        self.away = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def ask(self) -> Told:
        self.asked += 1
        await self.answers.wait()
        if self.away:
            raise SchedulerError("no answer")
        return self.told


def looked_at(run: Callable[[Scheduler, Announcements], Awaitable[None]]) -> None:
    """Have the test's own coroutine look at a scheduler that drains one machine."""

    async def with_both() -> None:
        scheduler = Scheduler()
        scheduler.told = {"ep": (DRAIN,)}
        await run(scheduler, Announcements("test", scheduler.ask))

    asyncio.run(with_both())


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look asks anew."""
    monkeypatch.setattr(announcements, "EVERY_S", 0.0)


def test_one_answer_is_for_everybody() -> None:
    """Twenty looks in a moment are one question."""

    async def run(scheduler: Scheduler, watch: Announcements) -> None:
        for told in await asyncio.gather(*(watch.look() for _ in range(20))):
            assert told == {"ep": (DRAIN,)}
        assert scheduler.asked == 1

    looked_at(run)


def test_a_scheduler_that_hangs_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer counts when it comes."""
    monkeypatch.setattr(announcements, "PATIENCE_S", 0.01)

    async def run(scheduler: Scheduler, watch: Announcements) -> None:
        scheduler.answers.clear()
        assert await watch.look() == {}
        scheduler.answers.set()
        assert await watch.look() == {"ep": (DRAIN,)}
        assert scheduler.asked == 1

    looked_at(run)


@pytest.mark.usefixtures("always")
def test_one_that_is_away_takes_nothing_back() -> None:
    async def run(scheduler: Scheduler, watch: Announcements) -> None:
        await watch.look()
        scheduler.away = True
        assert await watch.look() == {"ep": (DRAIN,)}
        scheduler.away, scheduler.told = False, {}
        assert await watch.look() == {}
        assert scheduler.asked == 3

    looked_at(run)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    ("now", "moved"),
    [
        (replace(DRAIN, at_s=AT_S + 2), False),
        (replace(DRAIN, at_s=AT_S - 2), False),
        (replace(DRAIN, at_s=AT_S + 300), True),
        (replace(DRAIN, at_s=None), True),
        (replace(DRAIN, words="no disks"), True),
    ],
)
def test_a_time_that_two_clocks_move_is_no_news(now: Announced, moved: bool) -> None:
    async def run(scheduler: Scheduler, watch: Announcements) -> None:
        await watch.look()
        scheduler.told = {"ep": (now,)}
        assert (await watch.look())["ep"] == ((now if moved else DRAIN),)

    looked_at(run)


# HTCondor


def ads(name: str) -> list[classad2.ClassAd]:
    lines = (DATA / "htcondor" / f"{name}.ads").read_text().splitlines()
    return [classad2.ClassAd(line) for line in lines]


def found_by_constraint(slots: list[classad2.ClassAd]) -> list[classad2.ClassAd]:
    taken_back = classad2.ExprTree(htcondor_pool.TAKEN_BACK)
    return [slot for slot in slots if taken_back.eval(slot) is True]


def test_a_slot_says_when_its_machine_is_taken_from_the_job() -> None:
    """Of a startd that is drained: when the retirement time of each job is over, and why."""
    found = htcondor_pool.taken_back(found_by_constraint(ads("drained")))
    assert found["slot2@mini"] == found["slot1_1@mini"]
    assert found["slot2@mini"] == (
        Announced(Deed.DRAIN, "new disks in the rack", 1795998352.0 + 7191, ends=True),
    )


def test_slots_in_use_are_not_taken_back() -> None:
    """Nor are those that are claimed and busy, or kept for the next job."""
    slots = ads("slots")
    assert {slot.get("Activity") for slot in slots} >= {"Busy", "Idle"}
    assert found_by_constraint(slots) == []


def test_a_slot_that_is_taken_for_another_job_is_no_drain() -> None:
    slot = ads("drained")[1]
    for name in ("Draining", "DrainReason"):
        del slot[name]
    (announced,) = htcondor_pool.taken_back(found_by_constraint([slot])).values()
    assert announced == (Announced(Deed.PREEMPTION, "", 1795998352.0 + 7191, ends=True),)


def test_what_a_slot_says_is_its_jobs() -> None:
    """By the bulk answer, which names each job's slot; where nobody runs nobody is asked."""
    backend: Any = object.__new__(HTCondorBackend)
    backend.name, backend.cell = "htcondor", "hub"
    asked = []
    jobs = [
        {"ClusterId": 7, "ProcId": 0, "JobStatus": 2, "RemoteHost": "slot2@mini"},
        {"ClusterId": 8, "ProcId": 0, "JobStatus": 2, "RemoteHost": "slot9@mini"},
        {"ClusterId": 9, "ProcId": 0, "JobStatus": 1},
    ]

    async def ask(*_: Any) -> list[classad2.ClassAd]:
        return [classad2.ClassAd(job) for job in jobs]

    async def ask_collector(*what: Any) -> list[classad2.ClassAd]:
        asked.append(what)
        return found_by_constraint(ads("drained"))

    backend._ask, backend._ask_collector = ask, ask_collector
    backend._announced = Announcements("htcondor", backend._taken_back)

    async def run() -> None:
        told = await backend.statuses(["7.0"])
        assert [one.deed for one in told["7.0"].announced] == [Deed.DRAIN]
        assert told["8.0"].announced == told["9.0"].announced == ()
        await backend.statuses(["7.0"])
        assert len(asked) == 1

    asyncio.run(run())
    asked.clear()
    del jobs[:2]
    backend._announced = Announcements("htcondor", backend._taken_back)
    asyncio.run(backend.statuses([]))
    assert asked == []


# Slurm


def answer(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / "slurm" / f"{name}.json").read_text())
    return found


RESERVED_S = 1795999858.0


def of_nodes(now_s: float = RESERVED_S - 1200) -> dict[str, tuple[Announced, ...]]:
    return slurm_announced.of_nodes(
        answer("nodes-drained"), answer("reservations-maintenance"), now_s
    )


def test_a_node_that_is_drained_and_reserved_for_maintenance() -> None:
    """The operators' reason, and the reservation's name; neither ends a job by itself."""
    drain = Announced(Deed.DRAIN, "new disks")
    assert of_nodes() == {
        "slurm-node-1": (drain, Announced(Deed.MAINTENANCE, "rack-7", RESERVED_S))
    }
    assert of_nodes(RESERVED_S + 3600) == {"slurm-node-1": (drain,)}, "it is over"
    calm = slurm_announced.of_nodes(answer("nodes"), answer("reservations"), RESERVED_S)
    assert calm == {}


def test_a_reservation_for_people_is_no_maintenance() -> None:
    reservations = answer("reservations-maintenance")
    reservations["reservations"][0]["flags"] = ["SPEC_NODES"]
    assert slurm_announced.of_nodes(answer("nodes"), reservations, RESERVED_S) == {}


def test_maintenance_after_its_end_is_nothing_to_a_job() -> None:
    about = of_nodes()["slurm-node-1"]
    job = JobStatus("1", Standing.RUNNING, node="slurm-node-1", ends_s=RESERVED_S + 60)
    assert slurm_announced.to_job(job, about) == about
    assert slurm_announced.to_job(replace(job, ends_s=None), about) == about
    assert slurm_announced.to_job(replace(job, ends_s=RESERVED_S), about) == about[:1]
    assert slurm_announced.to_job(replace(job, standing=Standing.ENDING), about) == ()


def test_a_job_that_is_preempted_has_another_end() -> None:
    """Its partition's grace time after that; whatever its node's lot is stays beside it."""
    status = SlurmBackend._status_of(answer("job-preempted")["jobs"][0])
    (preempted,) = status.announced
    assert preempted == Announced(Deed.PREEMPTION, "", 1795998701.0, ends=True)
    assert status.ends_s == status.taken_s == 1795998701.0
    assert SlurmBackend._status_of(answer("job-running")["jobs"][0]).announced == ()
    drain = of_nodes()["slurm-node-1"][:1]
    assert slurm_announced.to_job(status, drain) == (preempted, *drain)
