"""Puts a copy of what was shared into the home: overwrites nothing, and leaves nothing half."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from afportal.session.share_errors import NotArrived
from afportal.session.snapshot import MIB, Notebook
from afportal.share.file_names import plain_name, plain_path

# Of the home: where all copies go.
FOLDER = "shared"
_ARRIVING = ".arriving-"
# What a session left that was killed meanwhile.
_LEFT_BEHIND_S = 24 * 3600.0
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_MOST_NAMES = 1000
# A file system's own needs beside the files'.
_ROOM_BESIDE = MIB


@dataclass(frozen=True)
class About:
    """What arrives.

    Args:
        share: id of the link.
        size: bytes of the tar.
        files: in it.
        outputs: of notebooks, kept or cleared.
    """

    share: str
    owner: str
    kind: str
    name: str
    version: int
    size: int
    files: int
    outputs: bool

    def __post_init__(self) -> None:
        plain_name(self.name)
        if self.kind not in ("notebook", "folder"):
            raise ValueError(f"{self.kind} is no kind of what can be shared")


def check_room(home: Path, about: About) -> None:
    """See beforehand whether there is room. Raises `NotArrived`."""
    with contextlib.suppress(OSError):  # it is seen when it is written
        found = os.statvfs(home)
        if found.f_bavail * found.f_frsize < about.size + _ROOM_BESIDE:
            raise _no_room(about, found.f_bavail * found.f_frsize)


def _no_room(about: About, free: int | None = None) -> NotArrived:
    there = f"; {free / MIB:.1f} MiB are free" if free is not None else ", and it is full"
    return NotArrived(
        f"Your home has no room for {about.name}: {about.size / MIB:.1f} MiB are needed{there}. "
        "Nothing was left there: make room, and open the link again.",
        507,
    )


def put(home: Path, about: About, content: IO[bytes], *, tag: str = "") -> str:
    """Put what arrived into the home, and return where, below it.

    Args:
        content: a tar, at its begin.
        tag: stands behind its name, "v2" for "analysis-v2.ipynb".

    Raises:
        NotArrived: there is no room, or it is not what it is called.
    """
    folder = home / FOLDER
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        _forget_left_behind(folder)
        with tempfile.TemporaryDirectory(prefix=_ARRIVING, dir=folder) as arriving:
            whole = Path(arriving) / "whole"
            whole.mkdir(mode=0o700)
            _unpack(about, content, whole)
            return f"{FOLDER}/{_place(folder, about, whole, tag)}"
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise _no_room(about) from error
        raise NotArrived(
            f"{about.name} cannot be written into the folder {FOLDER} of your home: "
            f"{os.strerror(error.errno) if error.errno else error}. Mend that, and open the link "
            "again."
        ) from error


def _unpack(about: About, content: IO[bytes], whole: Path) -> None:
    """Write every file of it. Raises OSError and `NotArrived`."""
    count = 0
    try:
        with tarfile.open(fileobj=content, mode="r:") as tar:
            for member in tar:
                count += 1
                if not member.isreg() or count > about.files:
                    raise NotArrived(f"{about.name}: something else came than was sent", 502)
                names = plain_path(member.name)
                file = tar.extractfile(member)
                if file is None:
                    raise NotArrived(f"{about.name}: something else came than was sent", 502)
                with file:
                    _write(about, whole.joinpath(*names), file, member.mode)
    except (tarfile.TarError, ValueError) as error:
        raise NotArrived(f"{about.name}: what came is no snapshot: {error}", 502) from error
    if count != about.files or (about.kind == "notebook" and not (whole / about.name).is_file()):
        raise NotArrived(f"{about.name}: something else came than was sent", 502)


def _write(about: About, path: Path, file: IO[bytes], mode: int) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    looked_into = about.kind == "notebook" or not about.outputs
    content = file.read() if looked_into and path.name.endswith(".ipynb") else None
    if content is not None:
        try:
            notebook = Notebook(content)
            content = content if about.outputs else notebook.without_outputs()
        except ValueError as error:
            if about.kind == "notebook":
                raise NotArrived(
                    f"{about.name}: {error}. Ask {about.owner} to save it and refresh the link."
                ) from error
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o700 if mode & 0o100 else 0o600), "wb") as written:
        if content is not None:
            written.write(content)
        else:
            shutil.copyfileobj(file, written)
        written.flush()
        # Some file systems say only then that there is no room.
        os.fsync(written.fileno())


def _place(folder: Path, about: About, whole: Path, tag: str) -> str:
    """Give it a name that nothing has yet; returns that. Raises OSError and `NotArrived`."""
    for name in _names(about.name, about.kind, tag):
        try:
            if about.kind == "folder":
                (folder / name).mkdir(mode=0o700)
                # Onto an empty folder that is ours: nothing else is ever replaced.
                whole.rename(folder / name)
            else:
                _link(whole / about.name, folder / name)
        except FileExistsError:
            continue
        return name
    raise NotArrived(f"{_MOST_NAMES} copies of {about.name} lie in {FOLDER}: delete some")


def _link(whole: Path, path: Path) -> None:
    """Have a whole file appear at a path where there is none. Raises FileExistsError."""
    try:
        path.hardlink_to(whole)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        # A file system without hard links: the name is taken first.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        whole.rename(path)


def _names(name: str, kind: str, tag: str) -> Iterator[str]:
    """Yield names that it may have: "a.ipynb", "a-2.ipynb", …"""
    stem, suffix = (name, "") if kind == "folder" else (name.removesuffix(".ipynb"), ".ipynb")
    stem = f"{stem}-{tag}" if tag else stem
    yield stem + suffix
    for number in range(2, _MOST_NAMES):
        yield f"{stem}-{number}{suffix}"


def _forget_left_behind(folder: Path) -> None:
    for left in folder.glob(f"{_ARRIVING}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.lstat().st_mtime > _LEFT_BEHIND_S:
                shutil.rmtree(left, ignore_errors=True)


class Copies:
    """Which versions of a link this person has, and where; in a file of the home.

    Args:
        file: kept there.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def before(self, home: Path, about: About) -> str:
        """Return where the newest earlier copy lies that is still there; empty: nowhere."""
        for version, path in reversed(self._read().get(about.share, [])):
            if version < about.version and (home / path).exists():
                return path
        return ""

    def add(self, about: About, path: str) -> None:
        """Remember one; where that cannot be, it cannot be compared later, and nothing else."""
        known = self._read()
        known.setdefault(about.share, []).append((about.version, path))
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = self._file.with_suffix(".new")
            new.write_text(json.dumps(dict(list(known.items())[-_MOST_NAMES:])))
            new.replace(self._file)

    def _read(self) -> dict[str, list[tuple[int, str]]]:
        try:
            raw: Any = json.loads(self._file.read_text())
            return {
                str(share): [(int(version), str(path)) for version, path in copies]
                for share, copies in raw.items()
            }
        except (OSError, ValueError, TypeError, AttributeError):
            return {}
