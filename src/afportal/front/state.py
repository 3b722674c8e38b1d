"""What is said and changed while the facility runs: announcement, drained instances."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

log = logging.getLogger("afportal.front")
LONGEST_ANNOUNCEMENT = 2000


class State:
    """Two small files in one folder, read at each request."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def announcement(self) -> str:
        """Return the announcement, empty if there is none."""
        try:
            return (self._folder / "announcement.txt").read_text().strip()
        except FileNotFoundError:
            return ""

    def announce(self, text: str) -> None:
        """Set the announcement; an empty one takes it away.

        Raises:
            ValueError: it is too long to be one.
        """
        if len(text) > LONGEST_ANNOUNCEMENT:
            raise ValueError(f"an announcement has at most {LONGEST_ANNOUNCEMENT} characters")
        self._write("announcement.txt", text.strip() + "\n" if text.strip() else "")

    def drained(self) -> frozenset[str]:
        """Return the instances that take nobody new."""
        try:
            names: Any = json.loads((self._folder / "drained.json").read_text())
        except FileNotFoundError:
            return frozenset()
        except ValueError as error:
            log.error("drained.json: %s; no instance counts as drained", error)
            return frozenset()
        return frozenset(str(name) for name in names) if isinstance(names, list) else frozenset()

    def drain(self, instance: str) -> None:
        """Have an instance take nobody new."""
        self._write("drained.json", json.dumps(sorted(self.drained() | {instance})) + "\n")

    def undrain(self, instance: str) -> None:
        """Have an instance take people again."""
        self._write("drained.json", json.dumps(sorted(self.drained() - {instance})) + "\n")

    def _write(self, name: str, text: str) -> None:
        new = self._folder / f".{name}"
        new.write_text(text)
        new.replace(self._folder / name)
