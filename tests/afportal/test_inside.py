"""A session that goes into a container or a person's own folder takes nothing there in the open."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from afportal import kernels
from afportal.catalogue import Environment, Kernel
from afportal.containers import Container
from afportal.session import inside
from afportal.session.private_folder import SessionError
from afportal.submits import Submits

CODE = "one-time-code-that-nobody-may-see"
ENTER = ("/opt/p/bin/python", "-I", "-m", "afportal.session.inside")
HUB = ["--hub", "https://hub:8081/hub/api", "--ca", "MIIB"]


pytestmark = pytest.mark.usefixtures("node")


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node with apptainer, on which a job has a scratch folder."""
    for name in ("SLURM_JOB_ID", "AF_SCRATCH", "AF_SECRETS", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("_CONDOR_SCRATCH_DIR", str(scratch))
    monkeypatch.setattr(inside, "program", lambda: "/usr/bin/apptainer")
    return scratch


def test_the_command_is_arguments_and_nothing_else(node: Path) -> None:
    """Each mount is one argument; what runs inside comes after the image."""
    where = {
        "image": "/images/a b.sif",
        "bind": [{"source": "/data", "target": "/in"}, {"source": "/out", "writable": True}],
        "nvidia": True,
    }
    command = inside.contained(where, ["/bin/true", "$(id)"])
    assert command[:4] == ["/usr/bin/apptainer", "--quiet", "exec", "--no-eval"]
    assert command[-3:] == ["/images/a b.sif", "/bin/true", "$(id)"]
    mounts = [value for name, value in itertools.pairwise(command) if name == "--bind"]
    assert mounts == [
        f"{inside.PACKAGE}:/.afportal/afportal:ro",
        f"{inside.PACKAGE}/session/afportal-command:/usr/local/bin/afportal:ro",
        f"{node}:{node}:rw", "/data:/in:ro", "/out:/out:rw",
    ]  # fmt: skip
    assert "--nv" in command


def test_variables_are_passed_on() -> None:
    """What apptainer keeps for itself reaches the container by name; values are set as they are."""
    where = {"environment": {"RELEASE": "$(id)"}, "pass_on": ["LD_LIBRARY_PATH", "NOT_THERE"]}
    told = inside.told(where, {"LD_LIBRARY_PATH": "/lib/x", "HOME": "/home/alice"})
    assert told == {
        "LD_LIBRARY_PATH": "/lib/x",
        "HOME": "/home/alice",
        "APPTAINERENV_LD_LIBRARY_PATH": "/lib/x",
        "APPTAINERENV_RELEASE": "$(id)",
        "APPTAINERENV_PYTHONPATH": "/.afportal",
        "AF_CONTAINER": json.dumps(where),
        "AF_LAUNCHER": sys.executable,
    }
    where = {"environment": {"PYTHONPATH": "/own"}}
    assert inside.told(where, {})["APPTAINERENV_PYTHONPATH"] == "/own:/.afportal"


def test_the_code_is_in_no_argument_and_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes by the environment, as Slurm has it, and goes on through a pipe."""
    monkeypatch.setenv("AF_CODE", CODE)
    seen: dict[str, object] = {}

    def execve(path: str, argv: list[str], environment: dict[str, str]) -> None:
        seen.update(path=path, argv=argv, environment=dict(environment), read=os.read(0, 1000))

    monkeypatch.setattr(os, "execve", execve)
    before = os.dup(0)
    try:
        inside.main(["--in", '{"image": "/images/a.sif"}', *HUB, "--code-from", "env:AF_CODE"])
    finally:
        os.dup2(before, 0)
        os.close(before)
    assert seen["read"] == f"{CODE}\n".encode()
    assert CODE not in str(seen["argv"])
    assert CODE not in str(seen["environment"])
    argv = seen["argv"]
    assert isinstance(argv, list)
    at = argv.index("/images/a.sif")
    assert argv[at + 1 : at + 4] == ["/usr/bin/python3", "-I", "-c"]
    begins = ["/.afportal/afportal", "afportal.session"]
    assert argv[at + 5 : at + 13] == [*begins, *HUB, "--code-from", "stdin"]


def test_a_persons_own_folder_needs_nothing_of_the_portal(tmp_path: Path) -> None:
    """Its Python becomes the session with the node's modules, and with no others of the node's."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    where = json.dumps({"prefix": str(tmp_path)})
    done = subprocess.run(
        [sys.executable, "-m", "afportal.session.inside", "--in", where, "--hub", "ftp://nobody",
         "--code-from", "stdin"],
        input=f"{CODE}\n", capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": os.defpath, "PYTHONPATH": str(inside.PACKAGE.parent), "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 1
    assert "an http or https address is wanted" in done.stderr or "No module named" in done.stderr
    assert CODE not in done.stderr


def test_a_node_without_apptainer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(inside, "_FOLDERS", "/nonexistent")
    with pytest.raises(SessionError, match="no container can be started"):
        inside.program()


def test_a_kernel_in_a_container_is_entered_by_the_same_way() -> None:
    """Its kernel.json holds data: what Jupyter fills in is the connection file alone."""
    kernel = Kernel(
        name="k",
        title="K",
        argv=("python3", "-m", "ipykernel_launcher", "-f", "{connection_file}"),
        environment={"A": "1"},
        container=Container(image="/images/a.sif", environment={"B": "2"}),
    )
    found = kernels.specification(kernel, "/opt/envs/notebook/bin/python")
    assert found["env"] == {"A": "1"}
    argv = found["argv"]
    assert isinstance(argv, list)
    assert argv[:5] == [
        "/opt/envs/notebook/bin/python",
        "-I",
        "-m",
        "afportal.session.inside",
        "--in",
    ]
    assert json.loads(argv[5]) == {"image": "/images/a.sif", "environment": {"B": "2"}}
    assert argv[6:] == ["--run", *kernel.argv]


@pytest.mark.parametrize(
    ("environment", "argv"),
    [
        ({"name": "a", "prefix": "/opt/a"}, ("/opt/a/bin/python", "-I", "-m", "afportal.session")),
        (
            {"name": "c", "container": {"image": "/images/a.sif"}},
            (*ENTER, "--in", '{"image":"/images/a.sif"}'),
        ),
        ({"name": "own.a", "prefix": "/home/a"}, (*ENTER, "--in", '{"prefix": "/home/a"}')),
    ],
    ids=["folder", "container", "own"],
)
def test_what_a_job_starts(environment: dict[str, object], argv: tuple[str, ...]) -> None:
    """A facility's folder has its session; what it cannot vouch for is entered by its launcher."""
    submits = Submits()
    submits.portal = SimpleNamespace(  # type: ignore[assignment]
        catalogue=SimpleNamespace(launching="/opt/p/bin/python")
    )
    assert submits._session(Environment.model_validate({"title": "T", **environment})) == argv
