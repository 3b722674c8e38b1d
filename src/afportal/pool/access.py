"""What one person may have of a pool: partitions, accounts and QOS, and what each allows.

Source: slurm.conf(5), AllowAccounts, AllowGroups, AllowQos and their Deny… counterparts (an
Allow list makes the Deny list void); sacctmgr(1), associations.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from afportal.pool import ANY_KIND, Account, Ask, Partition, Pool, Qos, Room


@dataclass(frozen=True)
class Way:
    """One partition with one account and one QOS that a person may ask for together.

    Args:
        runtime_min: longest job; None: no limit.
        most: the largest job on one machine.
    """

    partition: Partition
    account: Account
    qos: str
    runtime_min: int | None
    most: Room


class NoWay(ValueError):
    """A person may not ask for this; `faults` says why, a line each."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("; ".join(faults))


@dataclass(frozen=True)
class Access:
    """What a person may ask of a scheduler that has partitions and accounts.

    Args:
        accounts: the person's own.
        partitions: those that they may use with one of them at least.
    """

    pool: Pool
    accounts: tuple[Account, ...]
    partitions: tuple[Partition, ...]
    # Where a job goes that names no partition.
    usual_partition: str = ""

    @cached_property
    def default_account(self) -> str:
        """The account of a job that names none; empty without any."""
        mine = [a for a in self.accounts if a.default] or list(self.accounts)
        return mine[0].name if mine else ""

    @cached_property
    def default_partition(self) -> str:
        """The partition of a job that names none, if the person may use it; else their first."""
        names = [p.name for p in self.partitions]
        return self.usual_partition if self.usual_partition in names else next(iter(names), "")

    def accounts_for(self, partition: Partition) -> list[Account]:
        """Return the accounts that a partition takes, the default first."""
        found = self._accounts_for.get(partition.name)
        if found is None:
            mine = (a for a in self.accounts if allows(partition, a))
            found = self._accounts_for[partition.name] = sorted(
                (a for a in mine if any(takes_qos(partition, name) for name in a.qos)),
                key=lambda a: (a.name != self.default_account, a.name),
            )
        return found

    @cached_property
    def _accounts_for(self) -> dict[str, list[Account]]:
        return {}

    def _kinds_for(self, partition: Partition) -> list[Account]:
        """Return the first of the accounts that allow the same: of 200 there are a few kinds."""
        found = self._kinds.get(partition.name)
        if found is None:
            kinds: dict[tuple[Any, ...], Account] = {}
            for a in self.accounts_for(partition):
                kinds.setdefault((a.qos, a.default_qos, a.runtime_min), a)
            found = self._kinds[partition.name] = [*kinds.values()]
        return found

    @cached_property
    def _kinds(self) -> dict[str, list[Account]]:
        return {}

    def qos_for(self, partition: Partition, account: Account) -> list[str]:
        """Return the QOS of an account that a partition takes, the default first."""
        return sorted(
            (name for name in account.qos if takes_qos(partition, name)),
            key=lambda name: (name != account.default_qos, account.qos.index(name)),
        )

    def all_qos_for(self, partition: Partition) -> set[str]:
        """Return the QOS that a partition takes with one account or another."""
        names = {name for a in self.accounts_for(partition) for name in a.qos}
        return {name for name in names if takes_qos(partition, name)}

    def way(self, ask: Ask) -> Way:
        """Fill in what an ask leaves open, so that it may run: the first that does, defaults first.

        Raises:
            NoWay: Which of its words this person may not say, or what is too much, a line each.
        """
        if not self.accounts:
            raise NoWay(["you have no account there; ask your facility for one"])
        there = {p.name: p for p in self.partitions}
        if ask.partition and ask.partition not in there:
            raise NoWay([f"partition {ask.partition} asked; you may use {_list(there)}"])
        faults: list[str] = []
        for name in [ask.partition] if ask.partition else sorted(there, key=self._first):
            try:
                return self._way_in(there[name], ask)
            except NoWay as none:
                faults = faults or none.faults
        raise NoWay(faults or ["no partition is open to you"])

    def _first(self, name: str) -> bool:
        return name != self.default_partition

    def _way_in(self, place: Partition, ask: Ask) -> Way:
        if ask.account:
            mine = [a for a in self.accounts_for(place) if a.name == ask.account]
        else:
            mine = self._kinds_for(place)
        if not mine:
            names = _list(a.name for a in self.accounts_for(place))
            raise NoWay(
                [f"account {ask.account} asked; in partition {place.name} you may use {names}"]
            )
        faults: list[str] = []
        for account in mine:
            for qos in self.qos_for(place, account):
                if ask.qos in ("", qos):
                    most = self.most(place, qos)
                    runtime_min = self.runtime_min(place, account, qos)
                    way = Way(place, account, qos, runtime_min, most)
                    excess = too_much(way, ask)
                    if not excess:
                        return way
                    faults = faults or excess
        raise NoWay(
            faults
            or [
                f"QOS {ask.qos} asked; partition {place.name} with account {mine[0].name} takes "
                f"{_list(self.qos_for(place, mine[0]))}"
            ]
        )

    def runtime_min(self, partition: Partition, account: Account, qos: str) -> int | None:
        """Return the longest runtime, None where nobody has a limit.

        The first that has one counts, of the partition's own QOS, the job's, and the
        association; the partition's time is a limit beside it.
        """
        of_job = (
            self._qos(partition.assigned_qos).runtime_min,
            self._qos(qos).runtime_min,
            account.runtime_min,
        )
        first = next((limit for limit in of_job if limit is not None), None)
        limits = [limit for limit in (first, partition.runtime_min) if limit is not None]
        return min(limits, default=None)

    def most(self, partition: Partition, qos: str) -> Room:
        """Return the largest job on one machine of a partition; of GPUs, most of each kind."""
        key = (partition.name, qos)
        if key not in self._most:
            self._most[key] = self._find_most(partition, qos)
        return self._most[key]

    @cached_property
    def _most(self) -> dict[tuple[str, str], Room]:
        return {}

    def _find_most(self, partition: Partition, qos: str) -> Room:
        # Nodes that are away for a moment, or asleep, count: this is what may be asked for.
        wholes = [m.whole for m in self.pool.machines if partition.name in m.partitions]
        limits = [self._qos(partition.assigned_qos), self._qos(qos)]
        kinds = sorted({kind for whole in wholes for kind in whole.gpus})

        def least(most: int, *more: int | None) -> int:
            return min([most, *(limit for limit in more if limit is not None)])

        return Room(
            least(
                max((w.cores for w in wholes), default=0),
                partition.cores,
                *(limit.cores for limit in limits),
            ),
            least(
                max((w.memory_mib for w in wholes), default=0),
                partition.memory_mib,
                *(limit.memory_mib for limit in limits),
            ),
            {
                kind: least(
                    max(w.gpus.get(kind, 0) for w in wholes),
                    *(limit.gpus for limit in limits),
                    *(limit.gpus_a_person for limit in limits),
                )
                for kind in kinds
            },
        )

    def _qos(self, name: str) -> Qos:
        return self.pool.qos.get(name) or Qos(name)


