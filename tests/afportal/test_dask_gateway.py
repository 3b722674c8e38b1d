"""Dask Gateway's backends: what is submitted, what is read, whose job it is, where no secret is."""

import asyncio
import logging
import shlex
import socket
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from dask_gateway_server.utils import FrozenAttrDict

from afportal.dask_gateway.authenticator import InstancesAuthenticator
from afportal.dask_gateway.backend import FacilityBackend, FacilityClusterConfig
from afportal.dask_gateway.htcondor import HTCondorBackend
from afportal.dask_gateway.jobs import OwnersJobs
from afportal.dask_gateway.local import LocalBackend
from afportal.dask_gateway.slurm import SlurmBackend

TOKEN = "c" * 32
FOLDER = "/home/alice/.dask-gateway/cl1"


@pytest.fixture
def alice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person of whom this machine knows."""
    monkeypatch.setattr("pwd.getpwnam", lambda _: SimpleNamespace(pw_dir="/home/alice"))


def cluster(**settings: Any) -> Any:
    config = FacilityClusterConfig(
        scheduler_cmd=["/opt/dask", "scheduler"], worker_cmd=["/opt/dask", "worker"], **settings
    )
    return SimpleNamespace(
        name="cl1",
        username="alice",
        token=TOKEN,
        tls_cert=b"cert",
        tls_key=b"key",
        scheduler_address="tls://10.0.0.1:8786",
        config=FrozenAttrDict(config.to_dict()),
        state={},
    )


WORKER = SimpleNamespace(name="w1")
KINDS = {"htcondor": HTCondorBackend, "slurm": SlurmBackend, "local": LocalBackend}
EVERY = pytest.mark.parametrize("backend", KINDS.values(), ids=KINDS)


def made(kind: type[OwnersJobs]) -> Any:
    return kind(api_url="https://gw:8000/api", scheduler_environment={"SSL_CERT_FILE": "/ca"})


@EVERY
@pytest.mark.usefixtures("alice")
def test_no_secret_is_in_a_job(backend: type[OwnersJobs]) -> None:
    """The cluster's token and key stand in no command, environment or description."""
    for worker in (None, WORKER):
        said = repr(made(backend).get_submit_cmd_env_stdin(cluster(), worker))
        assert TOKEN not in said
        assert "https://gw:8000/api" in said
        assert (f"{FOLDER}/gateway-token" in said) == (worker is None)
        assert "--no-dashboard" in said


@EVERY
@pytest.mark.usefixtures("alice")
def test_the_staging_folder_has_the_token_and_the_key(backend: type[OwnersJobs]) -> None:
    asked = Recorder(stdout="12.0 - 12.0\n")
    gateway = made(backend)
    gateway.do_as_user = asked

    async def go() -> list[dict[str, str]]:
        return [state async for state in gateway.do_start_cluster(cluster())]

    (state,) = asyncio.run(go())
    assert state["staging_dir"] == FOLDER
    (call,) = asked.calls
    assert (call["user"], call["action"], call["staging_dir"]) == ("alice", "start", FOLDER)
    assert call["files"] == {"dask.pem": "key", "dask.crt": "cert", "gateway-token": TOKEN}


class Recorder:
    """A launcher that does nothing, and is asked by somebody."""

    def __init__(self, code: int = 0, stdout: str = "", stderr: str = "") -> None:
        self.answer = code, stdout, stderr
        self.calls: list[dict[str, Any]] = []

    async def __call__(self, **call: Any) -> tuple[int, str, str]:
        self.calls.append(call)
        return self.answer


def description(worker: Any = None, **settings: Any) -> dict[str, str]:
    cmd, env, stdin = made(HTCondorBackend).get_submit_cmd_env_stdin(cluster(**settings), worker)
    assert env == {}
    assert cmd[1:] == ["-terse", "-disable", "-"]
    *lines, last = stdin.splitlines()
    assert last == "queue"
    return dict(line.split(" = ", 1) for line in lines)


