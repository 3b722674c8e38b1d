"""Two wheels come from the repository, each with one top-level package."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("project", "package", "member", "beside"),
    [
        (ROOT, "testbed", "testbed/scenarios/conftest.py", set()),
        # Read at the start of every Python there: decisions/0015.
        (ROOT / "src", "afportal", "afportal/session/__main__.py", {"afportal-xcache.pth"}),
    ],
    ids=["af-testbed", "afportal"],
)
def test_a_wheel_holds_one_package(
    project: Path, package: str, member: str, beside: set[str], tmp_path: Path
) -> None:
    """Nothing but the package and its metadata appears at the top of a site-packages."""
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.split("/")[0] for n in names if ".dist-info" not in n} == {package} | beside
    assert member in names
    assert any(n.endswith("licenses/LICENSE") for n in names)
