"""Schedulers for maps, named by their fault, and one that runs jobs in processes here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

from afportal.jobs.errors import Refused, SchedulerAway
from afportal.jobs.states import JobState, State
from afportal.maps import folder
from afportal.maps.collect import Job
from afportal.maps.folder import MapFolder, Submission
from afportal.maps.plan import MapOptions


class JobsHere:
    """Makes each job's calls in a process of its own when it is told to, by the real runner."""

    largest: int | None = None

    def __init__(self, found: MapFolder) -> None:
        self.folder = found
        self.states: dict[Job, JobState] = {}
        self.sent: list[Submission] = []
        self.deeds: list[tuple[str, set[Job]]] = []

    def send(self, submission: Submission, options: MapOptions) -> str:
        self.sent.append(submission)
        for job, _ in enumerate(submission.jobs()):
            self.states[submission.number, job] = JobState(State.IDLE)
        return str(100 + submission.number)

    def most(self) -> int | None:
        return self.largest

    def find(self, submission: Submission) -> str:
        return ""

    def look(self, submissions: Collection[Submission]) -> dict[Job, JobState]:
        return dict(self.states)

    def act(self, deed: str, submissions: Collection[Submission], jobs: Collection[Job]) -> int:
        self.deeds.append((deed, set(jobs)))
        return len(jobs)

    def edit(
        self, submissions: Collection[Submission], jobs: Collection[Job], field: str, value: int
    ) -> int:
        self.deeds.append((f"{field}={value}", set(jobs)))
        return len(jobs)

    def run(self, *only: int) -> list[subprocess.CompletedProcess[str]]:
        """Run the jobs of the last submission."""
        return self.run_of(self.sent[-1], *only)

    def run_of(self, submission: Submission, *only: int) -> list[subprocess.CompletedProcess[str]]:
        """Run the jobs of one submission."""
        done = []
        for job, calls in enumerate(submission.jobs()):
            if only and job not in only:
                continue
            done.append(run_calls(self.folder.path, folder.ranges(calls)))
            code = done[-1].returncode
            self.states[submission.number, job] = JobState(
                State.FAILED if code else State.COMPLETED, exit_code=code
            )
        return done


class SmallArraysScheduler(JobsHere):
    """Takes three jobs at a time, and so many times as it is told; then it refuses, or is away."""

    largest = 3
    times = 9
    then: type[Exception] = Refused

    def send(self, submission: Submission, options: MapOptions) -> str:
        if self.times == 0:
            raise self.then("no more")
        self.times -= 1
        return super().send(submission, options)


class AwayScheduler(JobsHere):
    """Does not answer."""

    def send(self, submission: Submission, options: MapOptions) -> str:
        raise SchedulerAway("no answer")

    def find(self, submission: Submission) -> str:
        raise SchedulerAway("no answer")


class RefusingScheduler(JobsHere):
    """Takes nothing."""

    def send(self, submission: Submission, options: MapOptions) -> str:
        raise Refused("no")


class AnswerLostScheduler(JobsHere):
    """Takes jobs, and its answer is lost."""

    def send(self, submission: Submission, options: MapOptions) -> str:
        super().send(submission, options)
        raise SchedulerAway("connection lost")

    def find(self, submission: Submission) -> str:
        return "77" if submission.number in {s.number for s in self.sent} else ""


def run_calls(path: Path, calls: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", str(path / folder.RUNNER), str(path), calls],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