@pytest.mark.usefixtures("alice")
def test_an_htcondor_job_is_asked_for() -> None:
    job = description(WORKER, worker_cores=3, worker_memory=2**31 + 1)
    assert job["executable"] == "/opt/dask"
    assert job["My.Arguments"].startswith("\"'worker' 'tls://10.0.0.1:8786' ")
    assert " '--name' 'w1' " in job["My.Arguments"]
    assert (job["request_cpus"], job["request_memory"]) == ("3", "2049MB")
    assert job["My.Iwd"] == f'"{FOLDER}"'
    assert job["My.Out"] == f'"{FOLDER}/dask-worker-w1.log"'
    assert "DASK_GATEWAY_CLUSTER_NAME=cl1" in job["My.Environment"].replace("'", "")
    assert description(scheduler_memory=2**30)["request_memory"] == "1024MB"


@pytest.mark.usefixtures("alice")
def test_a_setup_runs_before_it() -> None:
    job = description(WORKER, worker_setup="module load it's")
    assert job["executable"] == "/bin/sh"
    assert job["My.Arguments"].startswith(
        r""""'-c' 'module load it''s && exec \"$(DOLLAR)0\" \"$(DOLLAR)@\"' '/opt/dask' 'worker' """
    )


@pytest.mark.usefixtures("alice")
def test_a_description_cannot_be_added_to_by_a_line() -> None:
    """What an option brings in has no line of its own."""
    with pytest.raises(ValueError, match="control character"):
        description(environment={"A": "b\nqueue 100"})


@pytest.mark.usefixtures("alice")
def test_a_facility_says_more_of_its_jobs() -> None:
    job = description(submit_lines={"requirements": "HasIt", "universe": "container"})
    assert (job["requirements"], job["universe"]) == ("HasIt", "container")


def test_htcondors_answers_are_read() -> None:
    backend = made(HTCondorBackend)
    assert backend.parse_job_id("12.0 - 12.0\n") == "12.0"
    seen = backend.parse_job_states("12 0 1\n13 0 2\n14 0 5\n15 0 4\n16 0 6\n")
    assert seen == {"12.0": True, "13.0": True, "14.0": False, "15.0": False, "16.0": True}
    assert backend.parse_job_states("") == {}


def test_slurms_and_ps_answers_are_read() -> None:
    assert made(SlurmBackend).parse_job_states("7 R\n8 PD\n9 CD\n") == {
        "7": True, "8": True, "9": False,
    }  # fmt: skip
    assert made(LocalBackend).parse_job_states("  7 Ssl\n  8 Z\n") == {"7": True, "8": False}


def jobs_of(*owners: str) -> list[Any]:
    return [
        SimpleNamespace(username=owner, state={"job_id": f"{n}.0"})
        for n, owner in enumerate(owners)
    ]


def test_each_owners_jobs_are_looked_at_as_that_owner() -> None:
    """Where others may not see them; whoever has no job has none."""
    backend = made(HTCondorBackend)
    backend.do_as_user = asked = Recorder(stdout="0 0 2\n1 0 2\n")
    clusters = [*jobs_of("alice", "bob", "alice"), SimpleNamespace(username="bob", state={})]
    assert asyncio.run(backend.do_check_clusters(clusters)) == [True, True, False, False]
    assert [(call["user"], call["cmd"][1:-4]) for call in asked.calls] == [
        ("alice", ["0.0", "2.0"]), ("bob", ["1.0"]),
    ]  # fmt: skip


