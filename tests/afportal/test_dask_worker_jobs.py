"""What the schedulers are given for a Dask worker: data, quoted, and no secret in it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from afportal.dask.worker_jobs import HTCondorJob, Place, SLURMJob, lifetime, quoted

SEALED = "MUNGE:AwQFAAB=:"


def place(tmp_path: Path, **more: Any) -> Place:
    known = {"key": "0" * 32, "folder": tmp_path / "it's a $HOME", "logs": tmp_path / "logs"}
    return Place(**{**known, "life_s": 3600, **more})


def job(kind: type[Any], where: Place, **options: Any) -> Any:
    known = {"cores": 2, "memory": "2 GiB", "processes": 1, "disk": "1 GB"}
    if kind is SLURMJob:
        del known["disk"]
    return kind("tls://192.0.2.7:4711", "alices-0", place=where, **known, **options)


def description(text: str) -> dict[str, str]:
    """A submit description's lines, by their names in lower case."""
    lines = (line.partition(" = ") for line in text.splitlines() if " = " in line)
    return {name.lower(): value for name, _, value in lines}


def test_a_description_for_htcondor(tmp_path: Path) -> None:
    """It asks for the key by its handle, and every argument reaches the worker as it is."""
    made = job(HTCondorJob, place(tmp_path, data=True))
    told = description(made.job_script())
    assert told["my.oauthservicesneeded"] == f'"data,dask*{"0" * 32}"'
    assert "'--key' 'credd:dask_00000000000000000000000000000000'" in told["arguments"]
    assert "it''s a $(DOLLAR)HOME'" in told["arguments"]
    assert "/bin/sh" not in made.job_script()
    assert told["should_transfer_files"] == "NO"
    assert told["allowed_job_duration"] == "3600"
    assert (
        description(job(HTCondorJob, place(tmp_path)).job_script())["my.oauthservicesneeded"]
        == f'"dask*{"0" * 32}"'
    )


def test_a_job_that_is_spooled(tmp_path: Path) -> None:
    """It brings nothing, waits for its files without being removed, and leaves nothing behind."""
    told = description(job(HTCondorJob, place(tmp_path, spool=True)).job_script())
    assert (told["should_transfer_files"], told["my.transferoutput"]) == ("YES", '""')
    assert (told["output"], told["leave_in_queue"]) == ("worker.out", "False")
    assert "HoldReasonCode != 16" in told["periodic_remove"]
    assert "log" not in told
    htcondor2 = pytest.importorskip("htcondor2")
    submit = htcondor2.Submit(job(HTCondorJob, place(tmp_path)).description())
    assert submit["should_transfer_files"] == "NO"


def test_directives_of_ones_own_count(tmp_path: Path) -> None:
    """Also against what is ours."""
    extra = {"allowed_job_duration": "60", "requirements": 'Machine == "ep-7"'}
    told = description(job(HTCondorJob, place(tmp_path), job_extra_directives=extra).job_script())
    assert told["allowed_job_duration"] == "60"
    assert told["requirements"] == 'Machine == "ep-7"'


def test_a_script_for_slurm(tmp_path: Path) -> None:
    """The key is what a command reads, not what it is called with; nothing of the session's
    environment goes along."""
    script = job(SLURMJob, place(tmp_path, key=SEALED), walltime="60").job_script()
    lines = script.splitlines()
    assert lines[-3:] == [lines[-3], SEALED, "KEY"]
    command = shlex.split(lines[-3].removesuffix(" <<'KEY'"))
    assert command[0] == "exec"
    assert command[command.index("--folder") + 1] == str(tmp_path / "it's a $HOME")
    assert command[command.index("--key") + 1] == "sealed"
    assert SEALED not in command
    assert "#SBATCH --export=HOME,USER,LOGNAME,LANG,PATH" in lines
    assert "#SBATCH -t 60" in lines


@pytest.mark.parametrize(("life_s", "left_s"), [(28_800, 28_680), (600, 480), (60, 48)])
def test_a_worker_leaves_before_its_job_is_ended(life_s: int, left_s: int) -> None:
    """Two minutes before, or a fifth of a short time; not all at the same moment."""
    assert lifetime(life_s)[:2] == ["--lifetime", f"{left_s} s"]
    stagger_s = int(lifetime(life_s)[3].split()[0])
    assert stagger_s > 0
    assert left_s + stagger_s < life_s


def test_arguments_are_quoted_as_condor_submit_reads_them() -> None:
    """Its own example: condor_submit(1)."""
    assert quoted(["3", 'one "two"', "spacey 'quoted' argument"]) == (
        """'3' 'one ""two""' 'spacey ''quoted'' argument'"""
    )
