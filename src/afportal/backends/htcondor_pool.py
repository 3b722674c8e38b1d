"""The ads of an HTCondor pool's slots and of the portal's own jobs, as a `Pool`.

Whether a slot takes a job is for the slot's own policy: its START expression is evaluated
against an ad like the one that would be submitted.

Source: HTCondor manual 23, Machine ClassAd Attributes; ads of condor 23.9.6.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import classad2

from afportal.backends import Announced, Deed
from afportal.pool import ANY_KIND, Ask, Machine, Pool, Room, Running, Waiting

# Static slots that a job holds are wanted too: they show what is there when it ends. What a
# job split off a partitionable slot is not: its parent tells what is left.
SLOTS = "DynamicSlot =!= true"
JOBS = "IsNotebook isnt undefined && AfCell isnt undefined && (JobStatus == 1 || JobStatus == 2)"
JOB_PROJECTION = [
    "ClusterId", "ProcId", "Owner", "JobStatus", "RequestCpus", "RequestMemory", "RequestGPUs",
    "IsNotebook", "RemoteHost", "JobCurrentStartDate", "AllowedJobDuration", "QDate",
]  # fmt: skip
# Slots whose machine is taken out of use, or that are taken back.
TAKEN_BACK = 'Draining =?= true || Activity == "Retiring" || State == "Preempting"'
TAKEN_BACK_PROJECTION = [
    "Name", "Draining", "DrainReason", "Activity", "RetirementTimeRemaining", "MyCurrentTime",
]  # fmt: skip
_NEVER_LEFT = ("Owner", "Drained", "Preempting")
_LONGEST_MIN = 365 * 24 * 60


def job_ad(ask: Ask) -> classad2.ClassAd:
    """Return the ad by which slots judge a job that asks for this."""
    ad = {
        "MyType": "Job",
        "JobUniverse": 5,
        "RequestCpus": ask.room.cores,
        "RequestMemory": ask.room.memory_mib,
        "RequestDisk": 1024,
        "IsNotebook": ask.reserved,
        "Requirements": True,
    }
    if count := sum(ask.room.gpus.values()):
        ad["RequestGPUs"] = count
    return classad2.ClassAd(ad)


def pool_of(
    slots: Iterable[classad2.ClassAd], jobs: Iterable[classad2.ClassAd], now_s: float
) -> Pool:
    """Make a pool of the ads of all slots (`SLOTS`) and of the portal's jobs (`JOBS`).

    Accounts and partitions are nothing that HTCondor has people choose.
    """
    slots = [slot for slot in slots if slot.get("State") != "Delete"]
    # One that is not partitionable is all the job's, whatever that asked for.
    static = {
        str(slot.get("Name")): _room(slot, "TotalSlotCpus", "TotalSlotMemory", {})
        for slot in slots
        if not slot.get("PartitionableSlot")
    }
    running, waiting = [], []
    for job in jobs:
        if job.get("JobStatus") == 2 and job.get("RemoteHost"):
            running.append(_running(job, static))
        elif job.get("JobStatus") == 1:
            waiting.append(_waiting(job))
    return Pool(
        machines=tuple(map(_machine, slots)),
        running=tuple(running),
        waiting=tuple(waiting),
        asked_s=now_s,
    )


def taken_back(slots: Iterable[classad2.ClassAd]) -> dict[str, tuple[Announced, ...]]:
    """Return slot → why and when its job loses it, of the slots that `TAKEN_BACK` finds.

    A startd lets a job run until its retirement time is over (`MaxJobRetirementTime`).
    """
    found: dict[str, tuple[Announced, ...]] = {}
    for slot in slots:
        now_s, left_s = _whole(slot, "MyCurrentTime"), _whole(slot, "RetirementTimeRemaining")
        deed = Deed.DRAIN if slot.get("Draining") is True else Deed.PREEMPTION
        reason = slot.get("DrainReason")
        found[str(slot.get("Name"))] = (
            Announced(
                deed,
                str(reason) if isinstance(reason, str) else "",
                float(now_s + left_s) if now_s else None,
                ends=True,
            ),
        )
    return found


def _machine(slot: classad2.ClassAd) -> Machine:
    whole = _room(slot, "TotalSlotCpus", "TotalSlotMemory", _kinds(slot, "AssignedGPUs"))
    state, activity = slot.get("State"), slot.get("Activity")
    kept_for = ""
    if slot.get("PartitionableSlot"):
        free = _room(slot, "Cpus", "Memory", _kinds(slot, "AvailableGPUs"))
    elif state == "Unclaimed":
        free = whole
    elif (state, activity) == ("Claimed", "Idle"):
        # The schedd keeps it a moment for the next job of the same person.
        free, kept_for = whole, str(slot.get("RemoteOwner") or "?").partition("@")[0]
    else:
        free = Room()
    _empty(slot)
    return Machine(
        name=str(slot.get("Name")),
        whole=whole,
        free=free,
        up=state not in _NEVER_LEFT and not slot.get("Offline"),
        takes=partial(_takes, slot),
        kept_for=kept_for,
    )


def _room(slot: classad2.ClassAd, cores: str, memory: str, gpus: Mapping[str, int]) -> Room:
    return Room(_whole(slot, cores), _whole(slot, memory), gpus)


def _whole(ad: classad2.ClassAd, name: str, otherwise: int = 0) -> int:
    """Return a number of an ad; an expression that is none by itself is `otherwise`."""
    value = ad.get(name)
    if isinstance(value, classad2.ExprTree):
        value = value.eval(ad)
    good = isinstance(value, int | float) and not isinstance(value, bool | classad2.Value)
    return int(value) if good else otherwise


def _kinds(slot: classad2.ClassAd, attribute: str) -> dict[str, int]:
    """Return kind → number of a slot's GPUs, from the ad of each that it names.

    `AssignedGPUs` is a text with their ids, `AvailableGPUs` a list of references to their ads.
    """
    ads = {
        str(value.get("Id")): value
        for name, value in slot.items()
        if name.upper().startswith("GPUS_") and isinstance(value, classad2.ClassAd)
    }
    held = slot.get(attribute)
    if isinstance(held, str):
        names = [name.strip() for name in held.split(",") if name.strip()]
    else:
        names = [str(found.get("Id")) for found in _evaluated(slot, attribute)]
    # `Kind` is this portal's word (`require_gpus`): GPUs without it can be had as any.
    return dict(
        Counter(str(ads[n].get("Kind") or ANY_KIND) if n in ads else ANY_KIND for n in names)
    )


def _evaluated(slot: classad2.ClassAd, attribute: str) -> list[classad2.ClassAd]:
    found: Any = slot.get(attribute)
    items = found if isinstance(found, list) else []
    values = [i.eval(slot) if isinstance(i, classad2.ExprTree) else i for i in items]
    return [value for value in values if isinstance(value, classad2.ClassAd)]


def _empty(slot: classad2.ClassAd) -> None:
    """Make the slot's ad what it is when nothing runs there, so that its policy alone speaks."""
    for name, whole in (
        ("Cpus", "TotalSlotCpus"), ("Memory", "TotalSlotMemory"), ("Disk", "TotalSlotDisk"),
        ("GPUs", "TotalSlotGPUs"),
    ):  # fmt: skip
        if whole in slot:
            slot[name] = slot[whole]
    slot["State"], slot["Activity"] = "Unclaimed", "Idle"


