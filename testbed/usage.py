"""Who used the pools, in which class and for how long, by what the schedulers keep on record.

HTCondor's history of the portal's access point and Slurm's accounting, set against the judges'
own records of spawns: each is one job, that got what was asked for and has ended.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from testbed.bed import Bed
from testbed.errors import ScenarioFailed, TestbedError
from testbed.promises import expect_within
from testbed.results import SpawnRecord

_CONDOR_ATTRIBUTES = (
    "ClusterId,ProcId,Owner,JobStatus,AfCell,QDate,RequestCpus,RequestMemory,CpusProvisioned,"
    "MemoryProvisioned,RemoteWallClockTime"
)
_SACCT_FIELDS = "JobIDRaw,User,JobName,State,ReqTRES,AllocTRES,ElapsedRaw,Submit"
_LIVE = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "RESIZING", "STAGE_OUT")
# Why a spawn ended before anybody asked for its job's id.
_PERHAPS_A_JOB = (
    "cut_short", "spawn_failed", "not_in_time", "facility_down", "kernel_failed", "harness_broke",
    "other",
)  # fmt: skip
_UNITS_MIB = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}
_CATALOGUE = Path("compose/hub/config/catalogue.yaml")
# The schedulers' own stamps are whole seconds.
_SECOND = 1


@dataclass(frozen=True)
class Usage:
    """One job of the portal as its scheduler's records have it.

    `granted_…` are None for a job that never started. Memory is in MiB.
    """

    backend: str
    job_id: str
    owner: str
    cell: str
    submitted_unix_s: float
    ended: bool
    wall_s: float
    cores: int
    memory_mib: float
    granted_cores: int | None = None
    granted_memory_mib: float | None = None

    def __str__(self) -> str:
        return f"{self.backend} job {self.job_id} of {self.owner}"


def parse_condor_history(text: str) -> list[Usage]:
    """Read `condor_history -json` with the attributes asked for; no output means no jobs."""
    ads: list[dict[str, Any]] = json.loads(text) if text.strip() else []
    return [
        Usage(
            backend="htcondor",
            job_id=f"{ad['ClusterId']}.{ad['ProcId']}",
            owner=ad["Owner"],
            cell=ad["AfCell"],
            submitted_unix_s=ad["QDate"],
            ended=ad["JobStatus"] in (3, 4),
            wall_s=float(ad.get("RemoteWallClockTime", 0.0)),
            cores=int(ad["RequestCpus"]),
            memory_mib=float(ad["RequestMemory"]),
            granted_cores=ad.get("CpusProvisioned"),
            granted_memory_mib=ad.get("MemoryProvisioned"),
        )
        for ad in ads
    ]


def parse_sacct(text: str) -> list[Usage]:
    """Read `sacct --parsable2` with the fields asked for; others' jobs are left out."""
    found = []
    for line in text.splitlines():
        job_id, owner, name, state, asked, got, elapsed, submit, *_ = line.split("|")
        if not name.startswith("af-") or name == "af-nudge":
            continue
        wanted, granted = _tres(asked), _tres(got)
        found.append(
            Usage(
                backend="slurm",
                job_id=job_id,
                owner=owner,
                cell=name.removeprefix("af-"),
                submitted_unix_s=float(submit),
                ended=state.split()[0] not in _LIVE,
                wall_s=float(elapsed),
                cores=int(wanted["cpu"]),
                memory_mib=wanted["mem"],
                granted_cores=int(granted["cpu"]) if "cpu" in granted else None,
                granted_memory_mib=granted.get("mem"),
            )
        )
    return found


def _tres(text: str) -> dict[str, float]:
    """Slurm's trackable resources, `cpu=1,mem=1.50G`, memory in MiB."""
    found = {}
    for name, amount, unit in re.findall(r"([\w/:]+)=([\d.]+)([KMGT]?)", text):
        found[name] = float(amount) * (_UNITS_MIB[unit] if unit else 1)
    return found


def jobs(bed: Bed, since_unix_s: float) -> list[Usage]:
    """The portal's jobs that were submitted since then; of HTCondor those that have ended.

    Raises:
        TestbedError: A scheduler does not tell.
    """
    since = int(since_unix_s) - _SECOND
    condor = bed.exec(
        "condor-ap-hub",
        ["condor_history", "-json", "-attributes", _CONDOR_ATTRIBUTES,
         "-constraint", f"AfCell =!= undefined && QDate >= {since}"],
    )  # fmt: skip
    slurm = bed.exec(
        "slurmctld",
        ["env", "SLURM_TIME_FORMAT=%s", "sacct", "--allusers", "--allocations", "--parsable2",
         "--noheader", f"--starttime=uts{since}", f"--format={_SACCT_FIELDS}"],
    )  # fmt: skip
    for what, done in (("condor_history", condor), ("sacct", slurm)):
        if not done.ok:
            raise TestbedError(f"{what} does not answer", seen=done.stderr.strip()[-500:])
    found = parse_condor_history(condor.stdout) + parse_sacct(slurm.stdout)
    # sacct gives what ran since then, whenever it was submitted.
    return [job for job in found if job.submitted_unix_s >= since]


