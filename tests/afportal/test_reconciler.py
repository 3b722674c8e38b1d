"""Jobs without a server are cancelled, and only those."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from afportal.backends import Standing
from afportal.queue_monitor import QueueMonitor
from afportal.reconciler import Reconciler
from tests.afportal.fakes import ScriptedScheduler

LIMIT_S = 10
Owned = dict[tuple[str, str], str]


def run(scenario: Callable[[ScriptedScheduler, Reconciler, Owned], Awaitable[None]]) -> None:
    async def main() -> None:
        scheduler = ScriptedScheduler()
        monitor = QueueMonitor(scheduler, urgent_s=0.01, calm_s=0.01, timeout_s=1)
        owned: Owned = {}
        try:
            async with asyncio.timeout(LIMIT_S):
                await scenario(scheduler, Reconciler({"scripted": monitor}, lambda: owned), owned)
        finally:
            await monitor.close()

    asyncio.run(main())


def test_an_ownerless_job_is_cancelled_in_the_second_round() -> None:
    """A job may be on its way to its server: only a second look cancels it."""

    async def scenario(scheduler: ScriptedScheduler, reconciler: Reconciler, owned: Owned) -> None:
        scheduler.put("1", Standing.RUNNING)
        scheduler.put("2", Standing.RUNNING, server="bob/")
        owned["scripted", "1"] = "alice/"
        assert await reconciler.round() == []
        assert await reconciler.round() == [("scripted", "2")]
        assert scheduler.cancelled == ["2"]

    run(scenario)


def test_the_second_job_of_a_server_is_cancelled_at_once() -> None:
    """A submit whose answer was lost left it: the server got another job since."""

    async def scenario(scheduler: ScriptedScheduler, reconciler: Reconciler, owned: Owned) -> None:
        scheduler.put("1", Standing.PENDING)
        scheduler.put("2", Standing.RUNNING)
        owned["scripted", "2"] = "alice/"
        assert await reconciler.round() == [("scripted", "1")]
        assert list(scheduler.jobs) == ["2"]

    run(scenario)


def test_a_round_does_not_wait_when_a_job_is_in_doubt() -> None:
    """A spawner that tried a submit again has the queue looked at now."""

    async def scenario(scheduler: ScriptedScheduler, reconciler: Reconciler, owned: Owned) -> None:
        reconciler.start()
        await scheduler.asked_times(1)
        scheduler.put("1", Standing.PENDING)
        scheduler.put("2", Standing.RUNNING)
        owned["scripted", "2"] = "alice/"
        reconciler.look_soon()
        await scheduler.heard_cancel.wait()
        assert scheduler.cancelled == ["1"]
        await reconciler.close()

    run(scenario)


def test_a_hub_that_just_started_cancels_at_once() -> None:
    """After a restart nothing is on its way: an ownerless job goes in the first round."""

    async def scenario(scheduler: ScriptedScheduler, reconciler: Reconciler, _: Owned) -> None:
        scheduler.put("2", Standing.PENDING)
        assert await reconciler.round(at_once=True) == [("scripted", "2")]

    run(scenario)


def test_a_server_that_came_meanwhile_saves_its_job() -> None:
    """A job that got its server between the rounds is left alone."""

    async def scenario(scheduler: ScriptedScheduler, reconciler: Reconciler, owned: Owned) -> None:
        scheduler.put("2", Standing.RUNNING)
        await reconciler.round()
        owned["scripted", "2"] = "alice/"
        assert await reconciler.round() == []
        assert scheduler.cancelled == []

    run(scenario)


def test_a_scheduler_that_is_away_keeps_its_suspects() -> None:
    """An outage neither cancels nor acquits."""

    async def scenario(scheduler: ScriptedScheduler, reconciler: Reconciler, _: Owned) -> None:
        scheduler.put("2", Standing.RUNNING)
        await reconciler.round()
        scheduler.away = True
        assert await reconciler.round() == []
        scheduler.away = False
        assert await reconciler.round() == [("scripted", "2")]

    run(scenario)
