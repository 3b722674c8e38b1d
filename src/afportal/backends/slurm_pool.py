"""slurmrestd's answers about nodes, partitions, associations, QOS and jobs, as a `Pool`.

Source: Slurm 24.11 REST API, data_parser v0.0.42; answers captured in tests/data/slurm.
"""

from __future__ import annotations

import pwd
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from afportal.pool import (
    ANY_KIND,
    Account,
    Ask,
    Machine,
    Partition,
    Pool,
    Qos,
    Room,
    Running,
    Waiting,
)

Json = Mapping[str, Any]

# A node with any of these takes no new job; ALLOCATED and MIXED are for its free room to tell,
# and one that sleeps is woken.
_AWAY = frozenset(
    ["DOWN", "DRAIN", "FAIL", "ERROR", "UNKNOWN", "FUTURE", "MAINTENANCE", "NOT_RESPONDING",
     "REBOOT_REQUESTED", "RESERVED", "BLOCKED", "INVALID_REG"]
)  # fmt: skip
# Waits for room, or for its turn to get it. Any other reason is a limit, a hold, a dependency.
_WAITS_FOR_ROOM = frozenset(["Resources", "Priority", "None", "", "Reservation", "ReqNodeNotAvail"])
# More of one array's tasks change no forecast.
_LONGEST_ARRAY = 200
_UNITS_MIB = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2, "": 1.0}


def number(value: Any) -> int | None:
    """Read Slurm's {"set": …, "infinite": …, "number": …}; None where there is none."""
    if isinstance(value, Mapping):
        return int(value.get("number") or 0) if value.get("set") else None
    return None if value is None else int(value)


def pool_of(
    nodes: Json, partitions: Json, associations: Json, qos: Json, jobs: Json, now_s: float
) -> Pool:
    """Make a pool of the answers of /nodes, /partitions?flags=ALL, /associations, /qos, /jobs.

    Args:
        now_s: when they were asked for, unix seconds.
    """
    parts = tuple(map(_partition, partitions.get("partitions") or []))
    tiers = {p.name: p.tier for p in parts}
    quotas = {p.name: p.cores for p in parts if p.cores is not None}
    running, waiting = [], []
    for job in jobs.get("jobs") or []:
        states = set(job.get("job_state") or [])
        if states & {"RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING"}:
            running += _running(job, quotas)
        elif "PENDING" in states:
            waiting += [_waiting(job, tiers, now_s)] * _tasks(job)
    used: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for piece in running:
        for name, cores in piece.room.quota.items():
            used[piece.machine][name] += cores
    machines = tuple(
        _machine(node, quotas, used[str(node["name"])]) for node in nodes.get("nodes") or []
    )
    return Pool(
        machines=machines,
        partitions=parts,
        accounts=_accounts(associations.get("associations") or [], _cluster(partitions)),
        qos={found.name: found for found in map(_qos, qos.get("qos") or [])},
        running=tuple(running),
        waiting=tuple(waiting),
        asked_s=now_s,
    )


def gpus_of(text: str) -> dict[str, int]:
    """Read "gpu:k40:1,gpu:2(S:0)" as kind → number; GPUs without a kind are of kind ""."""
    found: dict[str, int] = defaultdict(int)
    for entry in re.sub(r"\([^)]*\)", "", text).split(","):
        name, _, rest = entry.partition(":")
        if name == "gpu":
            kind, _, count = rest.rpartition(":")
            if not count.isdigit():
                kind, count = count, "1"
            found[kind or ANY_KIND] += int(count)
    return {kind: count for kind, count in found.items() if count}


def hosts(text: str) -> list[str]:
    """Expand "node[01-03,7],gpu1" as Slurm writes lists of hosts, one level of brackets."""
    found: list[str] = []
    for name in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text):
        head, _, rest = name.partition("[")
        inside, _, tail = rest.partition("]")
        if not rest:
            found.append(name)
            continue
        for span in inside.split(","):
            first, _, last = span.partition("-")
            width = len(first)
            found += [
                f"{head}{n:0{width}d}{tail}" for n in range(int(first), int(last or first) + 1)
            ]
    return found


