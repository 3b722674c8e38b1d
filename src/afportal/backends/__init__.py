"""What the spawner asks of a scheduler, whichever it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from afportal.pool import Pool


class Standing(StrEnum):
    """Where a job stands, in the words that the portal acts on.

    Only `GONE` means that the scheduler itself said that the job exists no more; a
    scheduler that does not answer says nothing about its jobs.
    """

    PENDING = "pending"
    HELD = "held"
    RUNNING = "running"
    SUSPENDED = "suspended"
    ENDING = "ending"
    GONE = "gone"


class Cause(StrEnum):
    """Why a server is no more; what its scheduler, its owner or the portal did."""

    UNKNOWN = ""
    MEMORY = "memory"
    TIME = "time"
    NODE = "node"
    HELD = "held"
    REMOVED = "removed"
    EXITED = "exited"
    STOPPED = "stopped"
    IDLE = "idle"


@dataclass(frozen=True)
class Ending:
    """How a job ended.

    Args:
        cause: as far as it is known.
        words: the scheduler's own.
        peak_mib: most memory that it used at a time, MiB; None: not known.
    """

    cause: Cause = Cause.UNKNOWN
    words: str = ""
    peak_mib: int | None = None


@dataclass(frozen=True)
class JobStatus:
    """What a scheduler said about one job.

    Args:
        job_id: the scheduler's own id.
        standing: where the job stands.
        native: the scheduler's own word for it ("held", "CONFIGURING").
        reason: why it waits, is held or ended, in the scheduler's words.
        server: "user/servername" as it was submitted, empty if not known.
        node: host name of the machine that runs it, empty before it runs.
        matched_s: when the scheduler matched it to a machine, unix seconds.
        addresses: IP addresses of that machine, as far as the scheduler names them by the way.
        cause: of a job that is held, why.
    """

    job_id: str
    standing: Standing
    native: str = ""
    reason: str = ""
    server: str = ""
    node: str = ""
    matched_s: float | None = None
    addresses: frozenset[str] = frozenset()
    cause: Cause = Cause.UNKNOWN


@dataclass(frozen=True)
class JobRequest:
    """One person's server as a job.

    Args:
        person: who the job runs as; the scheduler's side finds uid, gid and groups.
        home: working directory of the job.
        server: "user/servername", to find the job again.
        cell: tag of the hub instance that owns the job.
        code: the one-time code, delivered by the most private way the scheduler has.
        argv: the session's command line; data, never through a shell.
        environment: further variables for the session; nothing secret.
        memory_mib: memory asked for.
        memory_limit_mib: where the job is stopped (None: the scheduler's own rule).
        reserved: ask for a slot that is kept free for notebooks.
    """

    person: str
    home: str
    server: str
    cell: str
    code: str = field(repr=False)
    argv: tuple[str, ...]
    cores: int
    memory_mib: int
    runtime_min: int
    memory_limit_mib: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    reserved: bool = False
    partition: str = ""
    account: str = ""
    qos: str = ""
    reservation: str = ""
    gpus: str = ""


@dataclass(frozen=True)
class Traits:
    """How a scheduler takes jobs.

    Args:
        has_accounts: people choose partition, account and QOS, and a submit is judged as theirs.
            Without, the hub submits by its own right, and is the judge.
        usual_partition: where a job goes that names none, by the hub's own setting.
        reserves_limit: a job asks for as much memory as it may use at most, not for what its
            class says is enough.
    """

    has_accounts: bool = False
    usual_partition: str = ""
    reserves_limit: bool = False


class SchedulerError(Exception):
    """The scheduler did not answer, or answered that it failed."""


class JobRefused(Exception):
    """The scheduler answered that it does not take this job; the message says why."""


class Backend(Protocol):
    """One scheduler, seen by one hub instance.

    Every method that asks the scheduler raises `SchedulerError` when it does not answer.
    """

    name: str
    traits: Traits

    async def submit(self, request: JobRequest) -> str:
        """Submit as the person and return the job's id. Raises `JobRefused`."""
        ...

    async def statuses(
        self, job_ids: Collection[str], *, others: bool = False
    ) -> Mapping[str, JobStatus]:
        """Tell where these jobs stand, by one bulk query.

        A job that the scheduler does not have is left out: it is gone.

        Args:
            job_ids: the jobs of servers that the hub knows.
            others: name every other living job with this cell's tag as well.
        """
        ...

    async def cancel(self, job_id: str, reason: str) -> None:
        """End a job; quiet when it is gone already."""
        ...

    async def ending(self, job_id: str) -> Ending:
        """Say how a job that is gone ended."""
        ...

    async def status(self, job_id: str) -> JobStatus | None:
        """Tell where one job stands and runs, by a query for it alone; None if it is gone.

        Its addresses are those that the job's requests may come from, none while the scheduler
        has no machine for it.
        """
        ...

    async def pool(self) -> Pool:
        """Tell what there is to be had, what is free and who waits; the same for everybody."""
        ...

    async def forget(self, request: JobRequest) -> None:
        """Remove what `submit` left beside the job (an unused one-time code)."""
        ...

    async def close(self) -> None:
        """Release connections and threads."""
        ...
