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
        self.notice = ""
        self._began_here = stamps is None
        self._events: list[dict[str, Any]] = []
        self._more = asyncio.Event()

    def reach(self, phase: str, at_s: float | None = None) -> None:
        """Stamp a phase, the first time, and tell of it."""
        if phase not in self.stamps.as_dict():
            progress, message = _PROGRESS[phase]
            stamp = self.stamps.stamp(phase, at_s)
            self.tell(message, progress, phase=phase, stamp=stamp)

    @property
    def came_to_nothing(self) -> bool:
        """Whether the spawn was asked of this process, and its server has not answered."""
        stamps = self.stamps.as_dict()
        return self._began_here and "accepted" in stamps and "http" not in stamps

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


class StampedLifeCycle:
    """Stamps a spawn as the hub flips the life-cycle flags of its spawner.

    The flags are those of JupyterHub 6.1's Spawner: nothing else in the hub says when it
    took a request, its own probe answered, or its proxy knew the way.
    """

    story: SpawnStory
    backend_name: str

    def story_begins(self) -> None:
        """Called when a new story has taken the old one's place."""

    @property
    def _spawn_pending(self) -> bool:
        return bool(self.__dict__.get("_af_spawn_pending", False))

    @_spawn_pending.setter
    def _spawn_pending(self, value: bool) -> None:
        if value and not self._spawn_pending:
            self._begin_story()
        self.__dict__["_af_spawn_pending"] = value

    @property
    def _start_pending(self) -> bool:
        return bool(self.__dict__.get("_af_start_pending", False))

    @_start_pending.setter
    def _start_pending(self, value: bool) -> None:
        # A spawner that took a failed one's place missed the first flag.
        if value and not self._start_pending and not self._spawn_pending:
            self._begin_story()
        self.__dict__["_af_start_pending"] = value

    def _begin_story(self) -> None:
        self.story = SpawnStory()
        self.story_begins()
        self.story.reach("accepted")

    @property
    def _proxy_pending(self) -> bool:
        return bool(self.__dict__.get("_af_proxy_pending", False))

    @_proxy_pending.setter
    def _proxy_pending(self, value: bool) -> None:
        if value != self._proxy_pending:
            self.story.reach("http" if value else "routed")
            if not value:
                self.story.stamps.observe(self.backend_name)
        self.__dict__["_af_proxy_pending"] = value

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield every event of the spawn so far, then each new one."""
        async for event in self.story.events():
            yield event
