"""A map's jobs on Slurm: an array a submission, and one answer of squeue for all of them.

Source: sbatch(1), squeue(1), "Job Array Support", Slurm 24.11.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterable

from afportal.jobs.cluster import Batch, Cluster, pattern, python_script
from afportal.jobs.errors import WrongRequest
from afportal.jobs.states import JobState, State
from afportal.maps.folder import MapFolder, Submission, ranges
from afportal.maps.plan import MapOptions

Job = tuple[int, int]  # submission, number of the job in it

# Seconds between two questions; an array's tasks are all in one answer.
_ASK_AGAIN_S = 1.0
# The accounting hears of an end some time after it.
_ACCOUNT_AGAIN_S = 10.0

_BODY = """import os, sys
calls = {calls!r}
sys.path.insert(0, {folder!r})
import runner
del sys.path[0]
sys.exit(runner.main({folder!r}, calls[int(os.environ["SLURM_ARRAY_TASK_ID"])]))
"""


class SlurmJobs:
    """The jobs of one map."""

    def __init__(self, folder: MapFolder, cluster: Cluster | None = None) -> None:
        self._folder = folder
        self._cluster = cluster or Cluster()
        self._states: dict[Job, JobState] = {}
        self._asked_s = self._accounted_s = -_ACCOUNT_AGAIN_S

    def _name(self, submission: Submission) -> str:
        """Of this submission alone, so that one whose answer was lost is found again."""
        return f"map-{self._folder.record.key}-{submission.number}"

    def send(self, submission: Submission, options: MapOptions) -> str:
        """Submit jobs as one array. Raises Refused, SchedulerAway, NotHere."""
        folder = self._folder
        jobs = submission.jobs()
        body = _BODY.format(
            calls=[ranges(calls) for calls in jobs],
            folder=str(folder.path),
        )
        output = pattern(str(folder.path / "output" / f"{submission.number}-")) + "%a"
        batch = Batch(
            name=self._name(submission),
            script=python_script(sys.executable, body),
            directory=str(folder.path),
            output=output,
            array=len(jobs),
            again=True,
        )
        return self._cluster.submit(batch, options)

    def most(self) -> int | None:
        """Return how many jobs an array may have. Raises SchedulerAway."""
        return self._cluster.largest_array()

    def find(self, submission: Submission) -> str:
        """Return the array of a submission whose answer was lost; empty: it was never made."""
        said = self._cluster.run(
            ["squeue", "--me", "--noheader", "--states=all", "--format=%F",
             f"--name={self._name(submission)}"]
        )  # fmt: skip
        if not said.split():
            said = self._cluster.run(
                ["sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID",
                 "--starttime=now-14days", f"--name={self._name(submission)}"]
            )  # fmt: skip
        return said.split()[0].partition("_")[0] if said.split() else ""

    def look(self, submissions: Iterable[Submission]) -> dict[Job, JobState]:
        """Return how each job is, at most a second old. Raises SchedulerAway."""
        now = time.monotonic()
        if now - self._asked_s < _ASK_AGAIN_S:
            return self._states
        known = [s for s in submissions if s.id]
        seen = self._cluster.jobs()
        self._asked_s = now
        missing: set[str] = set()
        for submission in known:
            for job in range(len(submission.jobs())):
                state = seen.get(f"{submission.id}_{job}")
                before = self._states.get((submission.number, job))
                if state is not None:
                    self._states[submission.number, job] = state
                elif before is None or not before.state.ended:
                    missing.add(submission.id)
        if missing and now - self._accounted_s > _ACCOUNT_AGAIN_S:
            self._accounted_s = now
            accounted = self._cluster.accounted(missing)
            self._take_account([s for s in known if s.id in missing], accounted, seen)
        return self._states

    def _take_account(
        self,
        submissions: Iterable[Submission],
        accounted: dict[str, JobState],
        seen: Collection[str],
    ) -> None:
        for submission in submissions:
            for job in range(len(submission.jobs())):
                name = f"{submission.id}_{job}"
                state = accounted.get(name)
                # The accounting may take for alive what the controller has lost.
                if name not in seen and state is not None:
                    self._states[submission.number, job] = (
                        state
                        if state.state.ended
                        else JobState(State.FAILED, "Slurm does not know it any more", state.node)
                    )

    def _named(
        self, submissions: Iterable[Submission], jobs: Collection[Job]
    ) -> dict[str, JobState]:
        ids = {s.number: s.id for s in submissions if s.id}
        return {
            f"{ids[number]}_{job}": self._states[number, job]
            for number, job in jobs
            if number in ids and (number, job) in self._states
        }

    def act(self, deed: str, submissions: Iterable[Submission], jobs: Collection[Job]) -> int:
        """Hold, release, vacate or remove jobs; returns how many."""
        done = self._cluster.act(deed, self._named(submissions, jobs))
        self._asked_s = -_ASK_AGAIN_S
        return done

    def edit(
        self, submissions: Iterable[Submission], jobs: Collection[Job], field: str, value: int
    ) -> int:
        """Change the memory of what waits. Raises WrongRequest for disk, which Slurm has not."""
        if field != "memory_mib":
            raise WrongRequest(f"{field}: {value} asked; a job of Slurm asks for no disk")
        states = self._named(submissions, jobs)
        waiting = [name for name, s in states.items() if s.state in (State.IDLE, State.HELD)]
        return self._cluster.edit_memory(waiting, value)
