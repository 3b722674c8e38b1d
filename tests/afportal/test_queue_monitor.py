"""One bulk query for everybody, and 'gone' only by the scheduler's own word."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping

import pytest
from prometheus_client import REGISTRY

from afportal.backends import JobStatus, SchedulerError, Standing
from afportal.queue_monitor import QueueMonitor
from afportal.whereabouts import Whereabouts
from tests.afportal.fakes import ScriptedScheduler

LIMIT_S = 10


def run(scenario: Callable[[ScriptedScheduler, QueueMonitor], Awaitable[None]]) -> None:
    async def main() -> None:
        scheduler = ScriptedScheduler()
        monitor = QueueMonitor(scheduler, urgent_s=0.01, calm_s=0.05, timeout_s=1)
        try:
            async with asyncio.timeout(LIMIT_S):
                await scenario(scheduler, monitor)
        finally:
            await monitor.close()

    asyncio.run(main())


def test_a_change_reaches_who_waits_for_it() -> None:
    """Whoever waits for a job hears each change, with the scheduler's reason."""

    async def scenario(scheduler: ScriptedScheduler, monitor: QueueMonitor) -> None:
        scheduler.put("1", Standing.PENDING, "no machine")
        monitor.follow("1")
        first = await monitor.changed("1", None)
        assert (first.standing, first.reason) == (Standing.PENDING, "no machine")
        scheduler.put("1", Standing.HELD, "disk full")
        second = await monitor.changed("1", first)
        assert (second.standing, second.reason) == (Standing.HELD, "disk full")

    run(scenario)


def test_a_silent_scheduler_makes_nothing_gone() -> None:
    """A query that fails leaves every job as it was last seen."""

    async def scenario(scheduler: ScriptedScheduler, monitor: QueueMonitor) -> None:
        scheduler.put("1", Standing.RUNNING)
        monitor.follow("1")
        running = await monitor.changed("1", None)
        scheduler.away = True
        asked = scheduler.asked
        await scheduler.asked_times(asked + 3)
        assert monitor.status("1") == running
        assert monitor.error == "no answer"
        scheduler.away = False
        del scheduler.jobs["1"]
        assert (await monitor.changed("1", running)).standing is Standing.GONE
        assert monitor.error is None

    run(scenario)


def test_a_query_begun_before_a_job_says_nothing_about_it() -> None:
    """A job that is followed while a query is under way is not taken for gone."""

    async def scenario(scheduler: ScriptedScheduler, monitor: QueueMonitor) -> None:
        release = asyncio.Event()
        plain = scheduler.statuses

        async def slow(*_: object, **__: object) -> dict[str, JobStatus]:
            before = scheduler.answer()
            await release.wait()
            return before

        scheduler.statuses = slow  # type: ignore[assignment, method-assign]
        scheduler.put("1", Standing.RUNNING)
        monitor.follow("1")
        await scheduler.asked_times(1)
        scheduler.put("2", Standing.PENDING)
        monitor.follow("2")
        scheduler.statuses = plain  # type: ignore[method-assign]
        release.set()
        assert (await monitor.changed("2", None)).standing is Standing.PENDING

    run(scenario)


def test_twenty_idle_servers_cost_as_many_queries_as_one() -> None:
    """The number of queries follows the clock, not the number of servers."""

    async def count(servers: int) -> int:
        scheduler = ScriptedScheduler()
        monitor = QueueMonitor(scheduler, urgent_s=0.01, calm_s=60, timeout_s=1)
        for number in range(servers):
            scheduler.put(str(number), Standing.RUNNING)
            monitor.follow(str(number))
        await monitor.changed(str(servers - 1), None)
        await monitor.close()
        return scheduler.asked

    async def main() -> None:
        async with asyncio.timeout(LIMIT_S):
            assert await count(20) == await count(1)

    asyncio.run(main())