def test_a_scheduler_that_does_not_answer_ends_nobodys_cluster(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend = made(SlurmBackend)
    backend.log = logging.getLogger("test")
    backend.do_as_user = Recorder(code=1, stderr="slurm_load_jobs error: Unable to contact")
    assert asyncio.run(backend.do_check_clusters(jobs_of("alice"))) == [True]
    assert "Unable to contact" in caplog.text
    backend.do_as_user = Recorder(code=1, stderr="slurm_load_jobs error: Invalid job id specified")
    assert asyncio.run(backend.do_check_clusters(jobs_of("alice"))) == [False]


@pytest.mark.usefixtures("alice")
@pytest.mark.parametrize(
    ("backend", "named"),
    [
        (HTCondorBackend, 'JobBatchName == "dask-gateway-cl1"'),
        (SlurmBackend, "--name=dask-gateway-cl1"),
        (LocalBackend, FOLDER),
    ],
)
def test_a_clusters_jobs_are_cancelled_by_its_name_before_its_folder_goes(
    backend: type[OwnersJobs], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a job whose id did not come back: its submit was answered too late."""
    asked: list[tuple[str, list[str]]] = []

    async def ask(_: Any, user: str, action: str, **call: Any) -> tuple[int, str, str]:
        assert action == "start"
        asked.append((user, call["cmd"]))
        return 0, "", ""

    gateway = made(backend)
    # The folder is the launcher's affair with the person's uid, whatever the scheduler.
    monkeypatch.setattr(OwnersJobs, "do_as_user", ask)
    monkeypatch.setattr(
        HTCondorBackend,
        "do_as_user",
        lambda self, user, action, **call: ask(self, user, action, **call),
    )
    asyncio.run(gateway.do_stop_cluster(cluster()))
    (first, cancelled), (second, removed) = asked
    assert (first, second) == ("alice", "alice")
    assert named in cancelled[-1]
    assert removed == ["/bin/rm", "-rf", "--", FOLDER]
    said = repr(gateway.get_submit_cmd_env_stdin(cluster()))
    assert named.rpartition('"dask')[2].rstrip('"') in said.replace("--job-name", "--name")


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        (HTCondorBackend, "Couldn't find/remove all jobs in cluster 12"),
        (SlurmBackend, "scancel: error: Kill job error on job id 12: Invalid job id specified"),
        (LocalBackend, "kill: sending signal to -12 failed: No such process"),
    ],
)
def test_a_job_that_is_over_can_be_cancelled(backend: type[OwnersJobs], said: str) -> None:
    gateway = made(backend)
    gateway.do_as_user = Recorder(code=1, stderr=said)
    asyncio.run(gateway.stop_job("alice", "12"))
    gateway.do_as_user = Recorder(code=1, stderr="refused")
    with pytest.raises(RuntimeError, match=r"as alice ended with 1: refused"):
        asyncio.run(gateway.stop_job("alice", "12"))


@pytest.mark.usefixtures("alice")
def test_a_local_process_outlives_who_started_it(tmp_path: Any) -> None:
    """It is a session of its own, and its output is in the folder."""
    backend = LocalBackend(api_url="https://gw:8000/api")
    one = cluster(worker_setup="echo before", staging_directory=f"{tmp_path}/")
    told = "echo $0 $DASK_GATEWAY_CLUSTER_NAME; exec sleep 60"
    one.config = FrozenAttrDict({**one.config, "worker_cmd": ["/bin/sh", "-c", told]})
    (tmp_path / "cl1").mkdir()
    cmd, env, _ = backend.get_submit_cmd_env_stdin(one, WORKER)
    done = subprocess.run(cmd, env=env, capture_output=True, text=True, timeout=30, check=True)
    pid = backend.parse_job_id(done.stdout)
    try:
        shown, _ = backend.get_status_cmd_env([pid])
        seen = subprocess.run(shown, capture_output=True, text=True, check=True).stdout
        assert backend.parse_job_states(seen) == {pid: True}
    finally:
        subprocess.run(backend.get_end_cmd(one), check=True)
    stop, _ = backend.get_stop_cmd_env(pid)
    log = (tmp_path / "cl1/dask-worker-w1.log").read_text().splitlines()
    assert log[0] == "before"
    assert log[1:] in ([], ["tls://10.0.0.1:8786 cl1"])
    assert shlex.join(stop) == f"/bin/kill -TERM -- -{pid}"


# One gateway for all places


def test_each_cluster_goes_to_the_backend_of_its_place() -> None:
    facility = FacilityBackend(api_url="https://gw:8000/api")
    asyncio.run(facility.do_setup())
    clusters = []
    for number, place in enumerate(("slurm", "htcondor", "local", "slurm")):
        clusters.append(cluster(place=place))
        clusters[-1].name, clusters[-1].state = f"cl{number}", {"job_id": str(number)}
    for place, backend in facility._places.items():
        backend.do_as_user = Recorder(
            stdout={"slurm": "0 R\n", "htcondor": "", "local": "2 S\n"}[place]
        )
        assert backend.api_url == facility.api_url
    assert asyncio.run(facility.do_check_clusters(clusters)) == [True, False, True, False]


# Who asks


class Hub:
    """A hub's /user, which knows one token and counts who asks."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers = {
            "token good.htc-1": (200, {"kind": "user", "name": "alice"}),
            "token odd.htc-1": (200, {"kind": "user", "name": "-i"}),
            "token judge.htc-1": (200, {"kind": "service", "name": "judge"}),
            "token old.htc-1": (403, {}),
            "token ill.htc-1": (500, {}),
        }

    async def user(self, request: web.Request) -> web.Response:
        self.asked.append(request.headers["Authorization"])
        status, body = self.answers.get(self.asked[-1], (403, {}))
        return web.json_response(body, status=status)


def unused_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


async def authenticated(hub: Hub, header: str | None) -> str | int:
    app = web.Application()
    app.router.add_get("/hub/api/user", hub.user)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    closed = unused_port()
    instances = {
        "htc-1": f"http://127.0.0.1:{port}/hub/api",
        "away-1": f"http://127.0.0.1:{closed}/hub/api",
    }
    authenticator = InstancesAuthenticator(instances=instances, jupyterhub_api_token="unused")
    await authenticator.setup(app)
    headers = {"Authorization": header} if header else {}
    try:
        user = await authenticator.authenticate(SimpleNamespace(headers=headers))  # type: ignore[arg-type]
        return str(user.name)
    except web.HTTPException as refused:
        return refused.status
    finally:
        await authenticator.cleanup()
        await runner.cleanup()


@pytest.mark.parametrize(
    ("header", "answer", "asked"),
    [
        ("jupyterhub good.htc-1", "alice", 1),
        ("jupyterhub old.htc-1", 401, 1),
        ("jupyterhub judge.htc-1", 401, 1),
        ("jupyterhub odd.htc-1", 401, 1),
        ("jupyterhub ill.htc-1", 502, 1),
        ("jupyterhub good.away-1", 502, 0),
        ("jupyterhub good.htc-2", 401, 0),
        ("jupyterhub good", 401, 0),
        ("jupyterhub a b.htc-1", 401, 0),
        ("token good.htc-1", 401, 0),
        (None, 401, 0),
    ],
)
def test_the_hub_that_a_token_names_says_whose_it_is(
    header: str | None, answer: str | int, asked: int
) -> None:
    """And no hub hears of a token that is not its own; a service is nobody."""
    hub = Hub()
    assert asyncio.run(authenticated(hub, header)) == answer
    assert len(hub.asked) == asked


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("exit 1", "ended with 1: no answer"),
        ("echo sudo: a password is required >&2; exit 1", "a password is required"),
        ('echo \'{"ok": false, "error": "no room"}\'', "ended with 0: no room"),
        ("echo", "no answer"),
    ],
)
def test_what_the_launcher_could_not_do_is_told(
    script: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sudo = tmp_path / "sudo"
    sudo.write_text(f"#!/bin/sh\n{script}\n")
    sudo.chmod(0o755)
    monkeypatch.setattr("os.defpath", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(RuntimeError, match=f"as alice .*{told}"):
        asyncio.run(made(SlurmBackend).do_as_user("alice", "start", cmd=["x"], env={}))