def of_records(
    bed: Bed, records: Sequence[SpawnRecord], since_unix_s: float, *, timeout_s: float = 20.0
) -> list[Usage]:
    """The jobs since then of these records' people, once all of the records have ended.

    Schedulers write their records a moment after a job is gone; what is missing at the end
    of `timeout_s` is for `differences` to tell.
    """
    wanted = {(record.backend, record.job_id) for record in records if record.job_id}
    seen: list[Usage] = []

    def written() -> bool:
        nonlocal seen
        seen = of_people(records, jobs(bed, since_unix_s))
        return wanted <= {(job.backend, job.job_id) for job in seen if job.ended}

    try:
        expect_within(timeout_s, written, what="all jobs on the schedulers' record", poll_s=1.0)
    except ScenarioFailed:
        return seen
    return seen


def of_people(records: Iterable[SpawnRecord], used: Iterable[Usage]) -> list[Usage]:
    """What is of those who spawned jobs here; a pool has other people's jobs too."""
    people = {record.user for record in records if record.backend != "local"}
    return [job for job in used if job.owner in people]


def differences(records: Iterable[SpawnRecord], used: Iterable[Usage]) -> list[str]:
    """Where the schedulers' records and the judges' do not agree, a line each.

    Each spawn with a job is one job of its person, each job of these people (`of_people`) one
    of these spawns; it was granted what was asked for, and has ended.
    """
    batch = [record for record in records if record.backend != "local"]
    by_id: dict[tuple[str, str], list[Usage]] = defaultdict(list)
    for job in used:
        by_id[job.backend, job.job_id].append(job)
    lines = []
    told: set[tuple[str, str]] = set()
    untold: dict[tuple[str, str], int] = defaultdict(int)
    for record in batch:
        if not record.job_id:
            untold[record.backend, record.user] += record.cause in _PERHAPS_A_JOB
            if record.outcome == "ready":
                lines.append(f"visit {record.round} of {record.user} was ready without a job")
            continue
        key = (record.backend, record.job_id)
        told.add(key)
        found = by_id.get(key, [])
        what = f"{record.backend} job {record.job_id} of {record.user}"
        if len(found) != 1:
            lines.append(f"{what} is {len(found)} times on its scheduler's record")
        lines += [
            f"{what} is {job.owner}'s for its scheduler"
            for job in found
            if job.owner != record.user
        ]
    for key, found in by_id.items():
        for job in found:
            if key not in told:
                # A spawn that was cut short, or failed, had a job whose id nobody asked for.
                untold[job.backend, job.owner] -= 1
                if untold[job.backend, job.owner] < 0:
                    lines.append(f"{job} belongs to no visit of this load")
            if not job.ended:
                lines.append(f"{job} has not ended")
            lines += _grants(job)
    return lines


def _grants(job: Usage) -> list[str]:
    lines = []
    for what, asked, got in (
        ("cores", job.cores, job.granted_cores),
        ("MiB", job.memory_mib, job.granted_memory_mib),
    ):
        if got is not None and got != asked:
            lines.append(f"{job} asked for {asked:g} {what} and was granted {got:g}")
    return lines


@dataclass(frozen=True)
class Share:
    """What one person used in one class."""

    owner: str
    backend: str
    class_name: str
    jobs: int
    wall_s: float
    core_s: float


def shares(used: Iterable[Usage], classes: Mapping[tuple[str, int, float], str]) -> list[Share]:
    """Usage by person and class, the greatest first.

    Args:
        classes: Name by backend, cores and memory in MiB, as `class_names` has it; what is
            none of them is named by its size.
    """
    found: dict[tuple[str, str, str], list[Usage]] = defaultdict(list)
    for job in used:
        size = (job.backend, job.cores, job.memory_mib)
        name = classes.get(size, f"{job.cores} cores, {job.memory_mib:g} MiB")
        found[job.owner, job.backend, name].append(job)
    listed = [
        Share(
            *key, len(mine), sum(job.wall_s for job in mine),
            sum(job.wall_s * job.cores for job in mine),
        )
        for key, mine in found.items()
    ]  # fmt: skip
    return sorted(listed, key=lambda share: (-share.core_s, share.owner, share.class_name))


def class_names(home: Path) -> dict[tuple[str, int, float], str]:
    """The catalogue's classes by backend, cores and memory in MiB."""
    catalogue = yaml.safe_load((home / _CATALOGUE).read_text(encoding="utf-8"))
    return {
        (backend, int(each["cores"]), float(each["memory_mib"])): str(each["name"])
        for each in catalogue["classes"]
        for backend in each["backends"]
    }
