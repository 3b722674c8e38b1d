"""A file that is read again when it has changed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

log = logging.getLogger("afportal.front")
T = TypeVar("T")


class Watched(Generic[T]):
    """The content of a file as it is now; while that is wrong, as it was before.

    Args:
        read: makes the content from the path, ValueError or OSError if it cannot.
    """

    def __init__(self, path: str | Path, read: Callable[[str | Path], T]) -> None:
        self._path = Path(path)
        self._read = read
        self._stamp = self._now()
        self._content = read(self._path)

    def _now(self) -> tuple[int, int, int]:
        stat = self._path.stat()
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def get(self) -> T:
        """Return the content."""
        try:
            stamp = self._now()
            if stamp != self._stamp:
                self._stamp = stamp
                self._content = self._read(self._path)
        except (OSError, ValueError) as error:
            log.error("what was there before stays: %s", error)
        return self._content
