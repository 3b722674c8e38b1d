"""What Slurm says will befall a running job: its node's drain, maintenance, preemption.

Slurm itself ends no job for a drain or for maintenance: operators wait for its end, or end it.
A job that is preempted with a grace time has a new end at once.

Source: Slurm 24.11, scontrol(1) and slurm.conf(5), "PreemptMode", "GraceTime"; answers captured
in tests/data/slurm.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from afportal.backends import Announced, Deed, JobStatus, Standing
from afportal.backends.slurm_pool import hosts, number

Json = Mapping[str, Any]

# What an operator has set on a node that shall be taken out of use.
_DRAINED = frozenset(["DRAIN", "FAIL", "REBOOT_REQUESTED"])


def of_nodes(nodes: Json, reservations: Json, now_s: float) -> dict[str, tuple[Announced, ...]]:
    """Return node → what is announced of it, from the answers of /nodes and /reservations.

    Args:
        now_s: when they were asked for, unix seconds.
    """
    found: dict[str, list[Announced]] = defaultdict(list)
    for node in nodes.get("nodes") or []:
        if _DRAINED & set(node.get("state") or ()):
            found[str(node["name"])].append(Announced(Deed.DRAIN, str(node.get("reason") or "")))
    for reservation in reservations.get("reservations") or []:
        if "MAINT" not in (reservation.get("flags") or ()):
            continue
        begins, ends = number(reservation.get("start_time")), number(reservation.get("end_time"))
        if begins is None or (ends is not None and ends <= now_s):
            continue
        words = str(reservation.get("comment") or reservation.get("name") or "")
        for name in hosts(str(reservation.get("node_list") or "")):
            found[name].append(Announced(Deed.MAINTENANCE, words, float(begins)))
    return {name: tuple(announced) for name, announced in found.items()}


def of_job(job: Json) -> tuple[Announced, ...]:
    """Return the preemption that a job of slurmctld has before it, if there is one."""
    at, ends = number(job.get("preempt_time")), number(job.get("end_time"))
    if not at or not ends:
        return ()
    return (Announced(Deed.PREEMPTION, at_s=float(ends), ends=True),)


def to_job(status: JobStatus, of_its_node: Iterable[Announced]) -> tuple[Announced, ...]:
    """Return what of its node's befalls this job, beside what is announced of itself.

    Maintenance that begins after its end does not.
    """
    if status.standing not in (Standing.RUNNING, Standing.SUSPENDED):
        return ()
    ends_s = status.ends_s
    return (
        *(one for one in status.announced if one.deed is Deed.PREEMPTION),
        *(o for o in of_its_node if o.at_s is None or ends_s is None or o.at_s < ends_s),
    )
