"""One map, as a notebook has it: iterate, wait, look, and do something about what went wrong."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Collection, Generator, Iterable, Iterator
from typing import Any

from afportal.jobs.errors import JobsError, NotInTime, SchedulerAway, WrongRequest
from afportal.jobs.fields import checked
from afportal.jobs.states import State
from afportal.maps import report
from afportal.maps.collect import Call, Collector, Job, Jobs, Seen
from afportal.maps.errors import CallFailed, NotSubmitted
from afportal.maps.folder import MapFolder, ranges
from afportal.maps.plan import MapOptions

# Seconds between two looks while somebody waits: a result that was written on another machine
# tells nobody, on a network file system least of all. It grows while nothing comes.
_SOONEST_S, _LATEST_S = 0.02, 0.5
_AGAIN = (State.FAILED, State.REMOVED, State.UNSUBMITTED)


def jobs_of(folder: MapFolder) -> Jobs:
    """Return what speaks with the scheduler of a map."""
    if folder.record.scheduler == "htcondor":
        from afportal.maps.htcondor import HTCondorJobs

        return HTCondorJobs(folder)
    from afportal.maps.slurm import SlurmJobs

    return SlurmJobs(folder)


class Map:
    """A function's calls as batch jobs, kept by tag: `maps.map` makes one, `maps.load` finds it.

    Results are values by the number of their input, from 0. A call that raised, or whose job
    ended without a result, raises `CallFailed` where its value is asked for; all others are there.
    """

    def __init__(self, folder: MapFolder, jobs: Jobs | None = None) -> None:
        self._folder = folder
        self._jobs = jobs or jobs_of(folder)
        self._collector = Collector(folder, self._jobs)
        # The live display looks from a thread of its own.
        self._lock = threading.RLock()

    # What it is

    @property
    def tag(self) -> str:
        """By which it is loaded again."""
        return self._folder.record.tag

    @property
    def scheduler(self) -> str:
        """Where its jobs are: "htcondor" or "slurm"."""
        return self._folder.record.scheduler

    @property
    def function(self) -> str:
        """The name of what is called."""
        return self._folder.record.function

    @property
    def made_s(self) -> float:
        """When it was made, unix seconds."""
        return self._folder.record.made_s

    @property
    def options(self) -> MapOptions:
        """What its jobs may use, those of the next `rerun` included."""
        return checked(MapOptions, self._folder.record.options)

    @property
    def ids(self) -> list[str]:
        """Its clusters or arrays at the scheduler; several where it is large, or was rerun."""
        return [s.id for s in self._folder.submissions() if s.id]

    def __len__(self) -> int:
        """How many calls."""
        return self._folder.record.calls

    def look(self) -> Seen:
        """Look once at how each call is."""
        with self._lock:
            return self._collector.look()

    def states(self) -> list[State]:
        """Return how each call is, in the order of inputs."""
        return [call.state for call in self.look().calls]

    def status(self) -> dict[State, int]:
        """Return how many calls are in each state that there is."""
        return self.look().counts()

    def is_done(self) -> bool:
        """Say whether every call has its value."""
        return self.status() == {State.COMPLETED: len(self)}

    # Sending

    def _send(self, calls: Collection[int]) -> None:
        """Send calls, in as many submissions as the scheduler needs.

        Raises:
            Refused: nothing is sent.
            NotSubmitted: only some are, or it is not known; `rerun` sends the others.
        """
        options, sent = self.options, 0
        numbers = sorted(calls)
        try:
            jobs = -(-len(numbers) // options.calls_per_job)
            most = (self._jobs.most() if jobs > 1 else None) or jobs
            together = most * options.calls_per_job
            while sent < len(numbers):
                self._send_together(numbers[sent : sent + together], options)
                sent = min(sent + together, len(numbers))
        except JobsError as error:
            # A submit may have come to it all the same: that is looked for before anything is
            # sent again.
            if not (sent or isinstance(error, SchedulerAway)):
                raise
            few = f"{sent} of {len(numbers)} calls are sent" if sent else "its jobs are not sent"
            raise NotSubmitted(
                f"map {self.tag} is kept, {few}: {error}. Then: maps.load({self.tag!r}).rerun()"
            ) from error
        finally:
            self._collector.submitted()

    def _send_together(self, calls: Iterable[int], options: MapOptions) -> None:
        submission = self._folder.begin_submission(calls, options.calls_per_job)
        try:
            scheduler_id = self._jobs.send(submission, options)
        except SchedulerAway:
            raise
        except JobsError:
            self._folder.drop_submission(submission)
            raise
        self._folder.end_submission(submission, scheduler_id)

    def submit(self) -> None:
        """Send all its calls, the first time. `maps.map` does it."""
        with self._lock:
            self._send(range(len(self)))

    def resume(self) -> None:
        """Find its jobs again, as another process left them. `maps.load` does it."""
        with self._lock:
            self._collector.submitted()
            self._collector.resume()

    def rerun(self, calls: Collection[int] | None = None) -> int:
        """Make calls again; their results so far are forgotten, those of all others stay.

        Args:
            calls: numbers; None: all that failed, were removed or were never sent.

        Returns:
            How many.

        Raises:
            WrongRequest: one of them waits or runs.
            NotSubmitted, Refused: they are not sent; nothing that has a value is lost.
        """
        with self._lock:
            self._collector.resume()
            seen = self.look()
            if calls is None:
                chosen = [call.number for call in seen.of(*_AGAIN)]
            else:
                chosen = sorted({self._number(call) for call in calls})
                active = [n for n in chosen if not _again(seen.calls[n])]
                if active:
                    raise WrongRequest(
                        f"calls {_few(active)} of map {self.tag} wait or run: "
                        "remove_jobs() ends them"
                    )
            if not chosen:
                return 0
            self._end_leftovers(seen, chosen)
            for number in chosen:
                self._folder.discard_result(number)
            self._send(chosen)
            return len(chosen)

    def _end_leftovers(self, seen: Seen, chosen: Collection[int]) -> None:
        """Remove jobs that are held after the call they make has its result."""
        held = {
            call.job for call in seen.calls if call.number in chosen and call.state is State.HELD
        }
        if jobs := {job for job in held if job is not None}:
            self._jobs.act("remove", self._collector.submissions, jobs)

    def _number(self, call: int) -> int:
        if not 0 <= call < len(self):
            raise IndexError(f"call {call} of map {self.tag}: it has 0 to {len(self) - 1}")
        return call

    # Results

    def _looks(self, timeout_s: float | None, what: str) -> Iterator[Seen]:
        """Look again and again, at once where something comes and seldom where nothing does."""
        begun_s = time.monotonic()
        pause_s, before = _SOONEST_S, None
        waits = threading.Event()  # never set: what sets it would be on another machine
        while True:
            seen = self.look()
            yield seen
            left_s = None if timeout_s is None else timeout_s - (time.monotonic() - begun_s)
            if left_s is not None and left_s <= 0:
                told = f"; {seen.trouble}" if seen.trouble else ""
                raise NotInTime(
                    f"{what} of map {self.tag} not within {timeout_s:g} s: "
                    f"{report.words(seen)}{told}. Its jobs go on; wait again, or look at "
                    "error_report() and hold_report()"
                )
            pause_s = _SOONEST_S if seen != before else min(2 * pause_s, _LATEST_S)
            before = seen
            waits.wait(pause_s if left_s is None else min(pause_s, left_s))

    def _value(self, call: Call) -> Any:
        if call.state is State.COMPLETED:
            return self._folder.value(call.number)
        raise CallFailed(report.of_call(self.tag, call), call.number)

    def get(self, call: int, timeout_s: float | None = None) -> Any:
        """Return one call's value, waiting for it.

        Raises:
            CallFailed: it has none, and gets none by itself.
            NotInTime: it is not there yet.
        """
        number = self._number(call)
        for seen in self._looks(timeout_s, f"call {number}"):
            if seen.calls[number].stuck:
                return self._value(seen.calls[number])
        raise AssertionError("looks do not end")

    def __getitem__(self, call: int) -> Any:
        """Return one call's value, waiting for it; from the end where it is negative."""
        return self.get(call + len(self) if call < 0 else call)

    def __iter__(self) -> Iterator[Any]:
        """Give the values in the order of inputs, each as soon as it is there."""
        for number in range(len(self)):
            yield self.get(number)

    def iter_as_available(self, timeout_s: float | None = None) -> Iterator[tuple[int, Any]]:
        """Give (number, value) of each call as it arrives; then raise for the first that failed."""
        given: set[int] = set()
        for seen in self._looks(timeout_s, "the rest"):
            for call in seen.of(State.COMPLETED):
                if call.number not in given:
                    given.add(call.number)
                    yield call.number, self._value(call)
            if all(call.stuck for call in seen.calls):
                self._raise_first(seen)
                return

    def iter_with_inputs(self) -> Iterator[tuple[Any, Any]]:
        """Give ((arguments, named arguments), value) in the order of inputs."""
        for number, value in enumerate(self):
            yield self._folder.input(number), value

    def partial(self) -> dict[int, Any]:
        """Return number → value of every call that has one now."""
        return {call.number: self._value(call) for call in self.look().of(State.COMPLETED)}

    def wait(self, timeout_s: float | None = None, *, failures: bool = False) -> Map:
        """Wait until nothing more comes by itself.

        Args:
            timeout_s: None: for ever.
            failures: True: come back also where calls failed or are held.

        Raises:
            CallFailed: for the first call that failed or is held.
            NotInTime: some still wait or run.
        """
        for seen in self._looks(timeout_s, "the rest"):
            if all(call.stuck for call in seen.calls):
                if not failures:
                    self._raise_first(seen)
                break
        return self

    def _raise_first(self, seen: Seen) -> None:
        for call in seen.calls:
            if call.state is not State.COMPLETED:
                wrong = sum(c.state is not State.COMPLETED for c in seen.calls)
                raise CallFailed(
                    f"{wrong} of {len(self)} calls have no value, the first of them: "
                    f"{report.of_call(self.tag, call)}",
                    call.number,
                )

    def __await__(self) -> Generator[Any, None, list[Any]]:
        """Wait without stopping the notebook's other tasks; gives all values."""

        def values() -> list[Any]:
            self.wait()
            return list(self)

        return asyncio.to_thread(values).__await__()

    # What went wrong

    def errors(self) -> list[Call]:
        """Return the calls that failed."""
        return self.look().of(State.FAILED)

    def holds(self) -> list[Call]:
        """Return the calls whose jobs are held."""
        return self.look().of(State.HELD)

    def error_report(self) -> str:
        """Tell of each call that failed why, with its traceback on the worker."""
        return report.errors(self.tag, self.errors(), self.output)

    def hold_report(self) -> str:
        """Tell of each held call why, and what cures it."""
        return report.holds(self.tag, self.holds())

    def output(self, call: int) -> str:
        """Return what the job of a call printed, as far as it is known."""
        job = self._job_of(self._number(call))
        if job is None:
            return ""
        path = self._folder.path / "output" / f"{job[0]}-{job[1]}"
        try:
            return path.read_text(errors="replace")[-100_000:]
        except FileNotFoundError:
            return ""

    def _job_of(self, number: int) -> Job | None:
        found = None
        for submission in self._folder.submissions():
            for job, calls in enumerate(submission.jobs()):
                if number in calls:
                    found = (submission.number, job)
        return found

    # Acting

    def _act(self, deed: str, states: Collection[State], calls: Iterable[int] | None) -> int:
        with self._lock:
            self._collector.resume()
            wanted = None if calls is None else {self._number(call) for call in calls}
            jobs = {
                call.job
                for call in self.look().calls
                if call.job is not None
                and call.state in states
                and (wanted is None or call.number in wanted)
            }
            return self._jobs.act(deed, self._collector.submissions, jobs) if jobs else 0

    def hold(self, calls: Iterable[int] | None = None) -> int:
        """Keep jobs from starting; those that run are stopped and begin anew when released.

        Args:
            calls: whose; None: of all.

        Returns:
            How many jobs; also of the deeds below.
        """
        return self._act("hold", (State.IDLE, State.RUNNING, State.SUSPENDED), calls)

    def release(self, calls: Iterable[int] | None = None) -> int:
        """Let held jobs start."""
        return self._act("release", (State.HELD,), calls)

    def vacate(self, calls: Iterable[int] | None = None) -> int:
        """Stop running jobs, which begin anew elsewhere."""
        return self._act("vacate", (State.RUNNING, State.SUSPENDED), calls)

    def remove_jobs(self, calls: Iterable[int] | None = None) -> int:
        """End jobs; what has a result keeps it."""
        active = (State.IDLE, State.RUNNING, State.SUSPENDED, State.HELD)
        return self._act("remove", active, calls)

    def set_memory(self, memory_mib: int) -> int:
        """Ask for other memory, MiB: of waiting and held jobs in place, and of all later ones."""
        return self._edit("memory_mib", memory_mib)

    def set_disk(self, disk_mib: int) -> int:
        """Ask for other scratch space, MiB (HTCondor)."""
        return self._edit("disk_mib", disk_mib)

    def _edit(self, field: str, value: int) -> int:
        with self._lock:
            options = checked(MapOptions, {**self._folder.record.options, field: value})
            self._collector.resume()
            jobs = {
                call.job for call in self.look().of(State.IDLE, State.HELD) if call.job is not None
            }
            changed = self._jobs.edit(self._collector.submissions, jobs, field, value)
            self._folder.keep_options(options.model_dump(mode="json", exclude_defaults=True))
            return changed

    def retag(self, tag: str) -> None:
        """Give it another tag. Raises TagTaken; WrongRequest while its jobs wait or run."""
        with self._lock:
            if any(not c.state.ended and c.job is not None for c in self.look().calls):
                raise WrongRequest(
                    f"map {self.tag} has jobs that write into its folder: retag it when they "
                    "have ended"
                )
            self._folder.retag(tag)

    def remove(self) -> None:
        """End its jobs and forget it, with all results.

        Raises:
            SchedulerAway: the jobs could not be ended; nothing is forgotten.
        """
        with self._lock:
            self.remove_jobs()
            self._folder.remove()

    # Showing

    def live(self, timeout_s: float | None = None) -> Any:
        """Show how it goes, in place, until nothing more comes by itself; the notebook goes on."""
        from afportal.maps.widget import Live

        return Live(self, timeout_s)

    def __repr__(self) -> str:
        """Tell it in one line."""
        return (
            f"<map {self.tag} of {self.function} on {self.scheduler}: {report.words(self.look())}>"
        )

    def _repr_html_(self) -> str:
        return report.html(self.tag, self.function, self.scheduler, self.look())


def _again(call: Call) -> bool:
    return call.state in (*_AGAIN, State.COMPLETED, State.HELD)


def _few(numbers: Collection[int]) -> str:
    text = ranges(numbers)
    return text if len(text) < 60 else f"{text[:60]}…"
