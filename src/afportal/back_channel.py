"""What a running session is told of its own limits, and asks about them.

A session cannot see when its scheduler will end it: the hub tells it at its exchange, whenever
the scheduler says something else, and when it asks. More time is given within the class's
ceiling, where the scheduler lets the hub.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jupyterhub.utils import url_escape_path

from afportal.backends import Announced, Backend, JobStatus, Lengthens, Standing

if TYPE_CHECKING:
    from afportal.offers import Grant
    from afportal.portal import Portal
    from afportal.presence import Presence
    from afportal.queue_monitor import QueueMonitor


# What a scheduler said of one job is its answer for so long, however often its session asks.
ASKED_EVERY_S = 5.0
_LIVES = (Standing.RUNNING, Standing.SUSPENDED)


class NoMoreTime(ValueError):
    """The server cannot run longer; the message names the request, the limit and the cure."""


@dataclass(frozen=True)
class TimeLimit:
    """When a server's time is over, and who can change that.

    Args:
        ends_s: unix seconds; None: it has no limit, or none is known yet.
        longest_s: until when its owner may have it run, if that is later; None: no longer.
        words: why no longer, and what to do; empty where there is no limit.
    """

    ends_s: float | None = None
    longest_s: float | None = None
    words: str = ""


class WithBackChannel:
    """What of a spawner its running session is told."""

    portal: Portal
    presence: Presence
    backend_name: str
    job_id: str
    node: str
    memory_limit_mib: int
    log: Any
    user: Any
    name: str
    hub: Any
    _log_name: str
    # What its class allows in all, minutes; 0: not known.
    longest_min: int
    _asked: tuple[str, float, JobStatus | None] = ("", 0.0, None)
    _asking: asyncio.Lock | None = None
    # What the session was told in the connection that it holds; None: nothing yet.
    _announced: tuple[Announced, ...] | None = None

    @property
    def backend(self) -> Backend:
        raise NotImplementedError

    @property
    def monitor(self) -> QueueMonitor:
        raise NotImplementedError

    def about_session(self, grant: Grant | None, status: JobStatus | None) -> dict[str, Any]:
        """Return what the session is told at its exchange; no secret in it.

        Args:
            status: what its scheduler said of the job just now.
        """
        warnings = self.portal.settings.warnings
        server = [url_escape_path(self.name)] if self.name else []
        path = "/".join(["af/continue", self.user.escaped_name, *server])
        return {
            "backend": self.backend_name,
            "backend_title": self.backend.title,
            "job": self.job_id,
            "node": self.node,
            "class": grant.class_.title if grant is not None else "",
            "environment": grant.environment.title if grant is not None else "",
            "cores": grant.cores if grant is not None else None,
            "memory_limit_mib": self.memory_limit_mib or None,
            "time": asdict(self._limit(status)),
            "warn_time_min": list(warnings.time_min),
            "warn_memory_ratio": warnings.memory_ratio,
            "continue_path": f"{self.hub.base_url}{path}",
        }

    async def time_limit(self) -> TimeLimit:
        """Ask the scheduler when this job ends. Raises `SchedulerError`."""
        async with self._one_question():
            return self._limit(await self._status())

    def _one_question(self) -> asyncio.Lock:
        """A session asks its scheduler one thing at a time."""
        if self._asking is None:
            self._asking = asyncio.Lock()
        return self._asking

    async def _status(self, *, anew: bool = False) -> JobStatus | None:
        job_id, asked_s, known = self._asked
        if not anew and job_id == self.job_id and time.monotonic() - asked_s < ASKED_EVERY_S:
            return known
        status = await self.backend.status(self.job_id)
        if status is not None:
            self.monitor.learn(status)
        self._asked = (self.job_id, time.monotonic(), status)
        return status

    def _limit(self, status: JobStatus | None) -> TimeLimit:
        ends_s = _end_of(status)
        if status is None or ends_s is None or status.matched_s is None:
            return TimeLimit()
        if ends_s != status.ends_s:
            return TimeLimit(
                ends_s,
                words=f"{self.backend.title} takes its machine back then, whatever time is left.",
            )
        if not self.longest_min:  # an older hub started it
            return TimeLimit(status.ends_s)
        if not isinstance(self.backend, Lengthens):
            contact = self.portal.settings.contact
            return TimeLimit(
                status.ends_s,
                words=f"Only an operator of {self.backend.title} can give a running job more time: "
                f"ask {contact or 'them'}, and name job {self.job_id}.",
            )
        longest_s = status.matched_s + 60 * self.longest_min
        if longest_s > status.ends_s:
            return TimeLimit(status.ends_s, longest_s)
        return TimeLimit(
            status.ends_s,
            words=f"It has all the time that its class allows, {self.longest_min} minutes.",
        )

    async def more_time(self, minutes: int) -> TimeLimit:
        """Have the job run so many minutes longer.

        Raises:
            NoMoreTime: its class does not allow that, or its scheduler does not let the hub.
            SchedulerError: the scheduler does not answer.
        """
        async with self._one_question():
            return await self._lengthen(minutes)

    async def _lengthen(self, minutes: int) -> TimeLimit:
        status = await self._status()
        limit = self._limit(status)
        if status is None or status.matched_s is None or limit.ends_s is None:
            raise NoMoreTime("this server has no time limit that is known")
        backend = self.backend
        if limit.longest_s is None or not isinstance(backend, Lengthens):
            why = limit.words or "An older hub started this server: its ceiling is not known."
            raise NoMoreTime(f"{minutes} minutes more asked. {why}")
        if limit.ends_s + 60 * minutes > limit.longest_s + 1:
            left_min = int((limit.longest_s - limit.ends_s) // 60)
            raise NoMoreTime(
                f"{minutes} minutes more asked; its class allows {left_min} more, "
                f"{self.longest_min} in all"
            )
        runtime_min = round((limit.ends_s - status.matched_s) / 60) + minutes
        await backend.lengthen(self.job_id, runtime_min)
        self.log.info("%s: may run for %d minutes now", self._log_name, runtime_min)
        return self._limit(await self._status(anew=True))

    def tell_end(self, before: JobStatus | None, now: JobStatus) -> None:
        """Tell the session when its scheduler has another word for its end."""
        ends_s = _end_of(now)
        if before is not None and ends_s is not None and _end_of(before) != ends_s:
            self.presence.say(f"ends {ends_s:.0f}")

    def tell_announced(self, now: JobStatus | None, *, anew: bool = False) -> None:
        """Tell the session what its scheduler is about to do, where that is news to it.

        Args:
            anew: it holds another connection, and may have missed something.
        """
        if anew:
            self._announced = None
        if now is None or now.standing not in _LIVES or not self.presence.held:
            return
        if now.announced != self._announced:
            self._announced = now.announced
            said = json.dumps([asdict(one) for one in now.announced])
            self.presence.say(f"announced {quote(said)}")


def _end_of(status: JobStatus | None) -> float | None:
    """When the scheduler ends a job, for its time or because it takes its machine back."""
    if status is None:
        return None
    return min((s for s in (status.ends_s, status.taken_s) if s is not None), default=None)