def _names(text: Any) -> frozenset[str] | None:
    names = frozenset(filter(None, str(text or "").split(",")))
    return None if not names or names == {"ALL"} else names


def _partition(part: Json) -> Partition:
    most = part.get("maximums") or {}
    memory = most.get("partition_memory_per_node")
    return Partition(
        name=str(part["name"]),
        up="UP" in ((part.get("partition") or {}).get("state") or []),
        tier=int((part.get("priority") or {}).get("tier") or 1),
        runtime_min=number(most.get("time")),
        cores=number(most.get("cpus_per_node")),
        # 0: no limit.
        memory_mib=number(memory) or None,
        accounts=_names((part.get("accounts") or {}).get("allowed")),
        denied_accounts=_names((part.get("accounts") or {}).get("deny")) or frozenset(),
        groups=_names((part.get("groups") or {}).get("allowed")),
        assigned_qos=str((part.get("qos") or {}).get("assigned") or ""),
        qos=_names((part.get("qos") or {}).get("allowed")),
        denied_qos=_names((part.get("qos") or {}).get("deny")) or frozenset(),
    )


def _machine(node: Json, quotas: Mapping[str, int], used: Mapping[str, int]) -> Machine:
    cores = int(node.get("effective_cpus") or node.get("cpus") or 0)
    memory = int(node.get("real_memory") or 0) - int(node.get("specialized_memory") or 0)
    gpus = gpus_of(str(node.get("gres") or ""))
    taken = gpus_of(str(node.get("gres_used") or ""))
    there = frozenset(node.get("partitions") or [])
    mine = {name: most for name, most in quotas.items() if name in there}
    return Machine(
        name=str(node["name"]),
        whole=Room(cores, memory, gpus, mine),
        free=Room(
            cores - int(node.get("alloc_cpus") or 0),
            memory - int(node.get("alloc_memory") or 0),
            {kind: count - taken.get(kind, 0) for kind, count in gpus.items()},
            {name: most - used.get(name, 0) for name, most in mine.items()},
        ),
        partitions=there,
        up=not _AWAY & set(node.get("state") or []),
    )


def _cluster(answer: Json) -> str:
    return str(((answer.get("meta") or {}).get("slurm") or {}).get("cluster") or "")


def _accounts(associations: Sequence[Json], cluster: str) -> dict[str, tuple[Account, ...]]:
    """Return person → accounts, of this cluster where slurmdbd knows several."""
    here = [a for a in associations if not cluster or a.get("cluster") in (None, "", cluster)]
    parents = {
        str(a["account"]): str(a.get("parent_account") or "") for a in here if not a.get("user")
    }
    found: dict[str, list[Account]] = defaultdict(list)
    for entry in here:
        if entry.get("user"):
            per = ((entry.get("max") or {}).get("jobs") or {}).get("per") or {}
            found[str(entry["user"])].append(
                Account(
                    name=str(entry["account"]),
                    above=_above(str(entry["account"]), parents),
                    partition=str(entry.get("partition") or ""),
                    default=bool(entry.get("is_default")),
                    qos=tuple(entry.get("qos") or ()),
                    default_qos=str((entry.get("default") or {}).get("qos") or ""),
                    runtime_min=number(per.get("wall_clock")),
                )
            )
    return {person: tuple(accounts) for person, accounts in found.items()}


def _above(account: str, parents: Mapping[str, str]) -> frozenset[str]:
    found: set[str] = set()
    while (account := parents.get(account, "")) and account not in found:
        found.add(account)
    return frozenset(found)


def _qos(entry: Json) -> Qos:
    most = (entry.get("limits") or {}).get("max") or {}
    tres = (most.get("tres") or {}).get("per") or {}
    a_job, a_person = tres.get("job") or [], tres.get("user") or []
    active = ((most.get("jobs") or {}).get("active_jobs") or {}).get("per") or {}
    wall = ((most.get("wall_clock") or {}).get("per") or {}).get("job")
    return Qos(
        name=str(entry["name"]),
        runtime_min=number(wall),
        cores=_tres(a_job, "cpu"),
        memory_mib=_tres(a_job, "mem"),
        gpus=_tres(a_job, "gres", "gpu"),
        jobs_a_person=number(active.get("user")),
        gpus_a_person=_tres(a_person, "gres", "gpu"),
    )


