"""Slurm as oneself: its own commands on the node, which munge or the facility's key knows.

What reaches a job is data: options are an argument list, variables are the environment, and a batch
script is Python in which every value is a literal.

Source: sbatch(1), squeue(1), scontrol(1), sacct(1) of Slurm 24.11.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from afportal.jobs import passed_on
from afportal.jobs.errors import NotHere, Refused, SchedulerAway
from afportal.jobs.fields import Resources
from afportal.jobs.states import JobState, State

_TIMEOUT_S = 30.0
_AWAY = re.compile(
    r"contact slurm controller|Connection refused|timed out|Unable to (?:connect|establish)"
    r"|communication connection failure|Transport endpoint|backup controller",
    re.IGNORECASE,
)
_STATES = {
    "PENDING": State.IDLE, "REQUEUED": State.IDLE, "CONFIGURING": State.RUNNING,
    "RUNNING": State.RUNNING, "COMPLETING": State.RUNNING, "STAGE_OUT": State.RUNNING,
    "SUSPENDED": State.SUSPENDED, "STOPPED": State.SUSPENDED, "REQUEUE_HOLD": State.HELD,
    "SPECIAL_EXIT": State.HELD, "COMPLETED": State.COMPLETED, "CANCELLED": State.REMOVED,
}  # fmt: skip
# Of a job that waits: JobHeldUser, JobHeldAdmin, "job requeued in held state"
_HELD = re.compile(r"JobHeld|held state")
_COMPLETING = "completing"
_GONE = JobState(State.REMOVED)
_STOPPED_WITHIN_S, _ASK_AGAIN_S = 15.0, 0.25
_SOON = "StartTime=now+3"
_SAID = {
    "OUT_OF_MEMORY": "out of memory: memory_mib is the limit",
    "TIMEOUT": "out of time: runtime_min is the limit",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node failed to boot",
    "PREEMPTED": "preempted for another job",
}
_LARGEST = re.compile(r"^MaxArraySize\s*=\s*([1-9]\d*)$", re.MULTILINE)
# Fields of fixed width, none of which is cut.
_FIELDS = (("JobArrayID", 40), ("State", 20), ("Reason", 60), ("NodeList", 60), ("exit_code", 10))
_HINTS = (
    (
        re.compile(
            r"job submit limit|QOSMaxSubmitJob|AssocMaxSubmitJob|MaxSubmitJob", re.IGNORECASE
        ),
        "that is more jobs than you may have here at a time: put several calls into a job "
        "(calls_per_job=10), or wait for others to end",
    ),
    (
        re.compile(r"Invalid job array specification", re.IGNORECASE),
        "that is more jobs than an array may have here (MaxArraySize): put several calls into "
        "a job (calls_per_job=10)",
    ),
)


@dataclass(frozen=True)
class Batch:
    """One job, or an array, as sbatch is told it.

    Args:
        script: what runs; a program of Python's.
        array: how many tasks; 0: a job that is no array.
        output: file, with sbatch's own patterns where `%` is not doubled.
        again: Slurm may run it again, after its node failed or by `scontrol requeue`.
    """

    name: str
    script: str
    directory: str
    output: str
    error: str = ""
    array: int = 0
    again: bool = False


def pattern(path: str) -> str:
    """Return a path as sbatch's output patterns take it for itself."""
    return path.replace("%", "%%")


def python_script(interpreter: str, body: str) -> str:
    """Return a batch script that this interpreter runs.

    Raises:
        NotHere: its path cannot stand in a script's first line.
    """
    if len(interpreter) > 110 or not re.fullmatch(r"[^\s\x00-\x1f]+", interpreter):
        raise NotHere(
            f"interpreter {interpreter!r}: a path of at most 110 characters without blanks can "
            "run on Slurm; move the environment"
        )
    return f"#!{interpreter} -P\n{body}"


