"""What a person's home asks for beyond the environment, installed once for all workers.

`requirements.txt` and the pip part of `environment.yml` in the home are installed below the
home's cache, keyed by what they say and by the environment, when a cluster is made: a worker
only finds them. What the environment has stays as it is, so that notebook and workers agree: a
file that asks for another version of that is refused.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_CACHE = ".cache/afportal/packages"
_TIMEOUT_S = 900
_LAST_LINES = 15


class NotInstalled(Exception):
    """What the home asks for cannot be had; the message is for the person."""


def asked(home: Path) -> list[str]:
    """Return the lines of requirements that a home has, those of `environment.yml` last.

    Raises:
        NotInstalled: a file cannot be read.
    """
    lines: list[str] = []
    try:
        plain = home / "requirements.txt"
        if plain.is_file():
            lines += plain.read_text().splitlines()
        conda = home / "environment.yml"
        if conda.is_file():
            lines += _pip_part(conda.read_text())
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise NotInstalled(f"what the workers shall have cannot be read: {error}") from error
    kept = (line.strip() for line in lines)
    return [line for line in kept if line and not line.startswith("#")]


def _pip_part(text: str) -> list[str]:
    """Return what a conda environment wants of pip. Raises ValueError."""
    import yaml

    try:
        told: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"environment.yml: {error}") from error
    found = told.get("dependencies") if isinstance(told, dict) else None
    parts = [each["pip"] for each in found or () if isinstance(each, dict) and "pip" in each]
    return [str(line) for part in parts for line in part or ()]


def installed() -> list[str]:
    """Return what this environment has, each as `name==version`."""
    found: dict[str, str] = {}
    for each in importlib.metadata.distributions():
        if each.metadata["Name"] and _CACHE not in str(each.locate_file("")):
            found.setdefault(each.metadata["Name"].lower().replace("_", "-"), each.version)
    return sorted(f"{name}=={version}" for name, version in found.items())


def provide(home: Path, *, python: str = sys.executable) -> str:
    """Have what the home asks for beside this environment.

    Returns:
        The folder of packages; empty where the home asks for nothing.

    Raises:
        NotInstalled: pip refuses, or a file cannot be read or written.
    """
    lines = asked(home)
    if not lines:
        return ""
    fixed = installed()
    key = hashlib.sha256("\n".join([python, sys.version, *lines, "", *fixed]).encode()).hexdigest()
    above = home / _CACHE
    folder = above / key[:32]
    if not folder.is_dir():
        try:
            above.mkdir(mode=0o700, parents=True, exist_ok=True)
            _install(lines, fixed, folder, python)
        except OSError as error:
            raise NotInstalled(f"packages for the workers: {error}") from error
    return str(_packages(folder))


def _packages(folder: Path) -> Path:
    return Path(sysconfig.get_path("purelib", "posix_prefix", {"base": str(folder)}))


def _install(lines: Iterable[str], fixed: Iterable[str], folder: Path, python: str) -> None:
    """Install into a new folder that takes its place at once: half of it is never seen."""
    made = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        for name, content in (("requirements.txt", lines), ("constraints.txt", fixed)):
            (made / name).write_text("".join(f"{line}\n" for line in content))
        argv = [
            python, "-I", "-m", "pip", "install", "--disable-pip-version-check",
            "--no-input", "--no-warn-script-location", "--prefix", str(made),
            "--requirement", str(made / "requirements.txt"),
            "--constraint", str(made / "constraints.txt"),
        ]  # fmt: skip
        try:
            done = subprocess.run(
                argv,
                cwd=Path.home(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                # What contradicts what it says on the one, that it does so on the other.
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise NotInstalled(
                f"pip has not installed what your home asks for after {_TIMEOUT_S} s; shorten "
                "requirements.txt, or make an environment of your own (afportal add)"
            ) from error
        if done.returncode:
            said = "\n".join(done.stdout.strip().splitlines()[-_LAST_LINES:])
            raise NotInstalled(
                "requirements.txt (or the pip part of environment.yml) in your home asks for what "
                "cannot be had beside this environment, whose own packages stay as they are:\n"
                f"{said}"
                "\nChange the file, make an environment of your own (afportal add), or say "
                "requirements=False: workers without it"
            )
        _packages(made).mkdir(parents=True, exist_ok=True)
        try:
            os.rename(made, folder)  # noqa: PTH104 - Path.rename is the same
        except OSError:
            if not folder.is_dir():  # else another session was first
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


def use_here(packages: str) -> None:
    """Let the notebook find them too, after its own."""
    if packages and packages not in sys.path:
        sys.path.append(packages)
