"""What a person points at when something is added: a folder, a container, or what to make one of.

Whatever is started here is started as that person, with arguments as a list.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from afportal.containers import Container
from afportal.session import inside
from afportal.session.private_folder import SessionError

LOOK_TIMEOUT_S = 120.0
MAKE_TIMEOUT_S = 1800.0
_REPOSITORY = re.compile(r"^(https|ssh|file)://|^git@[\w.-]+:")
# What it prints is all that is believed of a Python.
_LOOK = """\
import importlib.metadata as m, json
def version(name):
    try: return m.version(name)
    except m.PackageNotFoundError: return None
print(json.dumps({n: version(n) for n in ("jupyterlab", "jupyterhub", "ipykernel")}))
"""


class NotUsable(Exception):
    """It cannot be added; the message says why, and what would do."""


@dataclass(frozen=True)
class Source:
    """What was found.

    Args:
        server: it can be a whole server; else it is a kernel.
        made: the folder was made here, and goes when it is removed.
    """

    prefix: str = ""
    image: str = ""
    server: bool = True
    made: bool = False


def data_folder() -> Path:
    """Where what is made here lies."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "afportal"


def is_repository(text: str) -> bool:
    """Tell whether a text is the address of a repository."""
    return _REPOSITORY.match(text) is not None


def fetched(address: str, name: str) -> Path:
    """Clone a repository; returns the folder. Raises `NotUsable`."""
    folder = data_folder() / "repositories" / name
    allowed = {**os.environ, "GIT_ALLOW_PROTOCOL": "https:ssh:file", "GIT_TERMINAL_PROMPT": "0"}
    clone = ["git", "clone", "--quiet", "--depth", "1", "--", address, str(folder)]
    with _in_place_of(folder):
        _run(clone, environ=allowed)
    return folder


def runs_here(made: Path) -> bool:
    """Tell whether this server, or kernel, runs in an environment."""
    return str(made / "bin") in os.environ.get("PATH", "").split(os.pathsep)


@contextlib.contextmanager
def _in_place_of(folder: Path) -> Iterator[None]:
    """Make a folder anew; what was there comes back if that fails.

    Raises:
        NotUsable: this server runs in it.
    """
    if runs_here(folder):
        raise NotUsable(f"this server runs in {folder}: add it again from another one")
    before = folder.with_name(f".{folder.name}.before")
    shutil.rmtree(before, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        folder.rename(before)
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if before.exists():
            before.rename(folder)
        raise
    shutil.rmtree(before, ignore_errors=True)


def look(path: Path, name: str, python: str) -> Source:
    """Say what is at a path, and make an environment of requirements.

    Args:
        name: that it gets.
        python: of a container.

    Raises:
        NotUsable: nothing that can be used, or it could not be made.
    """
    if path.is_file():
        if b"SIF_MAGIC" not in path.open("rb").read(64):
            raise NotUsable(f"{path} is a file, and no container: a SIF file was expected")
        return Source(image=str(path), server=_container_serves(path, python))
    if not path.is_dir():
        raise NotUsable(f"{path} is not there")
    if (path / ".singularity.d").is_dir() or (path / "etc" / "os-release").exists():
        return Source(image=str(path), server=_container_serves(path, python))
    if os.access(path / "bin" / "python", os.X_OK):
        return Source(prefix=str(path), server=_folder_serves(path))
    if (path / "requirements.txt").is_file():
        made = make(path, name)
        return Source(prefix=str(made), server=_folder_serves(made), made=True)
    raise NotUsable(
        f"{path} has no bin/python (an environment), no requirements.txt (to make one of) and no "
        "etc/os-release (a container in a folder)"
    )


def make(folder: Path, name: str) -> Path:
    """Make an environment of a folder's requirements, on top of the one that this runs in."""
    made = data_folder() / "environments" / name
    with _in_place_of(made):
        _run([sys.executable, "-m", "venv", "--without-pip", str(made)])
        _stack(made, Path(sys.prefix))
        _run(
            [sys.executable, "-m", "pip", "--python", str(made / "bin" / "python"), "install",
             "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"],
            folder=folder,
        )  # fmt: skip
    return made


def _stack(made: Path, below: Path) -> None:
    """Give an environment all that another one has."""
    for site in made.glob("lib/python3*/site-packages"):
        theirs = below / site.relative_to(made)
        (site / "below.pth").write_text(f"import site; site.addsitedir({str(theirs)!r})\n")
    shared = made / "share" / "jupyter"
    shared.mkdir(parents=True, exist_ok=True)
    (made / "etc").mkdir(exist_ok=True)
    # JupyterLab looks for its own files and settings below its Python's prefix.
    for part in ("lab", "labextensions"):
        (shared / part).symlink_to(below / "share" / "jupyter" / part)
    (made / "etc" / "jupyter").symlink_to(below / "etc" / "jupyter")
    (made / "bin" / "afportal").symlink_to(below / "bin" / "afportal")


def _folder_serves(folder: Path) -> bool:
    return _serves(_seen([f"{folder}/bin/python", "-I", "-c", _LOOK], str(folder)), str(folder))


def _container_serves(image: Path, python: str) -> bool:
    """Look into a container where that can be done; elsewhere it is believed to be a server."""
    where = Container(image=str(image), python=python).model_dump(mode="json")
    try:
        command = inside.contained(where, [python, "-I", "-c", _LOOK])
    except SessionError as error:
        print(f"{image} is not looked into: {error}", file=sys.stderr)
        return True
    return _serves(_seen(command, f"{python} in {image}"), f"{python} in {image}")


def _seen(command: Sequence[str], what: str) -> dict[str, str | None]:
    try:
        text = _run(command, timeout_s=LOOK_TIMEOUT_S).splitlines()[-1]
        found: dict[str, Any] = json.loads(text)
    except (IndexError, ValueError) as error:
        raise NotUsable(f"{what} does not answer as a Python does") from error
    return found


def _serves(seen: dict[str, str | None], what: str) -> bool:
    """Tell a server from a kernel. Raises `NotUsable` for what is neither."""
    if seen.get("jupyterlab") and seen.get("jupyterhub"):
        theirs, ours = str(seen["jupyterhub"]), _version("jupyterhub")
        if ours and theirs.split(".")[:2] != ours.split(".")[:2]:
            raise NotUsable(f"{what} has JupyterHub {theirs}; the servers here need {ours}")
        return True
    if seen.get("ipykernel"):
        return False
    raise NotUsable(
        f"{what} has neither JupyterLab with JupyterHub, to be a server, nor ipykernel, to be a "
        "kernel: install one of them there"
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _run(
    command: Sequence[str],
    *,
    folder: Path | None = None,
    environ: dict[str, str] | None = None,
    timeout_s: float = MAKE_TIMEOUT_S,
) -> str:
    """Run a program; returns what it printed. Raises `NotUsable` with its last words."""
    try:
        done = subprocess.run(
            list(command), cwd=folder, env=environ, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotUsable(f"{command[0]}: {error}") from error
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).splitlines()[-8:])
        raise NotUsable(f"{Path(command[0]).name} ended with {done.returncode}:\n{said}")
    return done.stdout