def _takes(slot: classad2.ClassAd, ask: Ask) -> bool:
    return bool(job_ad(ask).symmetricMatch(slot))


def _asked(job: classad2.ClassAd) -> Ask:
    gpus = _whole(job, "RequestGPUs")
    return Ask(
        Room(
            _whole(job, "RequestCpus", 1),
            _whole(job, "RequestMemory"),
            {ANY_KIND: gpus} if gpus else {},
        ),
        runtime_min=_whole(job, "AllowedJobDuration", _LONGEST_MIN * 60) // 60,
        reserved=job.get("IsNotebook") is True,
    )


def _running(job: classad2.ClassAd, static: Mapping[str, Room]) -> Running:
    began, duration = _whole(job, "JobCurrentStartDate"), _whole(job, "AllowedJobDuration")
    # A dynamic slot, "slot1_3@host", gives back to its parent.
    slot, at, host = str(job["RemoteHost"]).partition("@")
    machine = f"{slot.partition('_')[0]}{at}{host}"
    return Running(
        machine=machine,
        room=static.get(machine) or _asked(job).room,
        ends_s=float(began + duration) if began and duration else None,
        job=f"{job['ClusterId']}.{job['ProcId']}",
        person=str(job.get("Owner") or ""),
    )


def _waiting(job: classad2.ClassAd) -> Waiting:
    return Waiting(
        _asked(job),
        priority=(-_whole(job, "QDate", int(time.time())),),
        job=f"{job['ClusterId']}.{job['ProcId']}",
    )
