"""The session keeps its secrets to itself."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest

from afportal.session import __main__ as session
from afportal.session.private_folder import PrivateFolder, SessionError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PrivateFolder:
    monkeypatch.setenv("_CONDOR_SCRATCH_DIR", str(tmp_path))
    return PrivateFolder()


def test_secrets_are_the_persons_alone(folder: PrivateFolder) -> None:
    """Every secret is 0600 in folders of 0700."""
    folder.write({"condor/tokens.d/portal": "secret\n", "jupyterhub_token": "t"})
    token = folder.path / "condor" / "tokens.d" / "portal"
    assert token.read_text() == "secret\n"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(token.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "a/../../outside"])
def test_no_secret_leaves_its_folder(folder: PrivateFolder, name: str) -> None:
    """A path that leads out of the private folder is refused."""
    with pytest.raises(SessionError, match="would leave"):
        folder.write({name: "secret"})
    assert not (folder.path.parent / "outside").exists()


def test_the_code_leaves_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A code that came by the environment is gone from it once it was read."""
    monkeypatch.setenv("AF_CODE", "one-time")
    assert session.read_code("env:AF_CODE") == "one-time"
    assert "AF_CODE" not in os.environ


def test_the_code_comes_by_credd_or_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTCondor's credential folder and standard input are the other two ways."""
    (tmp_path / "hub_1.use").write_text("from-credd\n")
    monkeypatch.setenv("_CONDOR_CREDS", str(tmp_path))
    assert session.read_code("credd:hub_1") == "from-credd"
    monkeypatch.setattr("sys.stdin", io.StringIO("from-pipe\n"))
    assert session.read_code("stdin") == "from-pipe"
    with pytest.raises(SessionError, match="are known"):
        session.read_code("argv:code")


def test_only_a_web_address_is_asked() -> None:
    """A hub address of another kind is refused before a code is sent anywhere."""
    with pytest.raises(SessionError, match="http or https"):
        session.exchange("file:///etc", "code", 0.0)
