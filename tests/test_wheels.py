"""Two wheels come from the repository, each with one top-level package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LABEXTENSION = "share/jupyter/labextensions/@afportal/session"


@pytest.fixture
def portal(tmp_path: Path) -> Path:
    """The portal's project with a labextension as npm would have built it."""
    project = tmp_path / "src"
    shutil.copytree(ROOT / "src", project, ignore=shutil.ignore_patterns("node_modules", "build"))
    built = project / "labextension/build/labextension"
    (built / "static").mkdir(parents=True)
    for name in ("package.json", "static/style.js"):
        (built / name).write_text("{}")
    return project


def at_the_top(names: list[str]) -> set[str]:
    return {name.split("/")[0] for name in names if ".dist-info/" not in name}


def test_the_testbeds_wheel_holds_one_package(tmp_path: Path) -> None:
    """Nothing else appears at the top of a site-packages, and nothing of npm's is in it."""
    names = wheel_of(ROOT, tmp_path)
    assert at_the_top(names) == {"testbed"}
    assert "testbed/scenarios/conftest.py" in names
    assert "testbed/src/labextension/src/index.ts" in names
    assert not any("node_modules" in name or "/build/" in name for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_portals_wheel_holds_one_package(portal: Path, tmp_path: Path) -> None:
    """And what is read at the start of every Python there (decision 15), and JupyterLab's part."""
    names = wheel_of(portal, tmp_path / "out")
    (data,) = {name.split("/")[0] for name in names if ".data/" in name}
    assert at_the_top(names) == {"afportal", "afportal-xcache.pth", data}
    assert "afportal/session/__main__.py" in names
    assert {name for name in names if name.startswith(f"{data}/")} == {
        f"{data}/data/{LABEXTENSION}/{name}"
        for name in ("package.json", "install.json", "static/style.js")
    }
    assert any(name.endswith("licenses/LICENSE") for name in names)


def wheel_of(project: Path, folder: Path) -> list[str]:
    """Build a project's wheel without npm, and return the names of its files."""
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        env={**os.environ, "SKIP_JUPYTER_BUILDER": "1"},
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    return zipfile.ZipFile(wheel).namelist()
