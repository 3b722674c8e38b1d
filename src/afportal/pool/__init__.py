"""What a scheduler has to give, who holds it and who waits for it: the same for every backend.

A backend makes one `Pool` for everybody; what one person may have of it is `pool.access`, when
they would have it `pool.forecast`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

ANY_KIND = ""


@dataclass(frozen=True)
class Room:
    """So much of one machine.

    Args:
        gpus: kind → number; kind "" is one of any kind, and only asked for.
        quota: partition → cores that its jobs may have of the machine; not named: no limit.
    """

    cores: int = 0
    memory_mib: int = 0
    gpus: Mapping[str, int] = field(default_factory=dict)
    quota: Mapping[str, int] = field(default_factory=dict)

    def holds(self, other: Room) -> bool:
        """Tell whether the other fits in here."""
        if other.cores > self.cores or other.memory_mib > self.memory_mib:
            return False
        kinds = {kind: count for kind, count in other.gpus.items() if kind != ANY_KIND}
        return (
            all(self.gpus.get(kind, 0) >= count for kind, count in kinds.items())
            and sum(self.gpus.values()) >= sum(other.gpus.values())
            and all(self.quota.get(name, count) >= count for name, count in other.quota.items())
        )

    def __sub__(self, other: Room) -> Room:
        """Return what is left when the other is taken."""
        gpus = dict(self.gpus)
        for kind, count in sorted(other.gpus.items(), reverse=True):
            # Those of a kind first; whoever takes any takes of what there is most.
            for _ in range(count):
                taken = kind or max(gpus, key=lambda k: gpus[k], default="")
                gpus[taken] = gpus.get(taken, 0) - 1
        return Room(
            self.cores - other.cores, self.memory_mib - other.memory_mib, gpus,
            {n: left - other.quota.get(n, 0) for n, left in self.quota.items()},
        )  # fmt: skip

    def __add__(self, other: Room) -> Room:
        """Return what there is when the other is given back."""
        gpus = dict(self.gpus)
        for kind, count in other.gpus.items():
            gpus[kind] = gpus.get(kind, 0) + count
        return Room(
            self.cores + other.cores, self.memory_mib + other.memory_mib, gpus,
            {n: left + other.quota.get(n, 0) for n, left in self.quota.items()},
        )  # fmt: skip


@dataclass(frozen=True)
class Ask:
    """What one server asks of a scheduler.

    Args:
        reserved: it may have a slot that is kept free for notebooks.
    """

    room: Room
    runtime_min: int
    partition: str = ""
    account: str = ""
    qos: str = ""
    reserved: bool = False

    @property
    def needs(self) -> Room:
        """What it takes of a machine, its partition's quota included."""
        return replace(self.room, quota={self.partition: self.room.cores})


@dataclass(frozen=True)
class Machine:
    """A node or a slot.

    Args:
        whole: all that it would have if nothing ran there.
        free: what a new job could have of it at once.
        partitions: that it belongs to; a scheduler without them: none.
        up: it takes new jobs.
        takes: whether its owner's policy lets a job in, by what that asks; None: all that fits.
        kept_for: whose next job alone may have it now; empty: everybody's.
    """

    name: str
    whole: Room
    free: Room
    partitions: frozenset[str] = frozenset()
    up: bool = True
    takes: Callable[[Ask], bool] | None = None
    kept_for: str = ""

    def ever(self, ask: Ask) -> bool:
        """Tell whether it could hold this if nothing else ran there."""
        return (
            self.up
            and (not ask.partition or ask.partition in self.partitions)
            and self.whole.holds(ask.needs)
            and (self.takes is None or self.takes(ask))
        )


@dataclass(frozen=True)
class Running:
    """A job on one machine; one that has several is there once for each.

    Args:
        job: its id; a job on several machines is one.
        person: whose it is, and with which QOS; empty if nobody says.
        ends_s: when its time is over at the latest, unix seconds; None: nobody says.
    """

    machine: str
    room: Room
    ends_s: float | None
    job: str = ""
    person: str = ""
    qos: str = ""


@dataclass(frozen=True)
class Waiting:
    """A job in the queue.

    Args:
        machines: so many times `room`, each on a machine of its own.
        priority: the higher, the sooner it is looked at.
        blocked: something other than room keeps it waiting: a hold, a limit, a dependency.
        job: the scheduler's own id.
    """

    ask: Ask
    machines: int = 1
    priority: tuple[int, ...] = ()
    blocked: bool = False
    job: str = ""


@dataclass(frozen=True)
class Partition:
    """A queue and who may use it; None of a set means 'everybody' and 'no limit' of a number.

    Args:
        tier: partitions of a higher one are looked at first.
        assigned_qos: whose limits come before those of a job's own QOS.
        accounts, denied_accounts: with all accounts below them.
    """

    name: str
    up: bool = True
    tier: int = 1
    runtime_min: int | None = None
    cores: int | None = None
    memory_mib: int | None = None
    assigned_qos: str = ""
    accounts: frozenset[str] | None = None
    denied_accounts: frozenset[str] = frozenset()
    groups: frozenset[str] | None = None
    qos: frozenset[str] | None = None
    denied_qos: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Account:
    """One association of a person with an account.

    Args:
        above: the accounts that it is part of.
        partition: the only one that it counts for; empty: all.
        qos: that may be asked for with it.
        runtime_min: longest job.
    """

    name: str
    above: frozenset[str] = frozenset()
    partition: str = ""
    default: bool = False
    qos: tuple[str, ...] = ()
    default_qos: str = ""
    runtime_min: int | None = None


@dataclass(frozen=True)
class Qos:
    """A quality of service: what it allows one job, and all jobs of one person at a time."""

    name: str
    runtime_min: int | None = None
    cores: int | None = None
    memory_mib: int | None = None
    gpus: int | None = None
    jobs_a_person: int | None = None
    gpus_a_person: int | None = None


@dataclass(frozen=True)
class Pool:
    """A scheduler's answer to everybody's questions at one moment.

    Args:
        accounts: person → associations. None: the scheduler knows no accounts, so there is
            nothing to choose. A person without any may not use it.
        waiting: of all people; a scheduler that does not say has none.
        asked_s: when it was asked, unix seconds.
    """

    machines: tuple[Machine, ...] = ()
    partitions: tuple[Partition, ...] = ()
    accounts: Mapping[str, tuple[Account, ...]] | None = None
    qos: Mapping[str, Qos] = field(default_factory=dict)
    running: tuple[Running, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    asked_s: float = field(default_factory=time.time)
