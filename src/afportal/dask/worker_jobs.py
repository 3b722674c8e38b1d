"""The batch jobs that are a cluster's workers: dask-jobqueue's, with this facility's command.

A job's script or description is made from data, and each value is quoted for what reads it.
"""

from __future__ import annotations

import asyncio
import functools
import shlex
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dask_jobqueue import htcondor, slurm
from dask_jobqueue.core import Job
from distributed.core import Status

from afportal.dask.software import Software
from afportal.jobs.access_point import AccessPoint
from afportal.jobs.errors import JobsError

# A worker that does not let go of its data in this time is removed with them.
RETIRE_S = 60.0
# So long before the scheduler would end the job its worker begins to hand over; a job that is
# short has a fifth of its time for that.
_MARGIN_S = 120


@dataclass(frozen=True)
class Place:
    """What all workers of a cluster have in common.

    Args:
        key: the handle of the key at HTCondor's credd, or the sealed key itself.
        folder: the notebook's, which is the worker's too.
        logs: where the jobs' output goes.
        life_s: when the scheduler ends a job.
        packages: folder of further Python packages; empty for none.
        data: whether jobs ask for the person's data token.
        software: what they run in.
        spool: HTCondor's access point shares no files with us.
    """

    key: str
    folder: Path
    logs: Path
    life_s: int
    packages: str = ""
    data: bool = False
    software: Software = field(default_factory=Software)
    spool: bool = False