class Cluster:
    """The one that this node belongs to."""

    def _program(self, name: str) -> str:
        found = shutil.which(name)
        if found is None:
            raise NotHere(
                f"this session has no {name}: Slurm is reached from a server that the facility "
                "starts on its nodes, and from its login nodes, not from inside a container "
                "that lacks it"
            )
        return found

    def run(
        self, argv: Sequence[str], *, given: str = "", environment: Mapping[str, str] | None = None
    ) -> str:
        """Run one of Slurm's commands; returns what it prints.

        Raises:
            NotHere: it is not on this node.
            SchedulerAway: the controller does not answer.
            Refused: it does, and refuses.
        """
        program = self._program(argv[0])
        try:
            done = subprocess.run(
                [program, *argv[1:]],
                input=given,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                env=dict(environment) if environment is not None else None,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SchedulerAway(
                f"Slurm does not answer {argv[0]} within {_TIMEOUT_S:g} s; its jobs are kept, "
                "try again when `sinfo` answers"
            ) from error
        if done.returncode == 0:
            return done.stdout
        # It tells each attempt to reach the controller; the last lines say what came of it.
        words = " ".join(" ".join(done.stderr.splitlines()[-2:]).split())[-500:]
        words = words or f"{argv[0]} ended with {done.returncode}"
        if _AWAY.search(words):
            raise SchedulerAway(
                f"Slurm does not answer: {words}. Its jobs are kept, try again when `sinfo` answers"
            )
        hint = next((f". {hint}" for found, hint in _HINTS if found.search(words)), "")
        raise Refused(f"Slurm: {words}{hint}")

    def submit(self, batch: Batch, asked: Resources) -> str:
        """Submit; returns the job's or array's number."""
        argv = [
            "sbatch", "--parsable", "--export=ALL", "--input=/dev/null",
            f"--job-name={batch.name}", f"--chdir={batch.directory}", f"--output={batch.output}",
            "--nodes=1", "--ntasks=1", f"--cpus-per-task={asked.cores}",
            f"--mem={asked.memory_mib}",
            "--requeue" if batch.again else "--no-requeue",
        ]  # fmt: skip
        if batch.error:
            argv.append(f"--error={batch.error}")
        if batch.array:
            argv.append(f"--array=0-{batch.array - 1}")
        if asked.runtime_min is not None:
            argv.append(f"--time={asked.runtime_min}")
        if asked.gpus:
            argv.append(f"--gpus={asked.gpus}")
        argv += [
            f"--{name}={value}"
            for name in ("account", "partition", "qos", "reservation")
            if (value := getattr(asked, name))
        ]
        # sbatch itself runs with what the job shall have, so that names and values stay data.
        environment = passed_on.variables(asked.environment)
        for name in ("SLURM_CONF",):
            if name in os.environ:
                environment.setdefault(name, os.environ[name])
        said = self.run(argv, given=batch.script, environment=environment)
        return said.strip().split(";")[0]

    def largest_array(self) -> int | None:
        """Return how many tasks an array may have; None: Slurm does not say.

        Source: slurm.conf(5), MaxArraySize: the largest index is one less.
        """
        found = _LARGEST.search(self.run(["scontrol", "show", "config"]))
        return int(found[1]) if found else None

    def jobs(self) -> dict[str, JobState]:
        """Return all that the controller knows of one's own, ended ones too, in one answer.

        Returns:
            "7", or "7_3" of an array's task → how it is.
        """
        fields = ",".join(f"{name}:{width}" for name, width in _FIELDS)
        said = self.run(
            ["squeue", "--me", "--noheader", "--array", "--states=all", f"--Format={fields}"]
        )
        return dict(map(_read_line, filter(str.strip, said.splitlines())))

    def accounted(self, numbers: Collection[str]) -> dict[str, JobState]:
        """Return what the accounting knows of jobs that the controller has forgotten."""
        if not numbers:
            return {}
        said = self.run(
            ["sacct", "--noheader", "--parsable2", "--allocations", "--array",
             f"--jobs={','.join(sorted(numbers))}",
             "--format=JobID,State,Reason,NodeList,ExitCode"]
        )  # fmt: skip
        found = {}
        for line in said.splitlines():
            name, state, reason, node, code = line.split("|")
            # "CANCELLED by 1000"
            found[name] = _state(state.split()[0].rstrip("+"), reason, node, code)
        return found

    def act(self, deed: str, states: Mapping[str, JobState]) -> int:
        """Do "hold", "release", "vacate" or "remove" to jobs.

        Args:
            states: job → how it is now: Slurm has another word for one that runs than for one
                that waits.

        Returns:
            To how many.
        """
        running = [n for n, s in states.items() if s.state in (State.RUNNING, State.SUSPENDED)]
        waiting = [n for n, s in states.items() if s.state is State.IDLE]
        held = [n for n, s in states.items() if s.state is State.HELD]
        match deed:
            case "hold":
                self._each(["scontrol", "requeuehold"], running)
                # One that was being put back into the queue waits by now.
                self._each(["scontrol", "hold"], [*waiting, *running])
                return len(running) + len(waiting)
            case "release":
                self._each(["scontrol", "release"], held)
                self._begin_now(held)
                return len(held)
            case "vacate":
                self._each(["scontrol", "requeue"], running)
                self._begin_now(running)
                return len(running)
            case _:
                self._each(["scancel"], [*running, *waiting, *held])
                return len(running) + len(waiting) + len(held)

    def _begin_now(self, names: Sequence[str]) -> None:
        """Spare jobs that run again the two minutes that Slurm lets them wait.

        It says so only of a job that waits, and one that was stopped ends first. One that starts
        again in the second in which its node heard of the end is no job to that node: slurmd takes
        it for the old one, "already killed", and it has failed.
        """
        waits, left = threading.Event(), set(names)
        for _ in range(round(_STOPPED_WITHIN_S / _ASK_AGAIN_S)):
            states = self.jobs()
            waiting = {name for name in left if states.get(name, _GONE).state is State.IDLE}
            for name in waiting:
                self._each(["scontrol", "update", _SOON], [f"JobId={name}"])
            left = {n for n in left - waiting if states.get(n, _GONE).reason == _COMPLETING}
            if not left:
                return
            waits.wait(_ASK_AGAIN_S)  # never set: nothing tells a client that a job has ended

    def _each(self, argv: Sequence[str], jobs: Sequence[str]) -> None:
        """Do it to many at a time; one that has ended meanwhile is none to tell of."""
        for begin in range(0, len(jobs), 200):
            some = jobs[begin : begin + 200]
            names = some if argv[0] == "scancel" else [",".join(some)]
            try:
                self.run([*argv, *names])
            except Refused as error:
                if not re.search(
                    r"Invalid job id|already (?:completing|finished)|(?:completing|completed)|"
                    r"Job/step already|no longer|is not running|Requested operation|"
                    r"pending execution",
                    str(error),
                    re.IGNORECASE,
                ):
                    raise

    def edit_memory(self, jobs: Sequence[str], memory_mib: int) -> int:
        """Change the memory of jobs that wait; returns of how many."""
        for name in jobs:
            self.run(["scontrol", "update", f"JobId={name}", f"MinMemoryNode={memory_mib}"])
        return len(jobs)


def _read_line(line: str) -> tuple[str, JobState]:
    parts, position = [], 0
    for _, width in _FIELDS:
        parts.append(line[position : position + width].strip())
        position += width
    name, state, reason, node, code = parts
    return name, _state(state, reason, node, code)


def _state(native: str, reason: str, node: str, code: str) -> JobState:
    """Read a state. `code` is "0", "3:0" or "0:9": exit code, and signal."""
    state = _STATES.get(native, State.FAILED)
    node = "" if node in ("None assigned", "(null)", "N/A") else node
    reason = "" if reason in ("None", "") else reason
    if state is State.IDLE and _HELD.search(reason):
        state = State.HELD
    if state is State.COMPLETED:
        return JobState(state, "", node, 0)
    if native == "COMPLETING":
        reason = _COMPLETING
    if state is not State.FAILED:
        return JobState(state, reason, node)
    number, _, signal = code.partition(":")
    exit_code = int(number) if number.isdecimal() else None
    said = _SAID.get(native, "")
    if not said and signal.isdecimal() and int(signal):
        said = f"ended by signal {int(signal)}"
    if not said and exit_code:
        said = f"exit code {exit_code}"
    return JobState(state, said or native.lower().replace("_", " "), node, exit_code)
