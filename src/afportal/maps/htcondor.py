"""A map's jobs at an HTCondor access point.

Where the access point shares our files it writes each submission's events into the map's folder,
and what jobs do is read there: nothing asks the schedd. Where it does not, function, inputs and
results travel with the jobs, and one query tells of all of them.

Source: HTCondor 23.9 manual, "Job Event Log Codes", condor_submit(1) -spool.
"""

from __future__ import annotations

import pickle
import shutil
import sys
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afportal.jobs.access_point import AccessPoint, ended, state_of
from afportal.jobs.errors import NotHere
from afportal.jobs.states import JobState, State
from afportal.maps import runner
from afportal.maps.folder import RUNNER, MapFolder, Submission, ranges
from afportal.maps.plan import MapOptions

if TYPE_CHECKING:
    import htcondor2

Job = tuple[int, int]  # submission, number of the job in it

# Seconds between two queries of an access point that shares no files.
_ASK_AGAIN_S = 2.0
_RUNNER = Path(runner.__file__)
# Option → attribute of a job ad, and how many of its units one of the option's is
_EDITED = {"memory_mib": ("RequestMemory", 1), "disk_mib": ("RequestDisk", 1024)}


class HTCondorJobs:
    """The jobs of one map."""

    def __init__(self, folder: MapFolder, access_point: AccessPoint | None = None) -> None:
        self._folder = folder
        self._known = access_point
        self._logs: dict[int, htcondor2.JobEventLog] = {}
        self._sizes: dict[int, int] = {}
        self._states: dict[Job, JobState] = {}
        self._asked_s = -_ASK_AGAIN_S

    @property
    def _access_point(self) -> AccessPoint:
        if self._known is None:
            self._known = AccessPoint(spool=self._folder.record.spool)
        return self._known

    # Sending

    def most(self) -> int | None:
        """Return how many jobs a cluster may have, where the schedd says it."""
        return self._access_point.largest_cluster()

    def send(self, submission: Submission, options: MapOptions) -> str:
        """Submit jobs as one cluster. Raises Refused, SchedulerAway, WrongRequest."""
        from afportal.submit_description import literal

        folder = self._folder
        jobs = submission.jobs()
        lines = self._access_point.resources(options)
        lines |= {
            "executable": sys.executable,
            "transfer_executable": "false",
            "My.AfMap": literal(folder.record.key),
            "My.AfMapTag": literal(folder.record.tag),
            "My.AfMapSubmission": str(submission.number),
            "batch_name": folder.record.tag,
            "job_max_vacate_time": "10",
        }
        lines |= (
            self._spooled(submission, jobs) if folder.record.spool else self._shared(submission)
        )
        items = [{"calls": ranges(calls), "job": str(number)} for number, calls in enumerate(jobs)]
        cluster, _ = self._access_point.submit(lines, items)
        return str(cluster)

    def _shared(self, submission: Submission) -> dict[str, str]:
        from afportal.submit_description import arguments, literal

        folder = self._folder
        log = folder.log(submission)
        log.touch(mode=0o600)
        output = literal(f"{folder.output(submission, 0)}"[:-1])[:-1] + '$(job)"'
        argv = (
            literal(arguments(["-P", str(folder.path / RUNNER), str(folder.path)]))[:-1]
            + ' $(calls)"'
        )
        return {
            "should_transfer_files": "NO",
            "My.Iwd": literal(str(folder.path)),
            "My.UserLog": literal(str(log)),
            "My.Arguments": argv,
            "My.Out": output,
            "My.Err": output,
        }

    def _spooled(self, submission: Submission, jobs: list[tuple[int, ...]]) -> dict[str, str]:
        """Give each job its own inputs; what comes back goes into a folder beside the results."""
        from afportal.submit_description import arguments, literal

        folder = self._folder
        sent = folder.path / "sent"
        for new in (sent, folder.path / "incoming"):
            new.mkdir(mode=0o700, exist_ok=True)
        path = str(folder.path / "inputs")
        for number, calls in enumerate(jobs):
            few = {call: runner.read_input(path, call) for call in calls}
            (sent / f"{submission.number}-{number}").write_bytes(pickle.dumps(few, protocol=5))
        shutil.copy(_RUNNER, sent / _RUNNER.name)
        inputs = f"{submission.number}-$(job)"
        argv = literal(arguments(["-P", _RUNNER.name, "."]))[:-1] + f' $(calls) {inputs}"'
        files = [str(folder.path / "function"), str(sent / _RUNNER.name), f"{sent}/"]
        begin = literal(",".join(files))[:-1]
        return {
            "should_transfer_files": "YES",
            "when_to_transfer_output": "ON_EXIT",
            "initialdir": str(folder.path / "incoming"),
            "My.Arguments": argv,
            "My.TransferInput": begin + inputs + '"',
            "transfer_output_files": "results",
            "output": f"{submission.number}-$(job).out",
            "error": f"{submission.number}-$(job).out",
        }

    def find(self, submission: Submission) -> str:
        """Return the cluster of a submission whose answer was lost; empty: it was never made."""
        if not self._folder.record.spool:
            found = ""
            if self._folder.log(submission).exists():
                for event in self._events(submission.number):
                    self._learn(submission.number, event)
                    found = found or str(event.cluster)
            return found
        ads = self._access_point.query(
            f'AfMap == "{self._folder.record.key}" && AfMapSubmission == {submission.number}'
        )
        return str(ads[0]["ClusterId"]) if ads else ""

    # Looking

    def look(self, submissions: Iterable[Submission]) -> dict[Job, JobState]:
        """Return how each job is. Raises SchedulerAway where the schedd must be asked."""
        if self._folder.record.spool:
            self._ask()
            return self._states
        for submission in submissions:
            log = self._folder.log(submission)
            size = log.stat().st_size if log.exists() else 0
            if size == self._sizes.get(submission.number, 0):
                continue
            self._sizes[submission.number] = size
            for event in self._events(submission.number):
                self._learn(submission.number, event)
        return self._states

    def _events(self, number: int) -> Any:
        try:
            import htcondor2
        except ImportError as error:
            raise NotHere(
                "this environment has no HTCondor bindings, by which a map's events are read; "
                "its results are there all the same"
            ) from error
        if number not in self._logs:
            self._logs[number] = htcondor2.JobEventLog(
                str(self._folder.path / "submits" / f"{number}.log")
            )
        return self._logs[number].events(stop_after=0)

    def _learn(self, number: int, event: Any) -> None:
        job = (number, event.proc)
        before = self._states.get(job)
        if before is not None and before.state.ended:
            return
        state = _state_after(event)
        if state is not None:
            self._states[job] = state

    def _ask(self) -> None:
        """Ask for all jobs at once, and fetch what those that ended left there."""
        if time.monotonic() - self._asked_s < _ASK_AGAIN_S:
            return
        constraint = f'AfMap == "{self._folder.record.key}"'
        ads = self._access_point.query(constraint, ["AfMapSubmission"])
        self._asked_s = time.monotonic()
        seen = {(int(ad["AfMapSubmission"]), int(ad["ProcId"])): state_of(ad) for ad in ads}
        done = [ad for ad in ads if int(ad["JobStatus"]) == 4]
        if done:
            ids = " || ".join(
                f"(ClusterId == {int(ad['ClusterId'])} && ProcId == {int(ad['ProcId'])})"
                for ad in done
            )
            self._access_point.retrieve(ids)
            self._take_in()
            self._access_point.act("remove", ids)
        # One that is in the queue no more, and did not end before our eyes, was removed.
        for job, before in self._states.items():
            if job not in seen:
                seen[job] = before if before.state.ended else JobState(State.REMOVED)
        self._states = seen

    def _take_in(self) -> None:
        """Put what was fetched in its place, each file in one step."""
        incoming = self._folder.path / "incoming"
        for found in (incoming / "results").glob("*"):
            if found.name.isdecimal():
                found.replace(self._folder.results / found.name)
        for found in incoming.glob("*.out"):
            found.replace(self._folder.path / "output" / found.stem)

    # Acting

    def act(self, deed: str, submissions: Iterable[Submission], jobs: Collection[Job]) -> int:
        """Hold, release, vacate or remove jobs; returns how many."""
        constraint = self._constraint(submissions, jobs)
        return self._access_point.act(deed, constraint) if constraint else 0

    def edit(
        self, submissions: Iterable[Submission], jobs: Collection[Job], field: str, value: int
    ) -> int:
        """Change what waiting or held jobs ask for, "memory_mib" or "disk_mib"; of how many."""
        constraint = self._constraint(submissions, jobs)
        attribute, factor = _EDITED[field]
        if not constraint:
            return 0
        return self._access_point.edit(constraint, attribute, value * factor)

    @staticmethod
    def _constraint(submissions: Iterable[Submission], jobs: Collection[Job]) -> str:
        parts = []
        for submission in submissions:
            numbers = [job for number, job in jobs if number == submission.number]
            if not numbers or not submission.id:
                continue
            runs = " || ".join(
                f"(ProcId >= {first} && ProcId <= {last})" for first, last in _runs(numbers)
            )
            parts.append(f"(ClusterId == {int(submission.id)} && ({runs}))")
        return " || ".join(parts)


def _runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return the runs of successive numbers, each as (first, last)."""
    return [
        (int(first), int(last or first))
        for first, _, last in (part.partition("-") for part in ranges(numbers).split(","))
    ]


def _state_after(event: Any) -> JobState | None:
    """What an event makes of its job; None: nothing."""
    match event.type.name:
        case "SUBMIT" | "JOB_EVICTED" | "JOB_RELEASED" | "JOB_RECONNECT_FAILED":
            return JobState(State.IDLE)
        case "SHADOW_EXCEPTION":
            return JobState(State.IDLE, str(event.get("Message") or ""))
        case "EXECUTE" | "JOB_UNSUSPENDED" | "JOB_RECONNECTED":
            return JobState(State.RUNNING)
        case "JOB_SUSPENDED":
            return JobState(State.SUSPENDED)
        case "JOB_HELD":
            return JobState(State.HELD, str(event.get("HoldReason") or ""))
        case "JOB_ABORTED":
            return JobState(State.REMOVED, str(event.get("Reason") or ""))
        case "JOB_TERMINATED":
            if event.get("TerminatedNormally"):
                return ended(event.get("ReturnValue"), None)
            return ended(None, event.get("TerminatedBySignal"))
    return None
