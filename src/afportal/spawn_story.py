"""What happened to one spawn, as the progress page, scripts and metrics are told it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from afportal.phases import Stamps

_PROGRESS = {
    "accepted": (5, "Request accepted"),
    "submitted": (15, "Job submitted"),
    "matched": (35, "A machine was found"),
    "executing": (55, "The job runs; the server is starting"),
    "hello": (85, "The server listens"),
    "http": (95, "The server answers"),
    "routed": (99, "The way is open"),
}


class SpawnStory:
    """Stamps and messages of one spawn, kept until the next one begins.

    Args:
        stamps: phase → unix seconds, of a spawn that another hub process saw.
    """

    def __init__(self, stamps: dict[str, float] | None = None) -> None:
        self.stamps = Stamps(stamps)
        self.reason = ""
        self._events: list[dict[str, Any]] = []
        self._more = asyncio.Event()

    def reach(self, phase: str, at_s: float | None = None) -> None:
        """Stamp a phase, the first time, and tell of it."""
        if phase not in self.stamps.as_dict():
            progress, message = _PROGRESS[phase]
            stamp = self.stamps.stamp(phase, at_s)
            self.tell(message, progress, phase=phase, stamp=stamp)

    def tell(self, message: str, progress: int, **more: Any) -> None:
        """Add an event for whoever follows the spawn."""
        self._events.append({"progress": progress, "message": message, **more})
        self._more.set()
        self._more = asyncio.Event()

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Yield every event so far, then each new one; the reader ends it."""
        sent = 0
        while True:
            more = self._more
            while sent < len(self._events):
                yield dict(self._events[sent])
                sent += 1
            await more.wait()
