"""Schedulers' records of usage are read right, and what they and the judges disagree on is told."""

import dataclasses
from pathlib import Path

import pytest

from testbed import usage
from testbed.results import SpawnRecord
from testbed.usage import Usage

DATA = Path(__file__).parent.parent / "data"
JOB = Usage("slurm", "28", "alice", "hpc-1", 1000.0, True, 15.0, 1, 1536.0, 1, 1536.0)


def spawn(job_id: str = "28", user: str = "alice", **more: object) -> SpawnRecord:
    told = {"user": user, "hub": "hpc", "backend": "slurm", "job_id": job_id}
    return SpawnRecord.model_validate(told | more)


def test_condor_history() -> None:
    """condor_history 25.14.1 -json, of two jobs that the hub removed."""
    used = usage.parse_condor_history((DATA / "condor_history.json").read_text())
    assert used[0] == Usage(
        "htcondor", "76.0", "student01", "htc-1", 1795298684, True, 4.0, 1, 1536.0, 1, 1536
    )
    assert [job.wall_s for job in used] == [4.0, 14.0]
    assert usage.parse_condor_history("") == []


def test_sacct() -> None:
    """sacct 24.11.5; the job that wakes the scheduler up is nobody's usage."""
    used = usage.parse_sacct((DATA / "sacct.txt").read_text())
    assert [(job.job_id, job.owner, job.cell, job.wall_s) for job in used] == [
        ("30", "student02", "hpc-1", 9.0),
        ("32", "student01", "hpc-2", 4.0),
    ]
    assert {(j.cores, j.memory_mib, j.granted_cores, j.granted_memory_mib) for j in used} == {
        (1, 1536.0, 1, 1536.0)
    }
    pending = "9|bob|af-hpc-1|PENDING|cpu=2,mem=4000M,node=1||0|1795298010|Unknown|Unknown"
    (job,) = usage.parse_sacct(pending)
    assert (job.ended, job.cores, job.granted_cores, job.memory_mib) == (False, 2, None, 4000)


def test_records_that_agree_say_nothing() -> None:
    assert usage.differences([spawn()], [JOB]) == []
    others = dataclasses.replace(JOB, job_id="5", owner="somebody-in-a-browser")
    assert usage.of_people([spawn()], [JOB, others]) == [JOB]


@pytest.mark.parametrize(
    ("records", "jobs", "told"),
    [
        ([spawn()], [], "is 0 times on"),
        ([spawn()], [JOB, JOB], "is 2 times on"),
        ([spawn(), spawn("30", "bob")], [JOB, dataclasses.replace(JOB, job_id="30")], "alice's"),
        ([spawn()], [JOB, dataclasses.replace(JOB, job_id="29")], "29 of alice belongs to no"),
        ([spawn()], [dataclasses.replace(JOB, ended=False)], "has not ended"),
        ([spawn()], [dataclasses.replace(JOB, granted_cores=2)], "asked for 1 cores and was"),
        ([spawn()], [dataclasses.replace(JOB, granted_memory_mib=1024.0)], "granted 1024"),
        ([spawn("")], [], "ready without a job"),
    ],
)
def test_each_disagreement_is_told(
    records: list[SpawnRecord], jobs: list[Usage], told: str
) -> None:
    lines = usage.differences(records, jobs)
    assert any(told in line for line in lines), lines


def test_a_spawn_that_was_cut_short_accounts_for_one_job() -> None:
    cut = spawn("", outcome="failed", cause="cut_short")
    assert usage.differences([cut], [JOB]) == []
    assert usage.differences([cut], []) == []
    refused = spawn("", outcome="failed", cause="limit_reached")
    assert "belongs to no visit" in usage.differences([refused], [JOB])[0]


def test_shares_by_person_and_class() -> None:
    big = dataclasses.replace(JOB, job_id="29", cores=2, memory_mib=4096.0, wall_s=100.0)
    odd = dataclasses.replace(JOB, job_id="30", owner="bob", cores=3, memory_mib=2000.0)
    names = usage.class_names(Path(usage.__file__).parents[1])
    found = usage.shares([JOB, JOB, big, odd], names)
    assert [(s.owner, s.class_name, s.jobs, s.wall_s, s.core_s) for s in found] == [
        ("alice", "regular", 1, 100.0, 200.0),
        ("bob", "3 cores, 2000 MiB", 1, 15.0, 45.0),
        ("alice", "small", 2, 30.0, 30.0),
    ]
