"""Schedulers named by their fault, for tests of what the portal makes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from afportal.backends import (
    Backend,
    Cause,
    Ending,
    JobRequest,
    JobStatus,
    SchedulerError,
    Standing,
    Traits,
)
from afportal.pool import Pool


class ScriptedScheduler:
    """Answers what its test last said; counts what it was asked."""

    name = "scripted"
    traits = Traits()

    def __init__(self) -> None:
        self.jobs: dict[str, JobStatus] = {}
        self.cancelled: list[str] = []
        self.asked = 0
        self.away = False
        self._more = asyncio.Event()
        self.heard_cancel = asyncio.Event()

    def put(
        self, job_id: str, standing: Standing, reason: str = "", server: str = "alice/"
    ) -> None:
        self.jobs[job_id] = JobStatus(job_id, standing, reason=reason, server=server)

    def answer(self) -> dict[str, JobStatus]:
        self.asked += 1
        self._more.set()
        if self.away:
            raise SchedulerError("no answer")
        return dict(self.jobs)

    async def asked_times(self, times: int) -> None:
        """Wait until the scheduler was asked so often."""
        while self.asked < times:
            self._more.clear()
            await self._more.wait()

    async def statuses(
        self, job_ids: Collection[str], *, others: bool = False
    ) -> Mapping[str, JobStatus]:
        return self.answer()

    async def submit(self, request: JobRequest) -> str:
        raise SchedulerError("not scripted")

    async def cancel(self, job_id: str, reason: str) -> None:
        if self.away:
            raise SchedulerError("no answer")
        self.cancelled.append(job_id)
        self.heard_cancel.set()
        self.jobs.pop(job_id, None)

    async def ending(self, job_id: str) -> Ending:
        return Ending(Cause.EXITED, "exit code 3")

    async def status(self, job_id: str) -> JobStatus | None:
        return self.answer().get(job_id)

    async def pool(self) -> Pool:
        return Pool()

    async def forget(self, request: JobRequest) -> None:
        return None

    async def close(self) -> None:
        return None


class NeverMatched(Backend):
    """Takes every job and keeps it waiting; people choose nothing of it."""

    def __init__(self, settings: Any, **about: Any) -> None:
        super().__init__(settings, **about)
        self.requests: list[JobRequest] = []
        self._waiting: dict[str, JobStatus] = {}

    async def submit(self, request: JobRequest) -> str:
        self.requests.append(request)
        job = str(len(self.requests))
        self._waiting[job] = JobStatus(job, Standing.PENDING, server=request.server)
        return job

    async def statuses(
        self, job_ids: Collection[str], *, others: bool = False
    ) -> Mapping[str, JobStatus]:
        return dict(self._waiting)

    async def cancel(self, job_id: str, reason: str) -> None:
        self._waiting.pop(job_id, None)