def access_of(
    pool: Pool, person: str, groups: frozenset[str], *, usual_partition: str = ""
) -> Access | None:
    """Return what a member of these groups may ask for; None: there is nothing to choose."""
    if pool.accounts is None:
        return None
    accounts = pool.accounts.get(person, ())
    partitions = tuple(
        partition
        for partition in pool.partitions
        if partition.up
        and (partition.groups is None or partition.groups & groups)
        and any(
            allows(partition, account) and any(takes_qos(partition, name) for name in account.qos)
            for account in accounts
        )
    )
    return Access(pool, accounts, partitions, usual_partition)


def allows(partition: Partition, account: Account) -> bool:
    """Tell whether a partition takes an account."""
    if account.partition not in ("", partition.name):
        return False
    listed = partition.denied_accounts if partition.accounts is None else partition.accounts
    named = account.name in listed or not listed.isdisjoint(account.above)
    return named is (partition.accounts is not None)


def takes_qos(partition: Partition, name: str) -> bool:
    """Tell whether a partition takes a QOS."""
    return name in partition.qos if partition.qos is not None else name not in partition.denied_qos


def too_much(way: Way, ask: Ask) -> list[str]:
    """Say, a line each, what of an ask its partition, account or QOS does not allow."""
    found = []
    place = f"partition {way.partition.name} with QOS {way.qos}"
    if way.runtime_min is not None and ask.runtime_min > way.runtime_min:
        found.append(f"{ask.runtime_min} runtime_min asked; {place} allows {way.runtime_min}")
    if ask.room.cores > way.most.cores:
        found.append(f"{ask.room.cores} cores asked; {place} allows {way.most.cores}")
    if ask.room.memory_mib > way.most.memory_mib:
        found.append(
            f"{ask.room.memory_mib} memory_mib asked; {place} allows {way.most.memory_mib}"
        )
    for kind, count in ask.room.gpus.items():
        most = (
            max(way.most.gpus.values(), default=0)
            if kind == ANY_KIND
            else way.most.gpus.get(kind, 0)
        )
        if count > most:
            found.append(f"{count} GPUs {kind} asked; {place} has {most} on one machine")
    return found


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
