"""How each call of a map is, from what lies in its folder and what its scheduler says."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from afportal.jobs.errors import JobsError
from afportal.jobs.states import JobState, State
from afportal.maps import runner
from afportal.maps.folder import MapFolder, Submission
from afportal.maps.plan import MapOptions

Job = tuple[int, int]

# A result may be seen later than its job's end: homes on another machine are read through a cache.
GRACE_S = 3.0
_RECENT_NS = 100_000_000


class Jobs(Protocol):
    """What a scheduler does with the jobs of one map.

    `most` is how many one submission may have; None: any number, as far as is known.
    """

    def most(self) -> int | None: ...
    def send(self, submission: Submission, options: MapOptions) -> str: ...
    def find(self, submission: Submission) -> str: ...
    def look(self, submissions: Collection[Submission]) -> dict[Job, JobState]: ...
    def act(self, deed: str, submissions: Collection[Submission], jobs: Collection[Job]) -> int: ...
    def edit(
        self, submissions: Collection[Submission], jobs: Collection[Job], field: str, value: int
    ) -> int: ...


@dataclass(frozen=True)
class Call:
    """How one call is.

    Args:
        reason: why it waits, is held or failed.
        job: that makes it, as (submission, number in it); None: none was sent.
        error: of a call that raised: `stage`, `type`, `message`, `traceback`, `module`.
        account: of a call that has a result: `node`, `begun_s`, `took_s`.
        young: its job ended a moment ago, and its result may still appear.
    """

    number: int
    state: State
    reason: str = ""
    node: str = ""
    job: Job | None = None
    error: Mapping[str, str] = field(default_factory=dict)
    account: Mapping[str, Any] = field(default_factory=dict)
    young: bool = False

    @property
    def stuck(self) -> bool:
        """Nothing more comes of it by itself."""
        return self.state.stuck and not self.young


@dataclass(frozen=True)
class Seen:
    """A map at one moment.

    Args:
        trouble: why the scheduler's part of it is old; empty: it is not.
    """

    calls: tuple[Call, ...]
    trouble: str = ""

    def counts(self) -> dict[State, int]:
        """Return how many calls are in each state that there is."""
        found = Counter(call.state for call in self.calls)
        return {state: found[state] for state in State if found[state]}

    def of(self, *states: State) -> list[Call]:
        """Return the calls in these states."""
        return [call for call in self.calls if call.state in states]


class Collector:
    """Looks at a map, again and again, and reads only what is new."""

    def __init__(self, folder: MapFolder, jobs: Jobs) -> None:
        self.folder = folder
        self._jobs = jobs
        self._submissions: list[Submission] = []
        # Of results: call → how it is, and the moment of its file.
        self._with_result: dict[int, Call] = {}
        self._listed: set[int] = set()
        self._listed_at_ns = -1
        self._ended_s: dict[Job, float] = {}

    @property
    def submissions(self) -> list[Submission]:
        """All that were made; read anew by `submitted`."""
        return self._submissions

    def submitted(self) -> None:
        """Learn that there is a new submission, or that calls were begun anew."""
        self._submissions = self.folder.submissions()
        self._with_result.clear()
        self._listed_at_ns = -1

    def resume(self) -> None:
        """Find again what was sent and not written down, after a crash between the two.

        One that is not found stays unsent: it may be another process that sends it now.
        """
        found = []
        for submission in self.folder.submissions():
            if not submission.id and (scheduler_id := self._jobs.find(submission)):
                submission = self.folder.end_submission(submission, scheduler_id)
            found.append(submission)
        self._submissions = found

    def _finished(self) -> set[int]:
        changed_ns = self.folder.results.stat().st_mtime_ns
        # The clock of files is coarse: what was listed just after a change may miss the next.
        if changed_ns != self._listed_at_ns:
            self._listed = self.folder.finished()
            old = time.time_ns() - changed_ns > _RECENT_NS
            self._listed_at_ns = changed_ns if old else -1
        return self._listed

    def look(self) -> Seen:
        """Look once. What the scheduler does not tell now is as it was told last."""
        trouble = ""
        try:
            states = self._jobs.look(self._submissions)
        except JobsError as error:
            states, trouble = {}, str(error)
        # The order matters: a job that has ended by then has its result by now.
        finished = self._finished()
        for call in finished - self._with_result.keys():
            self._read(call)
        job_of = {
            call: (submission.number, job)
            for submission in self._submissions
            if submission.id
            for job, calls in enumerate(submission.jobs())
            for call in calls
        }
        calls = []
        for number in range(self.folder.record.calls):
            known = self._with_result.get(number)
            job = job_of.get(number)
            if known is not None and number in finished:
                calls.append(known)
            elif job is None:
                calls.append(Call(number, State.UNSUBMITTED))
            else:
                calls.append(self._without_result(number, job, states.get(job)))
        return Seen(tuple(calls), trouble)

    def _read(self, number: int) -> None:
        try:
            kind, account, error = self.folder.account(number)
        except FileNotFoundError:
            return  # discarded, for it is made again
        good = kind == runner.VALUE
        self._with_result[number] = Call(
            number,
            State.COMPLETED if good else State.FAILED,
            "" if good else f"{error['type']}: {error['message']}",
            str(account.get("node") or ""),
            error=error,
            account=account,
        )

    def _without_result(self, number: int, job: Job, state: JobState | None) -> Call:
        if state is None:
            return Call(number, State.IDLE, job=job)
        if not state.state.ended:
            self._ended_s.pop(job, None)
            return Call(number, state.state, state.reason, state.node, job)
        if state.state is State.REMOVED:
            return Call(number, State.REMOVED, state.reason, state.node, job)
        since_s = self._ended_s.setdefault(job, time.monotonic())
        young = time.monotonic() - since_s < GRACE_S
        if state.exit_code == runner.NO_ROOM:
            reason = (
                "its result could not be written: make room in your home, then rerun() the call"
            )
        else:
            reason = state.reason or "its job ended without a result"
        return Call(number, State.FAILED, reason, state.node, job, young=young)
