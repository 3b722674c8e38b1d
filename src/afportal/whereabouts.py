"""Where one job runs, by its scheduler: whose requests are the job's."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time

from afportal.backends import JobStatus
from afportal.queue_monitor import QueueMonitor

# What it said is believed for so long: the time from exchange to hello.
FRESH_S = 30.0


class Whereabouts:
    """What the scheduler said when it was last asked for this job alone."""

    def __init__(self, monitor: QueueMonitor, job_id: str) -> None:
        self._monitor = monitor
        self.job_id = job_id
        self._asked_s = -math.inf
        self.status: JobStatus | None = None

    def known(self) -> frozenset[str]:
        """Return the addresses of the machine that ran the job a moment ago."""
        found = self._monitor.runs_at(self.job_id)
        if self.status is not None and time.monotonic() - self._asked_s < FRESH_S:
            found |= self.status.addresses
        return found

    async def ask(self, until_s: float) -> frozenset[str]:
        """Return the addresses of the machine that runs the job, none if there is no such.

        Waits for a scheduler that has not caught up with a job that already calls, until the
        monotonic clock shows `until_s`. Raises `SchedulerError`.
        """
        told = self._monitor.status(self.job_id)
        while True:
            self.status = await self._monitor.backend.status(self.job_id)
            self._asked_s = time.monotonic()
            if self.status is not None:
                # A bulk answer from before the job began must not outlive this one: a server
                # that said hello, and whose job "waits", is one that lost its machine.
                self._monitor.learn(self.status)
            found = self.status.addresses if self.status is not None else frozenset()
            if found or time.monotonic() > until_s:
                return found
            with self._monitor.urgent(), contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    told = await self._monitor.changed(self.job_id, told)