def test_nothing_is_known_of_a_scheduler_that_never_answered() -> None:
    """After a start, a scheduler that is away gives None, not 'gone'."""

    async def scenario(scheduler: ScriptedScheduler, monitor: QueueMonitor) -> None:
        scheduler.away = True
        assert await monitor.asked("1", timeout_s=0.05) is None

    run(scenario)


def test_unfollowing_ends_the_wait() -> None:
    """Who waits for a job that nobody follows any more is told so."""

    async def scenario(scheduler: ScriptedScheduler, monitor: QueueMonitor) -> None:
        scheduler.put("1", Standing.RUNNING)
        monitor.follow("1")
        running = await monitor.changed("1", None)
        waiting = asyncio.create_task(monitor.changed("1", running))
        await asyncio.sleep(0)
        monitor.unfollow("1")
        assert (await waiting).standing is Standing.GONE

    run(scenario)


@pytest.mark.parametrize("urgent", [True, False])
def test_urgent_is_over_when_nobody_waits(urgent: bool) -> None:
    """The fast rhythm lasts exactly as long as somebody waits."""

    async def scenario(scheduler: ScriptedScheduler, monitor: QueueMonitor) -> None:
        monitor.calm_s = 60
        scheduler.put("1", Standing.RUNNING)
        monitor.follow("1")
        await monitor.changed("1", None)
        before = scheduler.asked
        if urgent:
            with monitor.urgent():
                await scheduler.asked_times(before + 5)
        else:
            await asyncio.sleep(0.1)
            assert scheduler.asked == before

    run(scenario)


def test_a_job_that_may_have_ended_is_asked_for_at_once() -> None:
    """In the urgent rhythm until the scheduler has said so, or for a while."""

    async def scenario(scheduler: ScriptedScheduler, monitor: QueueMonitor) -> None:
        monitor.calm_s, monitor.suspicion_s = 60, 0.1
        scheduler.put("1", Standing.RUNNING)
        monitor.follow("1")
        running = await monitor.changed("1", None)
        monitor.suspect("1")
        await scheduler.asked_times(scheduler.asked + 2)
        await asyncio.sleep(2 * monitor.suspicion_s)
        asked = scheduler.asked
        await asyncio.sleep(10 * monitor.urgent_s)
        assert scheduler.asked == asked
        monitor.suspicion_s = LIMIT_S
        scheduler.put("1", Standing.ENDING)
        monitor.suspect("1")
        ending = await monitor.changed("1", running)
        assert ending.standing is Standing.ENDING
        await asyncio.sleep(5 * monitor.urgent_s)
        del scheduler.jobs["1"]
        assert (await monitor.changed("1", ending)).standing is Standing.GONE

    run(scenario)


def test_a_census_rides_on_the_next_query() -> None:
    """It costs no query of its own, has jobs that nobody follows, and is not older than asked."""

    async def scenario(scheduler: ScriptedScheduler, monitor: QueueMonitor) -> None:
        scheduler.put("1", Standing.RUNNING)
        monitor.follow("1")
        await monitor.changed("1", None)
        asked = scheduler.asked
        scheduler.put("2", Standing.RUNNING)
        assert set(await monitor.census()) == {"1", "2"}
        assert scheduler.asked == asked + 1
        scheduler.away = True
        with pytest.raises(SchedulerError, match="no answer"):
            await monitor.census()

    run(scenario)


def test_a_census_of_a_hub_without_servers() -> None:
    """Who follows nothing asks for it all the same, and then no more."""

    async def scenario(scheduler: ScriptedScheduler, monitor: QueueMonitor) -> None:
        scheduler.put("2", Standing.RUNNING)
        assert set(await monitor.census()) == {"2"}
        await asyncio.sleep(5 * monitor.calm_s)
        assert scheduler.asked == 1

    run(scenario)


