"""What threatens this session, and when: its time, its memory, nobody's use, its scheduler.

The hub says when the scheduler will end it, what else that is about to do, and at which memory it
is stopped; what it uses it sees itself. A warning begins at the facility's marks and goes when
its cause has gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

# The clock of a machine may be set, and a suspended one sleeps: no wait is longer.
LOOK_EVERY_S = 30.0
# Memory that goes up and down at the mark is one warning, not many.
_CALM_RATIO = 0.9
# The hub repeats each minute that it will end an unused server.
_IDLE_HOLDS_S = 150.0
# What a scheduler may be about to do, as `afportal.backends.Deed` has it.
_DEEDS = ("drain", "maintenance", "preemption")


@dataclass(frozen=True)
class Warned:
    """One warning.

    Args:
        id: the same as long as it is the same one; a browser shows each once.
        kind: "time", "memory", "idle", or what its scheduler is about to do.
        since_s: when it began, unix seconds.
        ends_s: when the server is ended for it, unix seconds; None: nobody knows.
        used_mib, limit_mib: of memory.
        at_s: when the scheduler does that, unix seconds; None: nobody says.
        words: the operators' reason.
    """

    id: str
    kind: str
    since_s: float
    ends_s: float | None = None
    used_mib: int | None = None
    limit_mib: int | None = None
    at_s: float | None = None
    words: str = ""


@dataclass
class Limits:
    """The limits of one session.

    Args:
        about: what the hub told at the exchange (`afportal.back_channel`).
        changed: called when a warning begins or goes, or the end has moved.
        now: a clock, unix seconds.
    """

    about: Mapping[str, Any]
    changed: Callable[[], None] = lambda: None
    now: Callable[[], float] = time.time
    used_mib: int | None = None
    peak_mib: int = 0
    _time: dict[str, Any] = field(default_factory=dict)
    _warned: dict[str, Warned] = field(default_factory=dict)
    _idle_told_s: float = 0.0
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._time = dict(self.about.get("time") or {})

    @property
    def ends_s(self) -> float | None:
        """When the scheduler ends this session, unix seconds."""
        return self._time.get("ends_s")

    @property
    def memory_limit_mib(self) -> int | None:
        """Where it is stopped for its memory."""
        return self.about.get("memory_limit_mib")

    @property
    def warnings(self) -> list[dict[str, Any]]:
        """All that threaten it now, as JSON."""
        return [asdict(warned) for warned in self._warned.values()]

    def as_dict(self) -> dict[str, Any]:
        """As JSON: time, memory, warnings."""
        memory = {
            "used_mib": self.used_mib,
            "peak_mib": self.peak_mib or None,
            "limit_mib": self.memory_limit_mib,
        }
        time_ = self._time
        if any(warned.ends_s for kind, warned in self._warned.items() if kind in _DEEDS):
            time_ = {**time_, "longest_s": None}  # nobody is given more of a machine that goes
        return {"time": time_, "memory": memory, "warnings": self.warnings}

    # Time

    def time_is(self, told: Mapping[str, Any]) -> None:
        """Take the hub's word for when the time is over."""
        if dict(told) != self._time:
            self._time = dict(told)
            self._warn_of_time()
            self._moved.set()
            self.changed()

    def ends_at(self, ends_s: float) -> None:
        """Take its word in passing: the rest of what it knows is asked for when it is wanted."""
        self.time_is({**self._time, "ends_s": ends_s})

    async def watch_time(
        self, ask: Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]], log: Any
    ) -> None:
        """Warn at each mark, for ever; the hub is asked first whether the time is still so.

        Args:
            ask: sends word to the hub with the server's own token.
        """
        asked: str | None = None if self.ends_s is None else ""
        while True:
            due = self._due()
            if due != asked and (due or asked is None):
                asked = due
                try:
                    self.time_is(await ask("limits", {}))
                except Exception as error:  # what it said before holds
                    log.warning("the hub does not say when the time is over: %s", error)
            if self._warn_of_time() | self._forget_idle():
                self.changed()
            coming_s = [at_s - self.now() for at_s, _ in self._marks() if at_s > self.now()]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min([LOOK_EVERY_S, *coming_s])):
                    await self._moved.wait()
            self._moved.clear()

    def _marks(self) -> list[tuple[float, float]]:
        """Return when it warns, unix seconds, and how many minutes before the end that is."""
        if self.ends_s is None:
            return []
        return [(self.ends_s - 60 * m, m) for m in self.about.get("warn_time_min") or ()]

    def _due(self) -> str:
        """Return the name of the warning that holds now; empty if none does."""
        passed = [minutes for at_s, minutes in self._marks() if self.now() >= at_s]
        return f"time {self.ends_s:.0f} {min(passed):g}" if passed else ""

    def _warn_of_time(self) -> bool:
        """Begin or end the warning; returns whether that changed anything."""
        due, known = self._due(), self._warned.get("time")
        if due == (known.id if known is not None else ""):
            return False
        if due:
            self._warned["time"] = Warned(due, "time", self.now(), ends_s=self.ends_s)
        else:
            del self._warned["time"]
        return True

    # What the scheduler is about to do

    def announced(self, told: Iterable[Mapping[str, Any]]) -> None:
        """Take the hub's word for it: all that there is, each time."""
        before = {kind: self._warned.pop(kind) for kind in _DEEDS if kind in self._warned}
        for one in sorted(told, key=lambda one: one["at_s"] or math.inf, reverse=True):
            kind, at_s, words = one["deed"], one["at_s"], str(one["words"])
            if kind in _DEEDS:  # of several alike the first one counts
                name = f"{kind} {at_s or 0:.0f} {words}"
                known = before.get(kind)
                self._warned[kind] = (
                    known
                    if known is not None and known.id == name
                    else Warned(
                        name, kind, self.now(), at_s if one["ends"] else None, at_s=at_s,
                        words=words,
                    )
                )  # fmt: skip
        if before != {kind: self._warned[kind] for kind in _DEEDS if kind in self._warned}:
            self.changed()

    # Memory

    def memory_is(self, used_mib: int) -> None:
        """Take how much is in use now."""
        self.used_mib, self.peak_mib = used_mib, max(self.peak_mib, used_mib)
        limit_mib = self.memory_limit_mib
        if not limit_mib:
            return
        mark_mib = limit_mib * self.about.get("warn_memory_ratio", 0.9)
        known = self._warned.get("memory")
        if known is None and used_mib >= mark_mib:
            now_s = self.now()
            self._warned["memory"] = Warned(
                f"memory {now_s:.0f}", "memory", now_s, used_mib=used_mib, limit_mib=limit_mib
            )
            self.changed()
        elif known is not None and used_mib < mark_mib * _CALM_RATIO:
            del self._warned["memory"]
            self.changed()

    # Use

    def unused_until(self, ends_s: float) -> None:
        """Take the hub's word that it ends this server then, as nobody uses it."""
        self._idle_told_s = self.now()
        name = f"idle {ends_s:.0f}"
        if "idle" not in self._warned or self._warned["idle"].id != name:
            self._warned["idle"] = Warned(name, "idle", self.now(), ends_s=ends_s)
            self.changed()

    def is_used(self) -> None:
        """Take back that nobody uses it."""
        if self._warned.pop("idle", None) is not None:
            self.changed()

    def _forget_idle(self) -> bool:
        """Drop a warning that the hub does not repeat."""
        old = self.now() - self._idle_told_s > _IDLE_HOLDS_S
        return old and self._warned.pop("idle", None) is not None
