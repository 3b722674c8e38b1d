"""Snapshots as files: what is being received, and what is kept."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

# What a hub that was killed left half received, or half taken away.
LEFT_BEHIND_S = 3600.0


class TooLarge(ValueError):
    """More came than is taken."""


@dataclass(frozen=True)
class Received:
    """A whole snapshot that belongs to no link yet.

    Args:
        size: bytes.
        sha256: of its content, in hex.
    """

    path: Path
    size: int
    sha256: str


class Receiving:
    """A snapshot on its way in; its file is gone if `done` is not reached."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._path, self._most = path, most_bytes
        self._size = 0
        self._hash = hashlib.sha256()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        self._file: BinaryIO = os.fdopen(descriptor, "wb")

    def write(self, chunk: bytes) -> None:
        """Take what came. Raises `TooLarge`, and OSError where the disk is full."""
        self._size += len(chunk)
        if self._size > self._most:
            raise TooLarge(f"more than {self._most} bytes were sent")
        self._hash.update(chunk)
        self._file.write(chunk)

    def done(self) -> Received:
        """Return it when all has come. Raises OSError."""
        self._file.close()
        return Received(self._path, self._size, self._hash.hexdigest())

    def give_up(self) -> None:
        """Forget it."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)


class Contents:
    """The files of all links, in one folder that no one else can read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def receive(self, most_bytes: int) -> Receiving:
        """Begin to take a snapshot of at most so many bytes. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Receiving(self._folder / f"incoming-{secrets.token_hex(8)}", most_bytes)

    def keep(self, share: str, version: int, received: Received) -> None:
        """Make what was received a version of a link. Raises OSError."""
        received.path.replace(self._path(share, version))

    def open(self, share: str, version: int) -> BinaryIO:
        """Open a version. Raises FileNotFoundError: it was deleted."""
        return self._path(share, version).open("rb")

    def delete(self, share: str, version: int) -> None:
        """Delete a version; who reads it just now reads it to its end."""
        self._path(share, version).unlink(missing_ok=True)

    def sweep(self, kept: Collection[tuple[str, int]]) -> int:
        """Delete what belongs to none of these (link, version); returns how many.

        What is young stays: its link may be written just now.
        """
        names = {self._path(share, version).name for share, version in kept}
        swept = 0
        for path in self._files():
            with contextlib.suppress(FileNotFoundError):
                if path.name not in names and _age_s(path) > LEFT_BEHIND_S:
                    path.unlink()
                    swept += 1
        return swept

    def _files(self) -> Iterator[Path]:
        if self._folder.is_dir():
            yield from (path for path in self._folder.iterdir() if path.suffix in ("", ".tar"))

    def _path(self, share: str, version: int) -> Path:
        return self._folder / f"{share}-{version}.tar"


def _age_s(path: Path) -> float:
    # When it was renamed, not when it was written.
    return time.time() - path.stat().st_ctime
