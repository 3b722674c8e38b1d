"""A session's secrets: written in one step, renewed in time, again when the hub was away."""

from __future__ import annotations

import asyncio
import logging
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from afportal.credentials import dask_tls
from afportal.session import private_folder
from afportal.session.private_folder import PrivateFolder, is_jobs_own
from afportal.session.renewal import Renewal

log = logging.getLogger("test")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PrivateFolder:
    monkeypatch.setenv("_CONDOR_SCRATCH_DIR", str(tmp_path))
    return PrivateFolder()


class ScriptedHub:
    """Answers what its test says; counts what it was asked."""

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self.answers = list(answers)
        self.calls: asyncio.Queue[str] = asyncio.Queue()

    async def ask(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        assert (what, body) == ("secrets", {})
        answer = self.answers.pop(0) if self.answers else given("last")
        self.calls.put_nowait(what)
        if isinstance(answer, Exception):
            raise answer
        return answer


def given(token: str, in_s: float | None = None, **problems: str) -> dict[str, Any]:
    return {
        "files": {"data/token": token, "run/bt_u{uid}": token},
        "paths": {},
        "problems": problems,
        "renew_in_s": in_s,
    }


def test_it_comes_when_the_hub_said(folder: PrivateFolder) -> None:
    """Again and again, and never when the hub said never."""

    async def go() -> None:
        hub = ScriptedHub(given("one", 0.01), given("two"))
        renewing = asyncio.create_task(Renewal(folder, 0.01).run(hub.ask, log))
        for _ in range(2):
            await asyncio.wait_for(hub.calls.get(), 10)
        done, _ = await asyncio.wait({renewing}, timeout=0.2)
        renewing.cancel()
        assert not done
        assert hub.calls.empty()
        assert (folder.path / "data" / "token").read_text() == "two"

    asyncio.run(go())


def test_a_hub_that_is_away_is_asked_again(
    folder: PrivateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was there before stays until then."""
    monkeypatch.setattr("afportal.session.renewal.AGAIN_S", 0.01)
    folder.write({"data/token": "old"})

    async def go() -> None:
        hub = ScriptedHub(OSError("no route"), OSError("no route"), given("new"))
        renewal = Renewal(folder, 0.0)
        renewing = asyncio.create_task(renewal.run(hub.ask, log))
        await asyncio.wait_for(hub.calls.get(), 10)
        assert (folder.path / "data" / "token").read_text() == "old"
        for _ in range(2):
            await asyncio.wait_for(hub.calls.get(), 10)
        await asyncio.wait({renewing}, timeout=0.2)
        renewing.cancel()
        assert (folder.path / "data" / "token").read_text() == "new"

    asyncio.run(go())


def test_what_is_missing_is_told_and_taken_back(folder: PrivateFolder) -> None:
    """In a file of the session's folder, for whatever reads data to show."""

    async def go() -> None:
        hub = ScriptedHub(given("one", data="open the page"), given("two"))
        renewal = Renewal(folder, None)
        await renewal.renew(hub.ask)
        assert (folder.path / "problems").read_text() == "data: open the page\n"
        await renewal.renew(hub.ask)
        assert not (folder.path / "problems").exists()

    asyncio.run(go())


def test_a_reader_sees_the_old_or_the_new(folder: PrivateFolder) -> None:
    """A file is replaced, not written over: who has it open reads on what it was."""
    folder.write({"data/token": "old"})
    path = folder.path / "data" / "token"
    with path.open() as file:
        folder.write({"data/token": "new"})
        assert file.read() == "old"
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(p.name for p in path.parent.iterdir()) == ["token"]


def test_coffea_casas_folder_counts_only_if_it_is_the_jobs_own(tmp_path: Path) -> None:
    """A folder of that name in an image, or somebody else's, takes no secrets."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"667 589 0:249 /x {tmp_path} rw,relatime - overlay overlay rw\n")
    assert is_jobs_own(tmp_path, mounts)
    assert not is_jobs_own(tmp_path / "other", mounts)
    mounts.write_text("")
    assert not is_jobs_own(tmp_path, mounts)


def test_coffea_casas_names_lead_to_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_folder, "COFFEA_CASA", tmp_path)
    monkeypatch.setattr(private_folder, "is_jobs_own", lambda _: True)
    folder = PrivateFolder()
    folder.write({"data/token": "t", "condor/tokens.d/portal": "c"})
    assert folder.path == tmp_path
    assert (tmp_path / "bearer_token").read_text() == "t"
    assert (tmp_path / "condor_token").read_text() == "c"
    folder.write({"data/token": "renewed"})
    assert (tmp_path / "bearer_token").read_text() == "renewed"


def test_dasks_authority_signs_these_and_no_more() -> None:
    """A key and certificate a role, all of one authority whose key nobody has."""
    files = dask_tls.certificates("alice", 3600)
    authority = x509.load_pem_x509_certificate(files["dask/ca.pem"].encode())
    key = authority.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    for role in dask_tls.ROLES:
        certificate = x509.load_pem_x509_certificate(files[f"dask/{role}.pem"].encode())
        certificate.verify_directly_issued_by(authority)
        assert "PRIVATE KEY" in files[f"dask/{role}.key"]
        life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        assert 3600 <= life.total_seconds() <= 3600 + 601
    assert set(files) == {*dask_tls.environment().values()}
    assert dask_tls.certificates("alice", 3600)["dask/ca.pem"] != files["dask/ca.pem"]