def lifetime(life_s: int) -> list[str]:
    """Return a worker's own options for leaving before its job is ended."""
    margin_s = min(_MARGIN_S, life_s // 5)
    return ["--lifetime", f"{life_s - margin_s} s", "--lifetime-stagger", f"{margin_s // 2} s"]


class JobRefused(UserWarning):
    """A scheduler does not take a worker's job; the message has its words."""


class _WorkerJob(Job):
    """What both kinds of job do alike; in front of dask-jobqueue's own class."""

    def __init__(
        self, scheduler: Any = None, name: Any = None, *, place: Any = None, **options: Any
    ):
        self.place: Place = place
        self._options = [*(options.pop("worker_extra_args", None) or ())]
        self._nanny = options.get("nanny", True)
        if options.get("local_directory"):
            self._options += ["--local-directory", options["local_directory"]]
        options["security"] = None  # the key's way is ours
        options["log_directory"] = str(place.logs)
        super().__init__(scheduler=scheduler, name=name, **options)

    def command(self, key: str) -> list[str]:
        """Return what the job runs.

        Args:
            key: where `keys.receive` finds it.
        """
        return self.place.software.command(
            "--key", key,
            "--folder", str(self.place.folder),
            *(["--packages", self.place.packages] if self.place.packages else []),
            str(self.scheduler),
            "--name", str(self.name),
            "--nthreads", str(self.worker_process_threads),
            "--memory-limit", self.worker_process_memory,
            "--nworkers", str(self.worker_processes),
            "--nanny" if self._nanny else "--no-nanny",
            # Its pages are for everybody who reaches the port; the scheduler's show as much.
            "--no-dashboard", "--dashboard-address", "127.0.0.1:0",
            "--death-timeout", "60",
            *lifetime(self.place.life_s),
            *map(str, self._options),
        )  # fmt: skip

    async def start(self) -> None:
        """Submit the job; a refusal is told at once, for nobody waits for this."""
        try:
            await super().start()
        except (JobsError, RuntimeError, OSError) as error:
            said = str(error).rpartition("stderr:")[2].strip() or str(error)
            words = f"there is no job for worker {self.name}: {said}"
            warnings.warn(words, JobRefused, stacklevel=1)
            raise

    async def close(self) -> None:
        """Have the worker give away what only it has, then remove the job."""
        found = getattr(self, "_cluster", None)
        cluster = found() if found is not None else None
        if cluster is not None and cluster.status == Status.running:
            # SpecCluster retires by the names of jobs as if they were addresses, so nobody.
            with suppress(TimeoutError, OSError):
                async with asyncio.timeout(RETIRE_S):
                    await cluster.scheduler.retire_workers(
                        names=_worker_names(self.name, self.worker_processes),
                        close_workers=True,
                        remove=True,
                    )
        await super().close()


def _worker_names(job: object, processes: int) -> list[str]:
    return [f"{job}-{index}" for index in range(processes)] if processes > 1 else [str(job)]


@functools.cache
def _access_point() -> AccessPoint:
    return AccessPoint()


class HTCondorJob(_WorkerJob, htcondor.HTCondorJob):
    """A job at people's own access point, told by HTCondor's bindings: no program is needed."""

    def __init__(self, scheduler: Any = None, name: Any = None, **options: Any):
        super().__init__(scheduler, name, **options)
        if any(self._job_script_prologue or ()):
            raise ValueError(
                "job_script_prologue asked; a job on HTCondor runs no shell. Say environment or "
                "requirements by job_extra_directives, packages by your home's requirements.txt"
            )
        services = f"dask*{self.place.key}"
        if self.place.data:
            services = f"data,{services}"
        self.job_header_dict |= {
            "batch_name": self.job_name,
            "transfer_executable": "False",
            "should_transfer_files": "NO",
            "initialdir": self.place.logs,
            "My.OAuthServicesNeeded": f'"{services}"',
            "allowed_job_duration": self.place.life_s,
            # What was held, for its memory for instance, comes back as another job.
            "periodic_remove": "JobStatus == 5 && HoldReasonCode != 16",
            "job_max_vacate_time": 10,
            **(_SPOOLED if self.place.spool else {}),
            **dict(self.job_extra_directives or {}),
        }
        # A worker is stopped through its scheduler, and says its last word itself.
        for directive in ("Stream_Output", "Stream_Error", *self.job_directives_skip):
            self.job_header_dict.pop(directive, None)
        if self.place.spool:
            self.job_header_dict.pop("Log", None)

    def description(self) -> dict[str, str]:
        """Return the submit description."""
        python, *arguments = self.command(f"credd:dask_{self.place.key}")
        lines = {
            "executable": python,
            "arguments": f'"{quoted(arguments)}"',
            **self.job_header_dict,
        }
        return {name: str(value) for name, value in lines.items()}

    def job_script(self) -> str:
        """Return it as `condor_submit` reads it."""
        return "".join(f"{n} = {value}\n" for n, value in self.description().items()) + "queue\n"

    async def _submit_job(self, _script: str) -> str:
        cluster, _ = await asyncio.to_thread(_access_point().submit, self.description())
        return str(cluster)

    def _job_id_from_submit_output(self, out: str) -> str:
        return out

    @classmethod
    async def _close_job(cls, job_id: str | None, _command: str) -> None:
        """Remove it."""
        if not job_id:
            return

        def remove() -> None:
            with suppress(JobsError):  # it is over, or the access point is away
                _access_point().act("remove", f"ClusterId == {int(job_id)}")

        try:
            await asyncio.to_thread(remove)
        except RuntimeError:  # at the end of an interpreter there are no other threads
            remove()


# At an access point that shares no files: nothing is sent but the job, and what it printed goes
# with it, for a worker's log is no result that waits to be fetched.
_SPOOLED = {
    "should_transfer_files": "YES",
    "when_to_transfer_output": "ON_EXIT",
    "My.TransferOutput": '""',
    "Output": "worker.out",
    "Error": "worker.err",
    "leave_in_queue": "False",
}


def quoted(arguments: Sequence[str]) -> str:
    """Return arguments as a submit description takes them between double quotes.

    Source: condor_submit(1), "new" syntax of arguments: each in single quotes, quotes doubled;
    `$` would begin a macro.
    """
    text = " ".join("'" + argument.replace("'", "''") + "'" for argument in arguments)
    return text.replace('"', '""').replace("$", "$(DOLLAR)")


# A job's environment: nothing of the session's but this.
_PASSED_ON = ("HOME", "USER", "LOGNAME", "LANG", "PATH")


class SLURMJob(_WorkerJob, slurm.SLURMJob):
    """A job of Slurm's."""

    def __init__(self, scheduler: Any = None, name: Any = None, **options: Any):
        super().__init__(scheduler, name, **options)
        self.job_header += (
            f"\n#SBATCH --export={','.join(_PASSED_ON)}"
            f"\n#SBATCH --chdir={self.place.logs}"
            "\n#SBATCH --no-requeue"
        )

    def job_script(self) -> str:
        """Return the script; Slurm shows it to nobody but its person."""
        return (
            f"#!/bin/sh\n{self.job_header}\n"
            + "".join(f"{line}\n" for line in self._job_script_prologue or () if line)
            + f"exec {shlex.join(self.command('sealed'))} <<'KEY'\n{self.place.key}\nKEY\n"
        )
