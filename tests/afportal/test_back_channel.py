"""What a running session is told of its time, and how it gets more."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest

from afportal.back_channel import NoMoreTime, TimeLimit, WithBackChannel
from afportal.backends import Announced, Deed, JobStatus, Standing
from afportal.queue_monitor import QueueMonitor
from tests.afportal.fakes import ScriptedScheduler

START, HOUR = 1_800_000_000.0, 3600.0


class LengtheningScheduler(ScriptedScheduler):
    """One that lets the hub give more time."""

    async def lengthen(self, job_id: str, runtime_min: int) -> None:
        self.jobs[job_id] = replace(self.jobs[job_id], ends_s=START + 60 * runtime_min)


class Server(WithBackChannel):
    """A spawner's part, of a job that began at START and may run for an hour."""

    def __init__(self, backend: ScriptedScheduler, longest_min: int = 240) -> None:
        self.scheduler = backend
        backend.title = "Slurm"
        backend.jobs["7"] = JobStatus(
            "7", Standing.RUNNING, matched_s=START, ends_s=START + HOUR, node="node-1"
        )
        self.queue = QueueMonitor(backend)
        settings = SimpleNamespace(contact="help@facility.example")
        self.portal = SimpleNamespace(settings=settings)  # type: ignore[assignment]
        self.backend_name, self.job_id, self.longest_min = "slurm", "7", longest_min
        self.log, self._log_name = logging.getLogger("test"), "alice"
        self.said: list[str] = []
        self.presence: Any = SimpleNamespace(say=self.said.append, held=True)

    @property
    def backend(self) -> Any:
        return self.scheduler

    @property
    def monitor(self) -> QueueMonitor:
        return self.queue


def test_more_time_within_the_ceiling() -> None:
    """Each grant counts from the job's start, and ends at the class's ceiling."""
    server = Server(LengtheningScheduler())
    assert asyncio.run(server.time_limit()) == TimeLimit(START + HOUR, START + 4 * HOUR)
    assert asyncio.run(server.more_time(60)) == TimeLimit(START + 2 * HOUR, START + 4 * HOUR)
    with pytest.raises(NoMoreTime, match="121 minutes more asked; its class allows 120 more, 240"):
        asyncio.run(server.more_time(121))
    full = asyncio.run(server.more_time(120))
    assert (full.ends_s, full.longest_s) == (START + 4 * HOUR, None)
    assert "all the time that its class allows, 240 minutes" in full.words
    with pytest.raises(NoMoreTime, match="1 minutes more asked"):
        asyncio.run(server.more_time(1))


def test_where_only_an_operator_can() -> None:
    """The words name whom to ask, and for what."""
    server = Server(ScriptedScheduler())
    words = "Only an operator of Slurm can give a running job more time: ask help@facility.example"
    assert asyncio.run(server.time_limit()).words.startswith(words)
    with pytest.raises(NoMoreTime, match="Only an operator of Slurm"):
        asyncio.run(server.more_time(60))


def test_a_job_without_a_limit() -> None:
    server = Server(LengtheningScheduler())
    server.scheduler.jobs["7"] = JobStatus("7", Standing.RUNNING)
    assert asyncio.run(server.time_limit()) == TimeLimit()
    with pytest.raises(NoMoreTime, match="no time limit"):
        asyncio.run(server.more_time(60))


def test_another_end_is_told() -> None:
    """By the scheduler's bulk answer: an operator changed it, or the hub did."""
    server = Server(ScriptedScheduler())
    before = server.scheduler.jobs["7"]
    server.tell_end(None, before)
    server.tell_end(before, replace(before, reason="other words"))
    assert server.said == []
    server.tell_end(before, replace(before, ends_s=START + 2 * HOUR))
    assert server.said == [f"ends {START + 2 * HOUR:.0f}"]


def test_a_session_that_asks_often_asks_its_scheduler_seldom() -> None:
    """A loop in a notebook must not take the threads that others' submits need."""
    server = Server(ScriptedScheduler())

    async def often() -> None:
        limits = await asyncio.gather(*(server.time_limit() for _ in range(20)))
        assert {limit.ends_s for limit in limits} == {START + HOUR}

    asyncio.run(often())
    assert server.scheduler.asked == 1


def test_a_server_of_an_older_hub_is_not_told_of_no_minutes() -> None:
    server = Server(LengtheningScheduler(), longest_min=0)
    assert asyncio.run(server.time_limit()) == TimeLimit(START + HOUR)
    with pytest.raises(NoMoreTime, match="its ceiling is not known"):
        asyncio.run(server.more_time(60))


DRAIN = Announced(Deed.DRAIN, "new disks & more", START + 600, ends=True)


def heard(server: Server) -> list[Any]:
    """What was announced, as the session reads it."""
    said, server.said[:] = [*server.said], []
    assert all(line.startswith("announced ") and len(line.split()) == 2 for line in said), said
    return [json.loads(unquote(line.split()[1])) for line in said]


def test_what_a_scheduler_is_about_to_do_is_told_once() -> None:
    """In one word of the line; anew to a session that has another connection."""
    server = Server(ScriptedScheduler())
    calm = server.scheduler.jobs["7"]
    drained = replace(calm, announced=(DRAIN,))
    server.tell_announced(None, anew=True)
    server.tell_announced(calm)
    server.tell_announced(drained)
    server.tell_announced(replace(drained, reason="other words"))
    told = {"deed": "drain", "words": "new disks & more", "at_s": START + 600, "ends": True}
    assert heard(server) == [[], [told]]
    server.tell_announced(drained, anew=True)
    server.tell_announced(calm)
    assert heard(server) == [[told], []]


def test_nothing_is_announced_to_nobody() -> None:
    """Who holds no connection hears of it with the next; a job that is over is told nothing."""
    server = Server(ScriptedScheduler())
    drained = replace(server.scheduler.jobs["7"], announced=(DRAIN,))
    server.presence.held = False
    server.tell_announced(drained)
    server.presence.held = True
    server.tell_announced(replace(drained, standing=Standing.GONE))
    assert server.said == []
    server.tell_announced(drained)
    assert len(heard(server)) == 1


def test_a_machine_that_is_taken_back_is_the_end() -> None:
    """Whatever time is left: no more is promised, nor given."""
    server = Server(LengtheningScheduler())
    before = server.scheduler.jobs["7"]
    server.scheduler.jobs["7"] = now = replace(before, announced=(DRAIN,))
    limit = asyncio.run(server.time_limit())
    assert (limit.ends_s, limit.longest_s) == (START + 600, None)
    assert limit.words == "Slurm takes its machine back then, whatever time is left."
    with pytest.raises(NoMoreTime, match=r"60 minutes more asked\. Slurm takes its machine back"):
        asyncio.run(server.more_time(60))
    server.tell_end(before, now)
    server.tell_end(now, before)
    assert server.said == [f"ends {START + 600:.0f}", f"ends {START + HOUR:.0f}"]
    maintenance = Announced(Deed.MAINTENANCE, at_s=START + 600)
    server.tell_end(before, replace(before, announced=(maintenance,)))
    assert len(server.said) == 2
