"""Jobs ↔ servers: what carries this cell's tag and belongs to no server is cancelled.

A server without its job is found by `PortalSpawner.poll`; a job without its server (a hub
that died between submit and the commit of the job's id, a submit whose answer was lost, a
cancel that the scheduler did not hear) is found here. Other cells' jobs are never looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from afportal.backends import JobRefused, JobStatus, SchedulerError, Standing
from afportal.queue_monitor import QueueMonitor

log = logging.getLogger(__name__)

# What is shown to an administrator.
DEEDS_KEPT = 200


@dataclass(frozen=True)
class Deed:
    """What was done about one job.

    Args:
        at_s: unix seconds.
        server: `person/name`, as the job was submitted for.
        what: "cancelled" or "not cancelled".
        why: the reason, or what stood in the way.
    """

    at_s: float
    backend: str
    job_id: str
    server: str
    what: str
    why: str


@dataclass(frozen=True)
class Round:
    """One look at every scheduler.

    Args:
        at_s: when it began, unix seconds.
        took_s: how long it took.
        jobs: backend → this cell's jobs there; without a backend that did not answer.
        servers: servers of this cell with a job.
        adopted: jobs that were there when this hub started, and whose servers it took over.
        suspects: jobs without a server that the next round will cancel.
    """

    at_s: float
    took_s: float
    jobs: Mapping[str, int]
    servers: int
    adopted: int
    suspects: int


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
        self.newest: Round | None = None
        self._adopted = 0
        self.deeds: deque[Deed] = deque(maxlen=DEEDS_KEPT)
        self._task: asyncio.Task[None] | None = None

    async def round(self, *, at_once: bool = False) -> list[tuple[str, str]]:
        """Look once at every scheduler; return what was cancelled.

        Args:
            at_once: cancel without waiting for a second round.
        """
        began_s = time.time()
        jobs: dict[str, int] = {}
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
            jobs[name] = len(census)
            for job_id, status in census.items():
                key = (name, job_id)
                self._adopted += at_once and key in owned
                if key in owned or status.standing in (Standing.GONE, Standing.ENDING):
                    continue
                certain = at_once or status.server in served
                if not certain and key not in self._suspects:
                    suspects.add(key)
                    continue
                other = status.server in served
                why = "its server has another job" if other else "no server of this hub has it"
                log.warning("%s job %s of %s: %s; it is cancelled", *key, status.server, why)
                try:
                    await monitor.backend.cancel(job_id, why)
                    cancelled.append(key)
                    self._did(key, status, "cancelled", why)
                except (SchedulerError, JobRefused) as error:
                    log.warning("reconciler: cannot cancel %s: %s", job_id, error)
                    self._did(key, status, "not cancelled", str(error))
                    suspects.add(key)
        self._suspects = suspects
        self.newest = Round(
            began_s, time.time() - began_s, jobs, len(owned), self._adopted, len(suspects)
        )
        return cancelled

    def _did(self, key: tuple[str, str], status: JobStatus, what: str, why: str) -> None:
        # Of one that cannot be cancelled, round after round, only the newest try is kept.
        for deed in [d for d in self.deeds if (d.backend, d.job_id) == key]:
            self.deeds.remove(deed)
        self.deeds.append(Deed(time.time(), *key, status.server, what, why))

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
