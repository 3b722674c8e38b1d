"""A data token for submitted jobs, where there is no munge: nothing is broken, all is told."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from afportal import job_token, munge
from afportal.session import for_jobs
from afportal.session.private_folder import PrivateFolder
from afportal.session.renewal import AGAIN_MOST_S, Renewal
from afportal.xcache import tokens


@pytest.fixture(autouse=True)
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("_CONDOR_SCRATCH_DIR", str(tmp_path))


def test_nothing_sealed_is_nothing_to_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody who never had a session submits a job: no variable, no error."""
    job_token.main(str(tmp_path))
    assert capsys.readouterr().out == ""


def test_a_node_without_munge_is_told_in_the_jobs_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sealed = tmp_path / job_token.SEALED
    sealed.parent.mkdir(parents=True)
    sealed.write_text("MUNGE:…")
    job_token.main(str(tmp_path))
    said = capsys.readouterr().out
    assert said.startswith("print no data token for this job: unmunge does not work on this node")
    assert "export" not in said
    assert not (tmp_path / "data-token").exists()


def test_what_was_opened_is_not_opened_again(tmp_path: Path) -> None:
    """Until another one is sealed: then it is tried, and what was there stays if that fails."""
    sealed, token = tmp_path / job_token.SEALED, tmp_path / "token"
    sealed.parent.mkdir(parents=True)
    sealed.write_text("MUNGE:…")
    token.write_text("a.b.c")
    os.utime(sealed, ns=(5, 7))
    os.utime(token, ns=(5, 7))
    assert job_token.refresh(sealed, token) is False
    os.utime(sealed, ns=(5, 8))
    with pytest.raises(munge.SealError, match="unmunge does not work"):
        job_token.refresh(sealed, token)
    environ = {job_token.VARIABLE: str(token), "BEARER_TOKEN_FILE": str(token)}
    token.chmod(0o600)
    assert tokens.find(environ).text == "a.b.c"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".local", "token"]


@pytest.mark.parametrize("variable", [job_token.VARIABLE, ""])
def test_a_job_is_told_the_cure_of_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Not to restart a server that it is not."""
    folder = tmp_path / ("" if variable else ".condor_creds")
    folder.mkdir(exist_ok=True)
    (folder / "data.use").touch(mode=0o600)
    (folder / "data.use").write_text("a.b.c")
    monkeypatch.setenv("HOME", "/nowhere")
    environ = {"BEARER_TOKEN_FILE": str(folder / "data.use"), variable or "X": "/nowhere"}
    assert "start one" in tokens.find(environ).told


def test_a_scheduler_that_does_not_take_it_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The session itself has its token all the same."""
    folder = PrivateFolder()
    folder.write({"data/token": "a.b.c"})
    monkeypatch.setenv("BEARER_TOKEN_FILE", str(folder.path / "data/token"))
    renewal = Renewal(folder, 600, schedulers=("htcondor", "slurm"))

    async def ask(_what: str, _body: object) -> dict[str, object]:
        return {"files": {"data/token": "d.e.f"}, "problems": {}, "renew_in_s": 600}

    asyncio.run(renewal.renew(ask))
    assert set(renewal.problems) == {"data for htcondor jobs", "data for slurm jobs"}
    assert "munge does not work on this node" in renewal.problems["data for slurm jobs"]
    assert renewal.in_s == AGAIN_MOST_S
    assert (folder.path / "data/token").read_text() == "d.e.f"
    assert "data for slurm jobs: " in (folder.path / "problems").read_text()


def test_without_a_token_nothing_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BEARER_TOKEN_FILE", raising=False)
    assert asyncio.run(for_jobs.hand_on(("htcondor", "slurm"))) == {}


def test_a_token_of_the_persons_own_is_left_alone(tmp_path: Path) -> None:
    """Who names another file in a job than the one it was given keeps what is in it."""
    sealed, own = tmp_path / job_token.SEALED, tmp_path / "own"
    sealed.parent.mkdir(parents=True)
    sealed.write_text("MUNGE:…")
    own.write_text("a.b.c")
    made = own.stat().st_mtime_ns
    job_token.refresh_named({job_token.VARIABLE: str(tmp_path), "BEARER_TOKEN_FILE": str(own)})
    assert (own.read_text(), own.stat().st_mtime_ns) == ("a.b.c", made)


def test_a_token_that_was_not_renewed_is_not_handed_on_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may have ended, and another session of the person's may have given a better one."""
    folder = PrivateFolder()
    folder.write({"data/token": "a.b.c"})
    monkeypatch.setenv("BEARER_TOKEN_FILE", str(folder.path / "data/token"))
    renewal = Renewal(folder, 600, schedulers=("slurm",))
    assert renewal.problems == {"data for slurm jobs": for_jobs.NOT_YET}

    async def ask(_what: str, _body: object) -> dict[str, object]:
        return {"files": {}, "problems": {"data": "log in again"}, "renew_in_s": 60}

    asyncio.run(renewal.renew(ask))
    # munge is not there: a try would have been told.
    assert renewal.problems == {"data": "log in again"}


def test_a_scheduler_that_a_newer_hub_names_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("a.b.c")
    monkeypatch.setenv("BEARER_TOKEN_FILE", str(token))
    assert "start it anew" in asyncio.run(for_jobs.hand_on(("pbs",)))["data for pbs jobs"]
