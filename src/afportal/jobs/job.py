"""One batch job of one's own: submit it, look at it, wait for it, end it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Collection, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from afportal.jobs import display
from afportal.jobs.cluster import Batch, Cluster, pattern, python_script
from afportal.jobs.errors import NotInTime, SchedulerAway, WrongRequest
from afportal.jobs.fields import JobFields, SchedulerName, checked
from afportal.jobs.states import JobState, State

# Seconds between two looks while somebody waits. Each is one question for all jobs together, and
# schedulers are asked no more often than people with `condor_q` and `squeue` ask them.
_SOONEST_S, _LATEST_S = 0.2, 2.0
_BODY = """import os
argv = {argv!r}
os.execv(argv[0], argv)
"""


def jobs_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where what jobs print is kept."""
    data = environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "afportal" / "jobs"


class Job:
    """A job at one of the schedulers.

    Args:
        fields: what it is, as `JobFields` has it: `Job({"executable": "/bin/hostname"})`.
        scheduler: "htcondor" or "slurm".
        more: fields, as named arguments.

    Raises:
        WrongRequest: with every field that is wrong.
    """

    def __init__(
        self,
        fields: Mapping[str, Any] | None = None,
        *,
        scheduler: str = "htcondor",
        **more: Any,
    ) -> None:
        _check_scheduler(scheduler)
        self.fields = checked(JobFields, {**(fields or {}), **more})
        self.scheduler = scheduler
        self.id = ""
        self._key = f"{self.fields.name}-{secrets.token_hex(4)}"
        self._state = JobState(State.UNSUBMITTED)
        self._fetched = False

    # Files

    @property
    def folder(self) -> Path:
        """Its own: what it is, and what it prints unless `output` says otherwise."""
        return jobs_folder() / self._key

    @property
    def directory(self) -> Path:
        """Where it runs."""
        return Path(self.fields.directory or Path.cwd()).expanduser().absolute()

    def _file(self, name: str) -> Path:
        given = getattr(self.fields, name) or (self.fields.output if name == "error" else None)
        return self.directory / given if given else self.folder / "output"

    @property
    def output(self) -> str:
        """What it printed until now."""
        return _text(self._file("output"))

    @property
    def error(self) -> str:
        """What it printed on stderr until now; the same as `output` unless it has a file."""
        return _text(self._file("error"))

    def _argv(self) -> list[str]:
        name = self.fields.executable
        if "/" not in name:
            found = shutil.which(name)
            if found is None:
                raise WrongRequest(f"executable: {name!r} asked; it is not on PATH: give its path")
            name = found
        return [str(self.directory / Path(name).expanduser()), *self.fields.arguments]

    # Deeds

    def submit(self) -> Job:
        """Submit it, as oneself.

        Raises:
            WrongRequest, NotHere, Refused, SchedulerAway: it was not.
        """
        if self.id:
            raise WrongRequest(f"job {self.id} is submitted already: make another Job")
        if not self.directory.is_dir():
            raise WrongRequest(f"directory: {str(self.directory)!r} asked; there is none")
        argv = self._argv()
        self.folder.mkdir(mode=0o700, parents=True)
        try:
            self.id = self._on_slurm(argv) if self.scheduler == "slurm" else self._on_htcondor(argv)
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        kept = {
            "scheduler": self.scheduler,
            "id": self.id,
            "directory": str(self.directory),
            "fields": self.fields.model_dump(mode="json", exclude_defaults=True),
        }
        (self.folder / "job.json").write_text(json.dumps(kept, indent=1))
        self._state = JobState(State.IDLE)
        return self

    def _on_slurm(self, argv: list[str]) -> str:
        batch = Batch(
            name=self.fields.name,
            script=python_script(sys.executable, _BODY.format(argv=argv)),
            directory=str(self.directory),
            output=pattern(str(self._file("output"))),
            error=pattern(str(self._file("error"))) if self.fields.error else "",
        )
        return Cluster().submit(batch, self.fields)

    def _on_htcondor(self, argv: list[str]) -> str:
        from afportal.jobs.access_point import AccessPoint
        from afportal.submit_description import arguments, literal

        point = AccessPoint()
        lines = point.resources(self.fields)
        try:
            lines |= {
                "My.Arguments": literal(arguments(argv[1:])),
                "batch_name": self.fields.name,
            }
            lines |= self._spooled(literal) if point.spool else self._shared(literal, argv[0])
        except ValueError as error:
            raise WrongRequest(str(error)) from error
        cluster, _ = point.submit(lines)
        return f"{cluster}.0"

    def _shared(self, literal: Any, executable: str) -> dict[str, str]:
        return {
            # The client looks for `executable` itself; what is run is a literal.
            "executable": "/bin/true",
            "transfer_executable": "false",
            "should_transfer_files": "NO",
            "My.Cmd": literal(executable),
            "My.Iwd": literal(str(self.directory)),
            "My.Out": literal(str(self._file("output"))),
            "My.Err": literal(str(self._file("error"))),
        }

    def _spooled(self, literal: Any) -> dict[str, str]:
        """Send files along; what comes back goes into the job's own folder first."""
        named = self.fields.executable
        own = not named.startswith("/")
        sent = [str(self.directory / file) for file in self.fields.input_files]
        lines = {
            "executable": str(self.directory / named) if own else "/bin/true",
            "transfer_executable": str(own).lower(),
            "should_transfer_files": "YES",
            "when_to_transfer_output": "ON_EXIT",
            "initialdir": str(self.folder),
            "output": "output",
            "error": "error" if self.fields.error else "output",
            "My.TransferInput": literal(",".join(sent)),
            "My.TransferOutput": literal(",".join(self.fields.output_files)),
        }
        if not own:
            lines["My.Cmd"] = literal(named)
        return lines

    def take_back(self) -> None:
        """Put what a spooled job brought where it was asked for; once."""
        if self._fetched or self.scheduler == "slurm":
            return
        self._fetched = True
        for name in self.fields.output_files:
            found = self.folder / Path(name).name
            if found.exists():
                shutil.move(found, self.directory / found.name)
        for name in ("output", "error"):
            found, wanted = self.folder / name, self._file(name)
            if found.exists() and found != wanted and getattr(self.fields, name):
                shutil.move(found, wanted)

    def look(self) -> JobState:
        """Ask how it is. Raises SchedulerAway."""
        look([self])
        return self._state

    @property
    def state(self) -> State:
        """How it was when it was last looked at."""
        return self._state.state

    @property
    def seen(self) -> JobState:
        """The same with reason, node and exit code."""
        return self._state

    def learn(self, state: JobState) -> None:
        """Take what a scheduler said."""
        self._state = state

    def wait(self, timeout_s: float | None = None) -> JobState:
        """Wait until it has ended, or somebody must do something about it. Raises NotInTime."""
        wait([self], timeout_s, progress=False)
        return self._state

    def __await__(self) -> Generator[Any, None, JobState]:
        """Wait without stopping the notebook's other tasks."""
        return asyncio.to_thread(self.wait).__await__()

    def _act(self, deed: str) -> None:
        if not self.id:
            raise WrongRequest(f"{deed}: this job is not submitted")
        if self.scheduler == "slurm":
            Cluster().act(deed, {self.id: self.look()})
        else:
            from afportal.jobs.access_point import AccessPoint

            AccessPoint().act(deed, _constraint([self.id]))

    def remove(self) -> None:
        """End it."""
        self._act("remove")

    def hold(self) -> None:
        """Keep it from starting."""
        self._act("hold")

    def release(self) -> None:
        """Let it start."""
        self._act("release")

    def __repr__(self) -> str:
        """Tell it in one line, as it was last looked at."""
        return f"<job {self.id or '-'} {self.fields.name} on {self.scheduler}: {self.state}>"

    def _repr_html_(self) -> str:
        return display.table([self])


