"""A worker's key: taken from the session, handed over, received; and what is told if not."""

from __future__ import annotations

import io
import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from afportal.dask import keys

FILES = {"ca.pem": "an authority", "worker.pem": "a certificate", "worker.key": "a key"}


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which programs are found."""
    found = tmp_path / "bin"
    found.mkdir()
    monkeypatch.setenv("PATH", f"{found}:/usr/bin:/bin")
    return found


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def session(folder: Path) -> dict[str, str]:
    """The environment of a session that has certificates."""
    for name, text in FILES.items():
        (folder / name).write_text(text)
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    return {
        f"{tls}CA_FILE": str(folder / "ca.pem"),
        f"{tls}WORKER__CERT": str(folder / "worker.pem"),
        f"{tls}WORKER__KEY": str(folder / "worker.key"),
    }


def test_a_session_without_certificates_is_told_what_to_do() -> None:
    with pytest.raises(keys.NoKeys, match=r"open to everybody inside.*Start a server.*portal.yaml"):
        keys.of_session({})


def test_a_worker_has_the_worker_s_key_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As files of 0600 in a folder of the job's own, for whatever role it takes."""
    credentials, scratch = tmp_path / "creds", tmp_path / "scratch"
    credentials.mkdir()
    scratch.mkdir()
    (credentials / "dask_x.use").write_text(keys.of_session(session(tmp_path)))
    monkeypatch.setenv("_CONDOR_CREDS", str(credentials))
    monkeypatch.setenv("_CONDOR_SCRATCH_DIR", str(scratch))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.delenv("AF_SCRATCH", raising=False)
    folder = keys.receive("credd:dask_x")
    assert scratch in folder.parents
    assert {path.name: path.read_text() for path in folder.iterdir()} == FILES
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    told = keys.environment(folder)
    assert told["DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY"] == str(folder / "worker.key")


class RecordingCredd:
    """Takes everything, and keeps what it was told; or answers as the credd of 23.9.6 did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, words: str = "") -> None:
        htcondor2 = pytest.importorskip("htcondor2")
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.words, self.error = words, htcondor2.HTCondorException
        monkeypatch.setattr(htcondor2, "Credd", self.at)
        monkeypatch.setenv("_CONDOR_CREDD_HOST", "ap:9620")
        htcondor2.reload_config()

    def at(self, location: Any) -> RecordingCredd:
        assert location["MyAddress"] == "<ap:9620>"
        return self

    def __getattr__(self, deed: str) -> Any:
        def answer(_kind: Any, **what: Any) -> str:
            self.told.append((deed, what))
            if self.words:
                raise self.error(self.words)
            return ""

        return answer


def test_the_credd_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a handle that is another each time, and no file is written for it."""
    credd = RecordingCredd(monkeypatch)
    first, second = keys.store(json.dumps(FILES)), keys.store("x")
    assert first != second
    assert [(deed, what["service"], what["handle"]) for deed, what in credd.told] == [
        ("add_user_service_cred", "dask", first),
        ("add_user_service_cred", "dask", second),
    ]
    assert json.loads(credd.told[0][1]["credential"]) == FILES


def test_a_credd_that_refuses_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the start as an error; at the end, when nothing depends on it, in the log."""
    RecordingCredd(monkeypatch, "no credd")
    with pytest.raises(keys.NoKeys, match="does not do add_user_service_cred for dask: no credd"):
        keys.store("x")
    keys.forget("00")
    assert "does not do delete_user_service_cred" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "stored"),
    [
        ("", False),
        ("Failure parsing credential as JSON", True),
        ("Communication error", False),
    ],
)
def test_whether_there_is_a_data_token_is_asked(
    monkeypatch: pytest.MonkeyPatch, words: str, stored: bool
) -> None:
    """A job that asks in vain is held. HTCondor 23.9.6 takes a token for bad JSON: it is there."""
    RecordingCredd(monkeypatch, words)
    assert keys.data_token_is_stored() is stored


def test_what_is_not_this_person_s_is_no_key(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(programs, "unmunge", "echo 'Unauthorized credential for client' >&2; exit 18")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"MUNGE:x:")))
    with pytest.raises(keys.NoKeys, match=r"no key for this worker from sealed.*Unauthorized"):
        keys.receive("sealed")
