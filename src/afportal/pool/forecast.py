"""When a server would start: by what is free, who waits before it, and when what runs ends.

A simulation of conservative backfill: each waiting job, in its order, gets the earliest time at
which it delays none before it; a new one comes last. Ends are the latest that the schedulers
allow, so a time is 'at the latest' as long as nobody with more priority comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from afportal.pool import Ask, Pool, Room, Waiting

# Looks at a machine at a time; a few microseconds each, for which the hub's one thread waits.
# Where more would be needed nothing is foretold but what is free.
MOST_LOOKS = 60_000
# One whose time was over when the scheduler was asked ends any moment.
_OVERDUE_S = 60.0


@dataclass(frozen=True)
class Forecast:
    """When an ask would start.

    Args:
        standing: now, later (at `at_s`, unix seconds), full (nobody can say when), never (no
            machine could hold it), or unknown (the scheduler was not heard).
        ahead: jobs in the same queue that wait for room too.
        free: machines with room for it now.
        why: what stands in the way other than room.
    """

    standing: Literal["now", "later", "full", "never", "unknown"]
    at_s: float | None = None
    ahead: int = 0
    free: int = 0
    why: str = ""


UNKNOWN = Forecast("unknown")


class Outlook:
    """What is foretold of one pool; made once for each answer of the scheduler."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._now_s = pool.asked_s
        self._machines = [m for m in pool.machines if m.up]
        self._kept = any(machine.kept_for for machine in self._machines)
        self._known: dict[tuple[Any, ...], Forecast] = {}
        # Job that waits → when it starts, unix seconds.
        self._starts_s: dict[str, float] = {}
        names = {m.name: number for number, m in enumerate(self._machines)}
        soon_s = self._now_s + _OVERDUE_S
        ends_s = [None if r.ends_s is None else max(r.ends_s, soon_s) for r in pool.running]
        self._times_s = [self._now_s, *sorted({at_s for at_s in ends_s if at_s is not None})]
        queue = [w for w in pool.waiting if not w.blocked]
        # Each that waits may add a time.
        rows = len(self._times_s) + len(queue)
        self.told = len(self._machines) * rows * (1 + len(queue)) <= MOST_LOOKS
        if not self.told:
            self._times_s = [self._now_s]
        # Free room, by time and machine.
        self._free: list[list[Room]] = [
            [machine.free for machine in self._machines] for _ in self._times_s
        ]
        if self.told:
            for job, end_s in zip(pool.running, ends_s, strict=True):
                if job.machine in names and end_s is not None:
                    for row, when_s in zip(self._free, self._times_s, strict=True):
                        if when_s >= end_s:
                            row[names[job.machine]] = row[names[job.machine]] + job.room
            for job_waiting in sorted(queue, key=lambda w: w.priority, reverse=True):
                self._seat(job_waiting)

    def of(self, ask: Ask, person: str = "") -> Forecast:
        """Return when this would start if that person asked for it now."""
        # What many people ask for is looked up once.
        key = (
            ask.room.cores, ask.room.memory_mib, tuple(sorted(ask.room.gpus.items())),
            ask.runtime_min, ask.partition, ask.reserved, self._kept and person,
        )  # fmt: skip
        if key not in self._known:
            self._known[key] = self._find(ask, person)
        found = self._known[key]
        if found.standing != "never" and (why := self._limit(ask, person)):
            return replace(found, standing="full", at_s=None, why=why)
        return found

    def queued(self, job: str) -> Forecast | None:
        """Return when a job that waits for room would start; None for any other.

        Args:
            job: the scheduler's own id.
        """
        mine = next((w for w in self.pool.waiting if w.job == job and not w.blocked), None)
        if mine is None:
            return None
        ahead = sum(w.priority > mine.priority for w in self._rivals(mine.ask))
        at_s = self._starts_s.get(job)
        if at_s is None:
            return Forecast("full", ahead=ahead)
        return Forecast("now" if at_s <= self._now_s else "later", at_s, ahead)

    def _rivals(self, ask: Ask) -> list[Waiting]:
        """Return the jobs of the same queue that wait for room too."""
        return [
            w
            for w in self.pool.waiting
            if not w.blocked and (w.ask.partition, w.ask.reserved) == (ask.partition, ask.reserved)
        ]

    def _find(self, ask: Ask, person: str) -> Forecast:
        able = [n for n, machine in enumerate(self._machines) if machine.ever(ask)]
        ahead = len(self._rivals(ask))
        if not able:
            return Forecast("never", ahead=ahead)
        able = [n for n in able if self._machines[n].kept_for in ("", person)]
        needs = ask.needs
        free = sum(self._machines[n].free.holds(needs) for n in able)
        if not self.told:
            # Of a partition's quota nothing is known without the jobs.
            counted = not any(ask.partition in self._machines[n].whole.quota for n in able)
            if ahead or not free:
                return Forecast("full", ahead=ahead, free=free)
            return Forecast("now", self._now_s, free=free) if counted else UNKNOWN
        at = self._when(ask, able, 1)
        if at is None:
            return Forecast("full", ahead=ahead, free=free)
        place = at[0]
        if place == 0:
            return Forecast("now", self._now_s, ahead, free)
        return Forecast("later", self._times_s[place], ahead, free)

    def _limit(self, ask: Ask, person: str) -> str:
        """Say which limit of a person's own keeps a job waiting, whatever is free."""
        qos = self.pool.qos.get(ask.qos)
        if qos is None or not person:
            return ""
        mine = [r for r in self.pool.running if (r.person, r.qos) == (person, ask.qos)]
        jobs = len({r.job for r in mine})
        if qos.jobs_a_person is not None and jobs >= qos.jobs_a_person:
            return f"you run {jobs} jobs with QOS {qos.name}, which allows {qos.jobs_a_person}"
        held = sum(sum(r.room.gpus.values()) for r in mine)
        wanted = sum(ask.room.gpus.values())
        if wanted and qos.gpus_a_person is not None and held + wanted > qos.gpus_a_person:
            return f"you have {held} GPUs with QOS {qos.name}, which allows {qos.gpus_a_person}"
        return ""

    def _when(self, ask: Ask, able: Sequence[int], machines: int) -> tuple[int, list[int]] | None:
        """Return the earliest time at which so many machines hold it to its end, and which."""
        needs = ask.needs
        for at, begin_s in enumerate(self._times_s):
            end_s = begin_s + 60 * ask.runtime_min
            rows = [
                row
                for row, when_s in zip(self._free[at:], self._times_s[at:], strict=True)
                if when_s < end_s
            ]
            fit = [n for n in able if all(row[n].holds(needs) for row in rows)]
            if len(fit) >= machines:
                # As schedulers do, fill what is fullest first.
                fit.sort(key=lambda n: (rows[0][n].cores, rows[0][n].memory_mib))
                return at, fit[:machines]
        return None

    def _seat(self, waiting: Waiting) -> None:
        able = [n for n, machine in enumerate(self._machines) if machine.ever(waiting.ask)]
        found = self._when(waiting.ask, able, waiting.machines)
        if found is None:
            return
        at, chosen = found
        self._starts_s[waiting.job] = self._times_s[at]
        needs = waiting.ask.needs
        end_s = self._times_s[at] + 60 * waiting.ask.runtime_min
        self._split(end_s)
        for row, when_s in zip(self._free[at:], self._times_s[at:], strict=True):
            if when_s < end_s:
                for n in chosen:
                    row[n] = row[n] - needs

    def _split(self, at_s: float) -> None:
        """Have a row that begins at this time, so that what is taken until then ends there."""
        if at_s in self._times_s:
            return
        before = max(n for n, when_s in enumerate(self._times_s) if when_s < at_s)
        self._times_s.insert(before + 1, at_s)
        self._free.insert(before + 1, list(self._free[before]))