class Jobs(list[Job]):
    """Several jobs, shown as a table."""

    def _repr_html_(self) -> str:
        return display.table(self)


def _check_scheduler(scheduler: str) -> None:
    if scheduler not in get_args(SchedulerName):
        raise WrongRequest(
            f"scheduler: {scheduler!r} asked; possible are {', '.join(get_args(SchedulerName))}"
        )


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def _constraint(ids: Iterable[str]) -> str:
    parts = []
    for job_id in ids:
        cluster, _, proc = job_id.partition(".")
        parts.append(f"(ClusterId == {int(cluster)} && ProcId == {int(proc or 0)})")
    return " || ".join(parts)


def load(job_id: str, scheduler: str = "htcondor") -> Job:
    """Pick a job up that was submitted from here earlier, by its id. Raises WrongRequest."""
    _check_scheduler(scheduler)
    for path in jobs_folder().glob("*/job.json"):
        kept = json.loads(path.read_text())
        if (kept["id"], kept["scheduler"]) == (job_id, scheduler):
            job = Job({"directory": kept["directory"], **kept["fields"]}, scheduler=scheduler)
            job.id, job._key = job_id, path.parent.name
            return job
    raise WrongRequest(f"job {job_id} of {scheduler} was not submitted by afportal.jobs")


