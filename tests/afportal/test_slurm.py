"""What slurmrestd answered for real, read into states, reasons and ends."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from afportal.backends import Cause, JobRequest, SchedulerError, Standing, slurm
from afportal.backends.slurm import SlurmBackend
from afportal.backends.slurm_states import ending_of, standing_of
from afportal.credentials.settings import MinterSettings

DATA = Path(__file__).parents[1] / "data" / "slurm"


def captured(name: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text())
    return answer


def job(name: str) -> dict[str, Any]:
    found: dict[str, Any] = captured(name)["jobs"][0]
    return found


@pytest.fixture
def backend(tmp_path: Path) -> SlurmBackend:
    secret = tmp_path / "secret"
    secret.write_bytes(b"x" * 32)
    settings = SlurmBackend.Settings(
        kind="slurm",
        url="http://127.0.0.1:1",
        minter=MinterSettings(url="http://127.0.0.1:1", secret_file=secret),
        partition="interactive",
    )
    return SlurmBackend(settings, name="slurm", cell="hub")


REQUEST = JobRequest(
    person="alice",
    home="/home/alice",
    server="alice/",
    cell="hub",
    code="c" * 43,
    argv=("/opt/envs/notebook/bin/python", "-I", "-m", "afportal.session", "--hub", "http://h"),
    cores=2,
    memory_mib=1536,
    memory_limit_mib=4608,
    runtime_min=60,
    gpus="k40:1",
)


@pytest.mark.parametrize(
    ("name", "standing"),
    [
        ("job-running", Standing.RUNNING),
        ("job-pending-none", Standing.PENDING),
        ("job-pending-resources", Standing.PENDING),
        ("job-pending-held", Standing.HELD),
        ("job-pending-qos-gpu", Standing.PENDING),
    ],
)
def test_a_living_job_is_read(name: str, standing: Standing) -> None:
    """Pending, held and running jobs are told apart as slurmctld shows them."""
    assert SlurmBackend._status_of(job(name)).standing is standing


def test_a_running_job_says_when_it_ends() -> None:
    """By its time limit, as slurmctld has it; a waiting one has no end yet."""
    assert SlurmBackend._status_of(job("job-running")).ends_s == 1795267469
    assert SlurmBackend._status_of(job("job-pending-resources")).ends_s is None


def test_a_waiting_job_says_why() -> None:
    """The scheduler's own reason reaches the person."""
    assert SlurmBackend._status_of(job("job-pending-resources")).reason == "Resources"
    assert SlurmBackend._status_of(job("job-pending-qos-gpu")).reason == "QOSMaxGRESPerUser"


@pytest.mark.parametrize(
    ("name", "words", "cause"),
    [
        ("job-completed", "COMPLETED", Cause.EXITED),
        ("job-failed", "exit code 3", Cause.EXITED),
        ("job-failed-signal", "signal", Cause.EXITED),
        ("job-out-of-memory", "OUT_OF_MEMORY", Cause.MEMORY),
        ("job-timeout", "TIMEOUT", Cause.TIME),
        ("job-cancelled", "CANCELLED", Cause.REMOVED),
        ("job-node-fail", "NODE_FAIL", Cause.NODE),
        ("slurmdb-job-completed", "COMPLETED", Cause.EXITED),
    ],
)
def test_an_end_is_told_in_words(name: str, words: str, cause: Cause) -> None:
    """Every kind of end, of slurmctld or of the accounting, reads as what it was."""
    ended = job(name)
    assert words in ending_of(ended).words
    assert ending_of(ended).cause is cause
    if "job_state" in ended:
        assert standing_of(ended["job_state"]) in (Standing.GONE, Standing.ENDING)


@pytest.mark.parametrize(
    ("states", "standing"),
    [
        (["RUNNING"], Standing.RUNNING),
        (["CANCELLED", "COMPLETING"], Standing.ENDING),
        (["COMPLETED", "STAGE_OUT"], Standing.ENDING),
        (["PENDING", "REQUEUED"], Standing.PENDING),
        (["NODE_FAIL", "REQUEUED"], Standing.PENDING),
        (["SUSPENDED"], Standing.SUSPENDED),
        (["RUNNING", "RESIZING"], Standing.RUNNING),
        (["RUNNING", "CONFIGURING"], Standing.PENDING),
        (["OUT_OF_MEMORY"], Standing.GONE),
        (["A_STATE_OF_TOMORROW"], Standing.PENDING),
    ],
)
def test_flags_beside_the_state_count(states: list[str], standing: Standing) -> None:
    """Completing, requeued, suspended and resizing jobs are not gone; an unknown state neither."""
    assert standing_of(states) is standing


def test_refusals_are_of_the_request_and_silence_is_of_the_way(backend: SlurmBackend) -> None:
    """A refused job (2000 to 4999) is no outage; an error of the way to slurmctld is one."""
    for name in ("submit-refused-partition", "submit-refused-timelimit", "job-unknown"):
        backend._raise_if_away(captured(name))
    with pytest.raises(SchedulerError, match="slurmctld"):
        backend._raise_if_away({"errors": [{"error_number": 1800, "error": "Unable to contact"}]})


def test_the_code_is_in_the_environment_only(backend: SlurmBackend) -> None:
    """Name, comment, script and arguments can be read by others; the code is not in them."""
    sent = backend._job(REQUEST)
    assert f"AF_CODE={'c' * 43}" in sent.pop("environment")
    assert "c" * 43 not in json.dumps(sent)
    assert "c" * 43 not in backend._script(REQUEST)
    assert sent["memory_per_node"]["number"] == 4608
    assert sent["tres_per_job"] == "gres/gpu:k40:1"
    assert sent["requeue"] is False


def test_no_shell_reads_the_script(backend: SlurmBackend) -> None:
    """The batch script is Python with literals."""
    script = backend._script(REQUEST)
    assert script.startswith("#!/opt/envs/notebook/bin/python -I\n")
    compile(script, "script", "exec")
    assert "'--code-from', 'env:AF_CODE'" in script


def test_strangers_jobs_hold_no_census_up(
    backend: SlurmBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some are asked for each time; one that cannot be had is asked for again, at no cost else."""
    names = {"1": "af-hub", "2": "af-other", "3": "simulation", "4": "af-hub", "5": "af-hub"}
    broken = {"4"}
    asked: list[str] = []

    async def states() -> dict[str, tuple[str, ...]]:
        return dict.fromkeys(names, ("RUNNING",))

    async def get(job_id: str) -> dict[str, Any]:
        asked.append(job_id)
        if job_id in broken:
            raise SchedulerError("no answer")
        return {"job_id": job_id, "name": names[job_id], "job_state": ["RUNNING"]}

    monkeypatch.setattr(backend, "_states", states)
    monkeypatch.setattr(backend, "_get", get)
    monkeypatch.setattr(slurm, "LEARNED_AT_ONCE", 3)
    assert set(asyncio.run(backend.statuses(["1"], others=True))) == {"1"}
    assert asked == ["1", "2", "3", "4"]
    broken.clear()
    assert set(asyncio.run(backend.statuses(["1"], others=True))) == {"1", "4", "5"}
    assert asked == ["1", "2", "3", "4", "4", "5"]
    assert set(asyncio.run(backend.statuses(["1"]))) == {"1"}
    assert asked == ["1", "2", "3", "4", "4", "5"]
