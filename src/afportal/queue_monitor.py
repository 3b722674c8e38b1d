"""One bulk query a scheduler and hub process, however many servers there are.

Whoever waits for a job's next change raises the rhythm while it waits; otherwise a slow
query serves every `poll()`. A job counts as gone only when a query that began after the
job was followed was answered and does not know it: a scheduler that does not answer
changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator, Mapping

from afportal.backends import Backend, JobStatus, SchedulerError, Standing
from afportal.phases import ANSWERED, FOLLOWED

log = logging.getLogger(__name__)

# Where a job stands that can have no session any more.
_NO_SERVER = (Standing.GONE, Standing.HELD, Standing.PENDING)


class QueueMonitor:
    """Follows jobs of one backend.

    Args:
        backend: the scheduler.
        urgent_s: pause between queries while somebody waits.
        calm_s: pause otherwise.
        timeout_s: a query that takes longer counts as not answered.
        suspicion_s: how long the urgent rhythm goes on for a job that may have ended.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        urgent_s: float = 0.5,
        calm_s: float = 30.0,
        timeout_s: float = 15.0,
        suspicion_s: float = 15.0,
    ) -> None:
        self.backend = backend
        self.urgent_s = urgent_s
        self.calm_s = calm_s
        self.timeout_s = timeout_s
        self.suspicion_s = suspicion_s
        self.last_ok_s: float | None = None
        self.error: str | None = None
        self.queries = 0
        self._followed: set[str] = set()
        self._statuses: dict[str, JobStatus] = {}
        # Jobs that were learnt of while a bulk query was under way: what that says is older.
        self._learnt: set[str] = set()
        self._waiters = 0
        self._awaited: dict[str, set[asyncio.Future[JobStatus]]] = {}
        self._looking: set[asyncio.Task[None]] = set()
        self._census: asyncio.Future[Mapping[str, JobStatus]] | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def follow(self, job_id: str) -> None:
        """Begin to ask for a job; a query that is under way says nothing about it yet."""
        if job_id not in self._followed:
            self._followed.add(job_id)
            FOLLOWED.labels(self.backend.name).set(len(self._followed))
            self._wake.set()
        self._begin()

    def _begin(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"queue monitor {self.backend.name}")

    def unfollow(self, job_id: str) -> None:
        """Stop asking for a job."""
        self._followed.discard(job_id)
        FOLLOWED.labels(self.backend.name).set(len(self._followed))
        self._statuses.pop(job_id, None)
        self._tell(JobStatus(job_id, Standing.GONE, "no longer followed"))

    def status(self, job_id: str) -> JobStatus | None:
        """Return the last thing the scheduler said, None if it said nothing yet."""
        return self._statuses.get(job_id)

    def learn(self, status: JobStatus) -> None:
        """Take what the scheduler said just now about one followed job, asked for it alone."""
        if status.job_id in self._followed:
            self._learnt.add(status.job_id)
            self._take(status)

    def _take(self, now: JobStatus) -> None:
        before = self._statuses.get(now.job_id)
        self._statuses[now.job_id] = now
        if now != before:
            self._tell(now)

    def runs_at(self, job_id: str) -> frozenset[str]:
        """Return a running job's addresses by an answer of just now, empty if there is none."""
        status = self._statuses.get(job_id)
        fresh_s = self.calm_s + self.timeout_s
        if (
            status is None
            or status.standing is not Standing.RUNNING
            or self.last_ok_s is None
            or time.time() - self.last_ok_s > fresh_s
        ):
            return frozenset()
        return status.addresses

    async def census(self, *, at_once: bool = False) -> Mapping[str, JobStatus]:
        """Return every living job of this cell's, servers' or not, from the next query.

        Args:
            at_once: ask now, not when it is time again.

        Raises:
            SchedulerError: that was not answered.
        """
        if self._census is None:
            self._census = asyncio.get_running_loop().create_future()
        if at_once:
            self._wake.set()
        self._begin()
        return await asyncio.shield(self._census)

    @property
    def jobs(self) -> int:
        """How many jobs are followed."""
        return len(self._followed)

    @contextlib.contextmanager
    def urgent(self) -> Iterator[None]:
        """Query in the urgent rhythm while the context is open."""
        self._waiters += 1
        self._wake.set()
        try:
            yield
        finally:
            self._waiters -= 1

    def suspect(self, job_id: str) -> None:
        """Ask often, for a while, about a job that may have ended."""
        if job_id in self._followed:
            task = asyncio.create_task(self._look_closely(job_id), name=f"look for {job_id}")
            self._looking.add(task)
            task.add_done_callback(self._looking.discard)

    async def _look_closely(self, job_id: str) -> None:
        with self.urgent(), contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.suspicion_s):
                known = self._statuses.get(job_id)
                while known is None or known.standing not in _NO_SERVER:
                    known = await self.changed(job_id, known)

    async def changed(self, job_id: str, known: JobStatus | None) -> JobStatus:
        """Wait until the scheduler says something else about a job than `known`."""
        now = self._statuses.get(job_id)
        if now is not None and now != known:
            return now
        future: asyncio.Future[JobStatus] = asyncio.get_running_loop().create_future()
        futures = self._awaited.setdefault(job_id, set())
        futures.add(future)
        try:
            return await future
        finally:
            futures.discard(future)
            if not futures and self._awaited.get(job_id) is futures:
                del self._awaited[job_id]

    def _tell(self, status: JobStatus) -> None:
        for future in self._awaited.get(status.job_id, ()):
            if not future.done():
                future.set_result(status)

    async def asked(self, job_id: str, timeout_s: float) -> JobStatus | None:
        """Return a job's status, waiting a little for the first answer after a start.

        Returns None when the scheduler does not answer in time: nothing is known then.
        """
        self.follow(job_id)
        if job_id not in self._statuses:
            with self.urgent(), contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    return await self.changed(job_id, None)
        return self._statuses.get(job_id)

    async def close(self) -> None:
        """End the querying task."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while self._followed or self._census is not None:
            await self._query()
            pause_s = self.urgent_s if self._waiters else self.calm_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            self._wake.clear()

    async def _query(self) -> None:
        followed = frozenset(self._followed)
        self._learnt.clear()
        census, self._census = self._census, None
        self.queries += 1
        try:
            found = await self._answer(followed, others=census is not None)
        except SchedulerError as error:
            if self.error is None:
                log.warning(
                    "%s: %s; %d jobs keep their last known state",
                    self.backend.name,
                    error,
                    len(followed),
                )
            self.error = str(error)
            if census is not None:
                census.set_exception(error)
            return
        if self.error is not None:
            log.info("%s answers again", self.backend.name)
        self.error, self.last_ok_s = None, time.time()
        ANSWERED.labels(self.backend.name).set(self.last_ok_s)
        for job_id in followed & self._followed - self._learnt:
            before = self._statuses.get(job_id)
            self._take(
                found.get(job_id)
                or JobStatus(
                    job_id,
                    Standing.GONE,
                    "not in the queue",
                    server=before.server if before else "",
                )
            )
        if census is not None:
            census.set_result(found)

    async def _answer(self, followed: frozenset[str], *, others: bool) -> Mapping[str, JobStatus]:
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self.backend.statuses(followed, others=others)
        except TimeoutError as error:
            raise SchedulerError(f"no answer within {self.timeout_s:g} s") from error
        except SchedulerError:
            raise
        except Exception as error:
            log.exception("%s: query failed", self.backend.name)
            raise SchedulerError("query failed; see the hub's log") from error