def find(scheduler: str) -> Jobs:
    """Return all of one's own jobs that are in a scheduler's queue, whoever submitted them."""
    _check_scheduler(scheduler)
    states = {n: s for n, s in _all(scheduler).items() if not s.state.ended}
    found = Jobs()
    for job_id, state in states.items():
        try:
            job = load(job_id, scheduler)
        except WrongRequest:
            job = Job({"executable": "-", "name": "other"}, scheduler=scheduler)
            job.id = job_id
        job.learn(state)
        found.append(job)
    return found


def _all(scheduler: str) -> dict[str, JobState]:
    if scheduler == "slurm":
        return Cluster().jobs()
    from afportal.jobs.access_point import AccessPoint, state_of

    ads = AccessPoint().query(f"Owner == {json.dumps(Path.home().owner())}")
    return {f"{ad['ClusterId']}.{ad['ProcId']}": state_of(ad) for ad in ads}


def look(jobs: Collection[Job]) -> None:
    """Ask how jobs are: one question a scheduler, and one more for those that have left it."""
    living = [job for job in jobs if job.id and not job.state.ended]
    for scheduler in get_args(SchedulerName):
        some = {job.id: job for job in living if job.scheduler == scheduler}
        if some:
            states = _slurm_states(some) if scheduler == "slurm" else _htcondor_states(some)
            for job_id, state in states.items():
                some[job_id].learn(state)


def _slurm_states(jobs: Mapping[str, Job]) -> dict[str, JobState]:
    cluster = Cluster()
    seen = cluster.jobs()
    missing = [job_id for job_id in jobs if job_id not in seen]
    accounted = cluster.accounted(missing) if missing else {}
    return {i: state for i in jobs if (state := seen.get(i) or accounted.get(i)) is not None}


def _htcondor_states(jobs: Mapping[str, Job]) -> dict[str, JobState]:
    from afportal.jobs.access_point import AccessPoint, state_of

    point = AccessPoint()
    ads = point.query(_constraint(jobs))
    missing = set(jobs) - {f"{ad['ClusterId']}.{ad['ProcId']}" for ad in ads}
    if missing:
        ads += point.history(_constraint(missing), len(missing))
    found = {f"{ad['ClusterId']}.{ad['ProcId']}": state_of(ad) for ad in ads}
    if point.spool:
        _fetch(point, {i: jobs[i] for i, s in found.items() if s.state.ended and i not in missing})
    return found


def _fetch(point: Any, ended: Mapping[str, Job]) -> None:
    """Bring back what spooled jobs left, and let them leave the queue."""
    if not ended:
        return
    point.retrieve(_constraint(ended))
    for job in ended.values():
        job.take_back()
    point.act("remove", _constraint(ended))


def wait(
    jobs: Collection[Job], timeout_s: float | None = None, *, progress: bool = True
) -> Collection[Job]:
    """Wait until each of them has ended or is held, with a progress bar.

    Raises:
        NotInTime: some have not.
    """
    begun_s, pause_s, trouble = time.monotonic(), _SOONEST_S, ""
    waits = threading.Event()  # never set: a scheduler tells a notebook nothing by itself
    bar = _bar(len(jobs)) if progress else None
    with bar if bar is not None else contextlib.nullcontext():
        while True:
            try:
                look(jobs)
                trouble = ""
            except SchedulerAway as error:
                trouble = f"; {error}"
            done = sum(job.state.stuck for job in jobs)
            if bar is not None:
                bar.update(done - bar.n)
            if done == len(jobs):
                return jobs
            left_s = None if timeout_s is None else timeout_s - (time.monotonic() - begun_s)
            if left_s is not None and left_s <= 0:
                raise NotInTime(
                    f"{len(jobs) - done} of {len(jobs)} jobs have not ended within {timeout_s:g} "
                    f"s: {', '.join(f'{j.id} {j.state}' for j in jobs if not j.state.stuck)[:300]}"
                    f"{trouble}. They go on; wait again"
                )
            waits.wait(pause_s if left_s is None else min(pause_s, left_s))
            pause_s = min(1.5 * pause_s, _LATEST_S)


def _bar(total: int) -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm(total=total, unit="job")
