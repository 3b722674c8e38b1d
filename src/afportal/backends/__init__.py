"""What the spawner asks of a scheduler, whichever it is.

A facility adds a kind of its own as a subclass of `Backend`; see docs/extending.md.
"""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Protocol, runtime_checkable

from afportal.credentials.settings import Settings
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


class Deed(StrEnum):
    """What a scheduler is about to do to a running job, or its operators are."""

    DRAIN = "drain"
    MAINTENANCE = "maintenance"
    PREEMPTION = "preemption"


@dataclass(frozen=True)
class Announced:
    """One thing that a scheduler says will befall a running job.

    Args:
        words: the operators' own reason, empty if they gave none.
        at_s: when, unix seconds; None: nobody says.
        ends: the scheduler itself ends the job then.
    """

    deed: Deed
    words: str = ""
    at_s: float | None = None
    ends: bool = False


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
        ends_s: when the scheduler ends a running job for its time limit, unix seconds; None: it
            has none, or none is known.
        announced: what else it is about to do to a running job.
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
    ends_s: float | None = None
    announced: tuple[Announced, ...] = ()

    @property
    def taken_s(self) -> float | None:
        """When its scheduler ends it for another reason than its time, unix seconds."""
        return min((a.at_s for a in self.announced if a.ends and a.at_s is not None), default=None)


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
        own_memory: each job has a control group of its own, so that what a session says of its
            memory is its own.
    """

    has_accounts: bool = False
    usual_partition: str = ""
    reserves_limit: bool = False
    own_memory: bool = True


class SchedulerError(Exception):
    """The scheduler did not answer, or answered that it failed."""


class JobRefused(Exception):
    """The scheduler answered that it does not take this job; the message says why."""


class BackendSettings(Settings):
    """What portal.yaml may say of every backend.

    Args:
        kind: name of an entry point in afportal.backends.
        title: what people call it; default what its kind is called, or its own name where that
            is another than its kind's.
    """

    kind: str
    title: str = ""


class Backend(ABC):
    """One scheduler, seen by one hub instance.

    Every method that asks the scheduler raises `SchedulerError` when it does not answer.

    Args:
        settings: what portal.yaml says of it, read by the class's `Settings`.
        name: what portal.yaml calls it; a hub may have several of a kind.
        cell: tag of this hub instance, which each of its jobs carries.
        tls: whose certificates the facility's services show; None: those this machine believes.
    """

    Settings: ClassVar[type[BackendSettings]] = BackendSettings
    # What people call it.
    label: ClassVar[str] = ""
    traits: Traits = Traits()

    def __init__(
        self, settings: Any, *, name: str, cell: str, tls: ssl.SSLContext | None = None
    ) -> None:
        self.settings = settings
        self.name = name
        self.cell = cell
        self.tls = tls
        self.title: str = settings.title or (self.label if name == settings.kind else "") or name

    @abstractmethod
    async def submit(self, request: JobRequest) -> str:
        """Submit as the person and return the job's id. Raises `JobRefused`."""

    @abstractmethod
    async def statuses(
        self, job_ids: Collection[str], *, others: bool = False
    ) -> Mapping[str, JobStatus]:
        """Tell where these jobs stand, by one bulk query.

        A job that the scheduler does not have is left out: it is gone.

        Args:
            job_ids: the jobs of servers that the hub knows.
            others: name every other living job with this cell's tag as well.
        """

    @abstractmethod
    async def cancel(self, job_id: str, reason: str) -> None:
        """End a job; quiet when it is gone already."""

    async def ending(self, job_id: str) -> Ending:
        """Say how a job that is gone ended."""
        return Ending()

    async def status(self, job_id: str) -> JobStatus | None:
        """Tell where one job stands and runs, by a query for it alone; None if it is gone.

        Its addresses are those that the job's requests may come from, none while the scheduler
        has no machine for it.
        """
        return (await self.statuses([job_id])).get(job_id)

    async def pool(self) -> Pool:
        """Tell what there is to be had, what is free and who waits; the same for everybody."""
        raise SchedulerError(f"{self.name} does not tell what it has")

    async def forget(self, request: JobRequest) -> None:  # noqa: B027 - most leave nothing
        """Remove what `submit` left beside the job (an unused one-time code)."""

    async def close(self) -> None:  # noqa: B027 - many hold nothing
        """Release connections and threads."""


@runtime_checkable
class Lengthens(Protocol):
    """A backend whose scheduler lets the hub give a running job more time."""

    async def lengthen(self, job_id: str, runtime_min: int) -> None:
        """Have a running job end so many minutes after its start. Raises `SchedulerError`."""
        ...
