"""A snapshot of what a person shares, read by their own session: no link leads out of the home."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from afportal.session.share_errors import NotShareable
from afportal.share.file_names import plain_name, plain_path

MIB = 1024 * 1024
# JupyterLab's own, in every folder with a notebook: nobody misses it.
_CHECKPOINTS = ".ipynb_checkpoints"
# Folders in folders; also what keeps a walk from going on for ever.
MOST_DEPTH = 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not to wait for whoever writes into a pipe.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class About:
    """What the hub is told of a snapshot, as `afportal.share.bodies.Snapshot` has it."""

    kind: str
    name: str
    path: str
    files: int
    saved_s: float
    kernel: str = ""
    kernel_title: str = ""
    left_out: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


@dataclass(frozen=True)
class Limits:
    """How much one snapshot may hold.

    Args:
        most_bytes: of the whole, as it is sent.
    """

    most_bytes: int
    most_files: int


class Notebook:
    """What is read of a notebook's own words. Raises ValueError: it is none."""

    def __init__(self, content: bytes) -> None:
        try:
            read: Any = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise ValueError("it is no notebook: its content is not JSON") from error
        if not isinstance(read, dict) or not isinstance(read.get("cells"), list):
            raise ValueError("it is no notebook of the present format: it has no cells")
        self.content: dict[str, Any] = read

    @property
    def kernel(self) -> tuple[str, str]:
        """Name and title of its kernel; empty where it names none."""
        metadata = self.content.get("metadata")
        spec = metadata.get("kernelspec") if isinstance(metadata, dict) else None
        names = spec if isinstance(spec, dict) else {}
        return _line(names.get("name")), _line(names.get("display_name"))

    def without_outputs(self) -> bytes:
        """Return it with no outputs in it."""
        for cell in self.content["cells"]:
            if isinstance(cell, dict) and cell.get("cell_type") == "code":
                cell["outputs"], cell["execution_count"] = [], None
        text = json.dumps(self.content, ensure_ascii=False, indent=1)
        # A character that is no text (half a surrogate pair) is written as JSON names it.
        return text.encode(errors="backslashreplace") + b"\n"


def _line(text: object) -> str:
    return text if isinstance(text, str) and text.isprintable() and len(text) <= 200 else ""


class Snapshot:
    """Takes what lies at a path below the home; its content is `file`, a tar, at its begin."""

    def __init__(self, home: Path, path: str, limits: Limits) -> None:
        """Take it.

        Raises:
            NotShareable: it is no notebook or folder below the home, or is too large.
        """
        self._limits = limits
        self._count = self._left_out = 0
        self._newest_s = 0.0
        self._kernels: set[tuple[str, str]] = set()
        self.file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        try:
            self.about = self._take(home, path.strip("/"))
            self.size = self.file.seek(0, os.SEEK_END)
            self.file.seek(0)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Forget it."""
        self.file.close()

    def _take(self, home: Path, path: str) -> About:
        try:
            names = plain_path(path)
        except ValueError:
            raise NotShareable(
                f"{path or 'your whole home'} cannot be shared: a notebook or folder below your "
                "home can that is not hidden, whose name has at most 200 bytes"
            ) from None
        try:
            with _opened_below(home, names) as descriptor:
                is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
                if not is_folder and not names[-1].endswith(".ipynb"):
                    raise NotShareable(
                        f"{names[-1]} is no notebook: share the folder that it lies in"
                    )
                with tarfile.open(fileobj=self.file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                    if is_folder:
                        self._add_folder(tar, descriptor, "", MOST_DEPTH)
                    else:
                        self._add(tar, descriptor, names[-1], alone=True)
        except OSError as error:
            raise NotShareable(f"{path} cannot be read: {_why(error)}") from error
        self._check_size(0, names[-1])
        if not self._count:
            raise NotShareable(f"{path} holds no file that can be shared")
        kernel, title = next(iter(self._kernels)) if len(self._kernels) == 1 else ("", "")
        return About(
            kind="folder" if is_folder else "notebook", name=names[-1], path=path,
            files=self._count, saved_s=self._newest_s, kernel=kernel, kernel_title=title,
            left_out=self._left_out,
        )  # fmt: skip

    def _add_folder(self, tar: tarfile.TarFile, folder: int, below: str, depth: int) -> None:
        if depth == 0:
            raise NotShareable(f"{below} lies more than {MOST_DEPTH} folders deep")
        for name in sorted(os.listdir(folder)):
            if not _is_plain(name):
                self._left_out += name != _CHECKPOINTS
                continue
            try:
                mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
                if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                    self._left_out += 1
                    continue
                # What it is by now is seen again in what was opened.
                found = os.open(name, _FOLDER if stat.S_ISDIR(mode) else _FILE, dir_fd=folder)
            except FileNotFoundError:
                continue
            try:
                if stat.S_ISDIR(mode):
                    self._add_folder(tar, found, f"{below}{name}/", depth - 1)
                else:
                    self._add(tar, found, below + name)
            finally:
                os.close(found)

    def _add(
        self, tar: tarfile.TarFile, descriptor: int, name: str, *, alone: bool = False
    ) -> None:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise NotShareable(f"{name} is no regular file")
        self._count += 1
        if self._count > self._limits.most_files:
            raise NotShareable(
                f"it holds more than {self._limits.most_files} files, the most that one link may "
                "hold: share a smaller folder"
            )
        self._check_size(found.st_size, name)
        self._newest_s = max(self._newest_s, found.st_mtime)
        with open(descriptor, "rb", closefd=False) as file:
            if name.endswith(".ipynb"):
                self._look_into(file.read(found.st_size), name, alone=alone)
                file.seek(0)
            info = tarfile.TarInfo(name)
            info.size, info.mtime = found.st_size, int(found.st_mtime)
            info.mode = 0o700 if found.st_mode & 0o100 else 0o600
            tar.addfile(info, file)

    def _look_into(self, content: bytes, name: str, *, alone: bool) -> None:
        try:
            self._kernels.add(Notebook(content).kernel)
        except ValueError as error:
            if alone:
                raise NotShareable(
                    f"{name}: {error}. Open it in JupyterLab and save it, or share its folder"
                ) from error

    def _check_size(self, more: int, name: str) -> None:
        total = self.file.tell() + more
        if total > self._limits.most_bytes:
            raise NotShareable(
                f"with {name} it is {total / MIB:.1f} MiB or more; "
                f"{self._limits.most_bytes / MIB:.1f} MiB may be sent: share a smaller folder, "
                "revoke a link, or put large data where others can read them"
            )


def _is_plain(name: str) -> bool:
    try:
        return bool(plain_name(name))
    except ValueError:
        return False


@contextlib.contextmanager
def _opened_below(home: Path, names: tuple[str, ...]) -> Iterator[int]:
    """Open what lies there, one name after the other: no link is followed. Raises OSError."""
    folder = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names[:-1]:
            inner = os.open(name, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        found = os.open(names[-1], _FILE, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        yield found
    finally:
        os.close(found)


def _why(error: OSError) -> str:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return "it is, or lies behind, a link; what it leads to can be shared by its own name"
    if error.errno is None:  # tarfile's own
        return "it changed while it was read: try again"
    return os.strerror(error.errno)
