"""What a home asks for is there once for all workers, or refused with pip's own reason."""

from __future__ import annotations

import importlib.metadata
import sys
import zipfile
from pathlib import Path

import pytest

from afportal.dask import requirements


def wheel(folder: Path, name: str, version: str) -> None:
    """A package with one module that knows its version."""
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        file.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        file.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{about}/RECORD", "")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with wheels of its own: nothing is fetched from anywhere."""
    monkeypatch.setenv("HOME", str(tmp_path))
    wheel(tmp_path, "ours", "1.0")
    wheel(tmp_path, "dask", "2025.1.0")
    return tmp_path


def ask(home: Path, *lines: str) -> None:
    options = ("--no-index", f"--find-links {home}")
    (home / "requirements.txt").write_text("".join(f"{line}\n" for line in (*options, *lines)))


def test_a_home_that_asks_for_nothing_gets_nothing(home: Path) -> None:
    assert requirements.provide(home) == ""
    (home / "requirements.txt").write_text("# nothing\n\n")
    assert requirements.provide(home) == ""


def test_it_is_installed_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second cluster finds it; another line makes another folder."""
    ask(home, "ours")
    packages = Path(requirements.provide(home))
    assert (packages / "ours.py").is_file()
    with monkeypatch.context() as without_pip:
        without_pip.setattr(requirements, "_install", None)
        assert requirements.provide(home) == str(packages)
    ask(home, "ours==1.0")
    assert requirements.provide(home) != str(packages)
    monkeypatch.setattr(sys, "path", [*sys.path])
    requirements.use_here(str(packages))
    assert sys.path[-1] == str(packages)


def test_a_version_that_the_environment_has_not_is_refused(home: Path) -> None:
    """Notebook and workers would not agree; half an installation is not left behind."""
    ask(home, "dask==2025.1.0")
    has = importlib.metadata.version("dask")
    with pytest.raises(requirements.NotInstalled) as refused:
        requirements.provide(home)
    for word in ("dask==2025.1.0", has, "afportal add", "requirements=False"):
        assert word in str(refused.value)
    assert list((home / ".cache/afportal/packages").iterdir()) == []


def test_of_a_conda_environment_the_pip_part_counts(home: Path) -> None:
    (home / "environment.yml").write_text(
        "dependencies:\n- python=3.13\n- pip:\n  - ours\n  - awkward>=2\n"
    )
    ask(home, "# a comment", "hist")
    assert requirements.asked(home)[-3:] == ["hist", "ours", "awkward>=2"]


def test_a_file_that_is_no_yaml_is_named(home: Path) -> None:
    (home / "environment.yml").write_text("dependencies: [")
    with pytest.raises(requirements.NotInstalled, match=r"environment\.yml"):
        requirements.provide(home)