def _tres(entries: Sequence[Json], kind: str, name: str = "") -> int | None:
    found = [e["count"] for e in entries if e.get("type") == kind and (e.get("name") or "") == name]
    return int(found[0]) if found else None


def tres_of(text: str) -> tuple[int, int, dict[str, int]]:
    """Read "cpu=2,mem=3000M,gres/gpu:k40=1" as cores, MiB and GPUs by kind."""
    cores, memory = 0, 0
    kinds: dict[str, int] = {}
    for name, amount, unit in re.findall(r"([\w/:.-]+)=([\d.]+)([KMGT]?)", text):
        if name == "cpu":
            cores = int(float(amount))
        elif name == "mem":
            memory = int(float(amount) * _UNITS_MIB[unit])
        elif name.startswith("gres/gpu"):
            kinds[name.removeprefix("gres/gpu").removeprefix(":") or ANY_KIND] = int(float(amount))
    # Slurm names the sum beside each kind.
    left = kinds.pop(ANY_KIND, 0) - sum(kinds.values())
    return cores, memory, kinds | ({ANY_KIND: left} if left > 0 else {})


def _share(cores: int, memory_mib: int, gpus: Mapping[str, int], machines: int) -> Room:
    """Return what one of so many machines has of a job, rounded up."""
    return Room(
        -(-cores // machines),
        -(-memory_mib // machines),
        {k: -(-n // machines) for k, n in gpus.items()},
    )


def _running(job: Json, quotas: Mapping[str, int]) -> list[Running]:
    machines = hosts(str(job.get("nodes") or ""))
    cores, memory, gpus = tres_of(str(job.get("tres_alloc_str") or ""))
    partition = str(job.get("partition") or "")
    room = _share(cores, memory, gpus, max(len(machines), 1))
    if partition in quotas:
        room = replace(room, quota={partition: room.cores})
    ends = number(job.get("end_time")) if number(job.get("time_limit")) else None
    person, qos = _person(int(job.get("user_id") or 0)), str(job.get("qos") or "")
    job_id = str(job.get("job_id") or "")
    return [
        Running(machine, room, float(ends) if ends else None, job_id, person, qos)
        for machine in machines
    ]


def _waiting(job: Json, tiers: Mapping[str, int], now_s: float) -> Waiting:
    cores, memory, gpus = tres_of(str(job.get("tres_req_str") or ""))
    machines = max(number(job.get("node_count")) or 1, 1)
    # One that asked for several: Slurm looks at the one with the highest tier first.
    partition = max(str(job.get("partition") or "").split(","), key=lambda name: tiers.get(name, 1))
    room = _share(cores, memory, gpus, machines)
    priority = number(job.get("priority")) or 0
    later = (number(job.get("eligible_time")) or 0) > now_s
    reason = str(job.get("state_reason") or "")
    return Waiting(
        Ask(room, number(job.get("time_limit")) or 365 * 24 * 60, partition),
        machines,
        # Of two alike the one that was submitted first.
        (tiers.get(partition, 1), priority, -int(job.get("job_id") or 0)),
        blocked=not priority or later or reason not in _WAITS_FOR_ROOM,
        job=str(job.get("job_id") or ""),
    )


def _tasks(job: Json) -> int:
    """Return how many jobs an entry of the queue stands for: one, or an array's pending tasks."""
    spans = str(job.get("array_task_string") or "")
    most = number(job.get("array_max_tasks")) or _LONGEST_ARRAY
    listed, _, limit = spans.partition("%")
    count = sum(
        (int(last or first) - int(first)) // int(step or 1) + 1
        for first, last, step in re.findall(r"(\d+)(?:-(\d+))?(?::(\d+))?", listed)
    )
    return min(count or 1, most, int(limit) if limit.isdigit() else _LONGEST_ARRAY)


_PEOPLE: dict[int, str] = {}


def _person(uid: int) -> str:
    if uid not in _PEOPLE:
        try:
            _PEOPLE[uid] = pwd.getpwuid(uid).pw_name
        except KeyError:  # perhaps the directory is away: asked again next time
            return ""
    return _PEOPLE[uid]
