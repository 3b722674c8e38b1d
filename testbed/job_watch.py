"""When the jobs of stopped servers left their queues, by what the schedulers say."""

import time
from collections.abc import Callable, Iterable

from testbed.orphans import Job
from testbed.results import SpawnRecord


class JobWatch:
    """Records of spawns; whose job a look at the queues does not show any more gets `job_gone`.

    The queues are asked only while a job of a stopped server may be there. The stamp is when
    the answer came, so it is late by a look at most.

    Args:
        jobs: Every job of the portal that has not ended; `orphans.jobs`.
    """

    def __init__(self, jobs: Callable[[], Iterable[Job]]) -> None:
        self._jobs = jobs
        self.records: list[SpawnRecord] = []
        self._there: set[int] = set()

    def add(self, record: SpawnRecord) -> None:
        """A record from now on looked after; one without a job or a stop needs no look."""
        self.records.append(record)
        if record.job_id and "gone" in record.own_unix_s and record.backend != "local":
            self._there.add(len(self.records) - 1)

    @property
    def waiting(self) -> int:
        """How many jobs of stopped servers were there at the last look."""
        return len(self._there)

    def look(self) -> None:
        """Ask the schedulers once, if there is anything to ask for."""
        if not self._there:
            return
        there = {(job.backend, job.job_id) for job in self._jobs()}
        now = time.time()
        for number in sorted(self._there):
            record = self.records[number]
            if (record.backend, record.job_id) not in there:
                stamps = {**record.own_unix_s, "job_gone": now}
                self.records[number] = record.model_copy(update={"own_unix_s": stamps})
                self._there.discard(number)

    def __str__(self) -> str:
        return ", ".join(
            f"{self.records[n].backend} job {self.records[n].job_id} of {self.records[n].user}"
            for n in sorted(self._there)
        )
