"""Jobs ↔ servers: what carries this cell's tag and belongs to no server is cancelled.

A server without its job is found by `PortalSpawner.poll`; a job without its server (a hub
that died between submit and the commit of the job's id, a submit whose answer was lost, a
cancel that the scheduler did not hear) is found here. Other cells' jobs are never looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping

from afportal.backends import JobRefused, SchedulerError, Standing
from afportal.queue_monitor import QueueMonitor

log = logging.getLogger(__name__)


class Reconciler:
    """Compares the queues with the servers that the hub knows.

    Args:
        monitors: name of a backend → who asks it.
        owned: returns (backend, job id) → `person/name` of every server of this hub, starting
            ones included.
        every_s: pause between two rounds. A job must be ownerless in two rounds that
            follow each other: a submit that is under way has a job before it has a server.
            One is enough in the first after a start, and where the server has another job.
    """

    def __init__(
        self,
        monitors: Mapping[str, QueueMonitor],
        owned: Callable[[], Mapping[tuple[str, str], str]],
        *,
        every_s: float = 60.0,
    ) -> None:
        self._monitors = monitors
        self._owned = owned
        self._every_s = every_s
        self._suspects: set[tuple[str, str]] = set()
        self._soon = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def round(self, *, at_once: bool = False) -> list[tuple[str, str]]:
        """Look once at every scheduler; return what was cancelled.

        Args:
            at_once: cancel without waiting for a second round.
        """
        cancelled: list[tuple[str, str]] = []
        suspects: set[tuple[str, str]] = set()
        before = set(self._owned())
        answers = await asyncio.gather(
            *(monitor.census(at_once=at_once) for monitor in self._monitors.values()),
            return_exceptions=True,
        )
        now = self._owned()
        owned = before | set(now)
        served = set(now.values())
        for (name, monitor), census in zip(self._monitors.items(), answers, strict=True):
            if isinstance(census, BaseException):
                log.debug("reconciler: %s", census)
                suspects |= {key for key in self._suspects if key[0] == name}
                continue
            for job_id, status in census.items():
                key = (name, job_id)
                if key in owned or status.standing in (Standing.GONE, Standing.ENDING):
                    continue
                certain = at_once or status.server in served
                if not certain and key not in self._suspects:
                    suspects.add(key)
                    continue
                log.warning(
                    "%s job %s of %s has no server; it is cancelled", name, job_id, status.server
                )
                try:
                    await monitor.backend.cancel(job_id, "no server of this hub belongs to it")
                    cancelled.append(key)
                except (SchedulerError, JobRefused) as error:
                    log.warning("reconciler: cannot cancel %s: %s", job_id, error)
                    suspects.add(key)
        self._suspects = suspects
        return cancelled

    def look_soon(self) -> None:
        """Do not wait for the next round: there may be a job that was given up."""
        self._soon.set()

    def start(self) -> None:
        """Begin with a round at once, then go on."""
        self._task = asyncio.create_task(self._run(), name="reconciler")

    async def close(self) -> None:
        """End the rounds."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        at_once = True
        while True:
            try:
                await self.round(at_once=at_once)
                at_once = False
            except Exception:
                log.exception("reconciler: round failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._soon.wait()
            self._soon.clear()
