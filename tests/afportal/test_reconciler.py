"""Jobs without a server are cancelled, and only those."""

from __future__ import annotations

import asyncio

from afportal.backends import Standing
from afportal.reconciler import Reconciler
from tests.afportal.fakes import ScriptedScheduler


def test_an_ownerless_job_is_cancelled_in_the_second_round() -> None:
    """A job may be on its way to its server: only a second look cancels it."""
    scheduler = ScriptedScheduler()
    scheduler.put("1", Standing.RUNNING)
    scheduler.put("2", Standing.RUNNING)
    reconciler = Reconciler({"scripted": scheduler}, lambda: {("scripted", "1")})
    assert asyncio.run(reconciler.round()) == []
    assert asyncio.run(reconciler.round()) == [("scripted", "2")]
    assert scheduler.cancelled == ["2"]


def test_a_hub_that_just_started_cancels_at_once() -> None:
    """After a restart nothing is on its way: an ownerless job goes in the first round."""
    scheduler = ScriptedScheduler()
    scheduler.put("2", Standing.PENDING)
    reconciler = Reconciler({"scripted": scheduler}, set)
    assert asyncio.run(reconciler.round(at_once=True)) == [("scripted", "2")]


def test_a_server_that_came_meanwhile_saves_its_job() -> None:
    """A job that got its server between the rounds is left alone."""
    scheduler = ScriptedScheduler()
    scheduler.put("2", Standing.RUNNING)
    owned: set[tuple[str, str]] = set()
    reconciler = Reconciler({"scripted": scheduler}, lambda: owned)
    asyncio.run(reconciler.round())
    owned.add(("scripted", "2"))
    assert asyncio.run(reconciler.round()) == []
    assert scheduler.cancelled == []


def test_a_scheduler_that_is_away_keeps_its_suspects() -> None:
    """An outage neither cancels nor acquits."""
    scheduler = ScriptedScheduler()
    scheduler.put("2", Standing.RUNNING)
    reconciler = Reconciler({"scripted": scheduler}, set)
    asyncio.run(reconciler.round())
    scheduler.away = True
    assert asyncio.run(reconciler.round()) == []
    scheduler.away = False
    assert asyncio.run(reconciler.round()) == [("scripted", "2")]