def test_where_a_job_runs_is_known_for_a_moment() -> None:
    """While it runs, by the scheduler's last word, if that is not old."""

    async def scenario(scheduler: ScriptedScheduler, monitor: QueueMonitor) -> None:
        here = frozenset({"192.0.2.7"})
        assert monitor.runs_at("1") == frozenset()
        scheduler.jobs["1"] = JobStatus("1", Standing.RUNNING, addresses=here)
        monitor.follow("1")
        running = await monitor.changed("1", None)
        assert monitor.runs_at("1") == here
        scheduler.away = True
        monitor.timeout_s = 0
        await scheduler.asked_times(scheduler.asked + 3)
        assert monitor.runs_at("1") == frozenset()
        scheduler.away, monitor.timeout_s = False, 1
        scheduler.jobs["1"] = JobStatus("1", Standing.PENDING, addresses=here)
        assert (await monitor.changed("1", running)).standing is Standing.PENDING
        assert monitor.runs_at("1") == frozenset()

    run(scenario)


def test_prometheus_sees_a_monitor_that_hears_nothing() -> None:
    """How many jobs it follows, and when it last had an answer: not later than it was away."""

    def figure(name: str) -> float | None:
        return REGISTRY.get_sample_value(name, {"scheduler": "scripted"})

    async def scenario(scheduler: ScriptedScheduler, monitor: QueueMonitor) -> None:
        scheduler.put("1", Standing.RUNNING)
        for job_id in ("1", "2"):
            monitor.follow(job_id)
        await monitor.changed("1", None)
        assert figure("afportal_queue_followed_jobs") == 2
        scheduler.away = True
        away_s = time.time()
        await scheduler.asked_times(scheduler.asked + 2)
        answered_s = figure("afportal_queue_answer_timestamp_seconds")
        assert answered_s is not None
        assert away_s - LIMIT_S < answered_s <= away_s
        monitor.unfollow("2")
        assert figure("afportal_queue_followed_jobs") == 1

    run(scenario)


class HeldBack(ScriptedScheduler):
    """Answers bulk queries with what it knew when they began, once it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.let, self.began = asyncio.Event(), asyncio.Event()

    async def statuses(
        self,
        job_ids: Collection[str],  # noqa: ARG002
        *,
        others: bool = False,  # noqa: ARG002
    ) -> Mapping[str, JobStatus]:
        found = self.answer()
        self.began.set()
        await self.let.wait()
        return found


def test_what_is_learnt_of_one_job_is_newer_than_a_bulk_answer() -> None:
    """Neither the answer before, nor one that comes after but began before, takes it back."""

    async def main() -> None:
        scheduler = HeldBack()
        monitor = QueueMonitor(scheduler, urgent_s=0.01, calm_s=30, timeout_s=5)
        scheduler.put("1", Standing.PENDING)
        monitor.follow("1")
        await scheduler.began.wait()
        scheduler.put("1", Standing.RUNNING)
        running = scheduler.jobs["1"]
        monitor.learn(running)
        assert monitor.status("1") == running
        scheduler.let.set()
        await monitor.census()
        assert await monitor.asked("1", 1) == running
        monitor.learn(JobStatus("7", Standing.RUNNING))
        assert monitor.status("7") is None
        await monitor.close()

    asyncio.run(asyncio.wait_for(main(), LIMIT_S))


def test_where_a_job_runs_is_learnt_by_the_monitor() -> None:
    """A server that says hello is not taken for one whose job waits, by an older bulk answer."""

    async def scenario(scheduler: ScriptedScheduler, monitor: QueueMonitor) -> None:
        scheduler.put("1", Standing.PENDING)
        monitor.follow("1")
        await monitor.changed("1", None)
        scheduler.jobs["1"] = JobStatus(
            "1", Standing.RUNNING, addresses=frozenset({"192.0.2.1"})
        )  # fmt: skip
        found = await Whereabouts(monitor, "1").ask(time.monotonic() + 1)
        assert found == {"192.0.2.1"}
        assert (await monitor.asked("1", 1)) == scheduler.jobs["1"]

    run(scenario)
