"""What a scheduler has announced of its machines, asked for at most so often.

One answer is for all sessions. It comes beside the bulk query and never holds that up: a
scheduler that does not tell has announced nothing new.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping

from afportal.backends import Announced, SchedulerError

log = logging.getLogger(__name__)

# The calm rhythm of the bulk query is 30 s: each of its rounds asks once.
EVERY_S = 25.0
# Where an answer takes longer, it counts from the next bulk query on.
PATIENCE_S = 1.0
# A time that is reckoned from two clocks of whole seconds moves a little.
_SAME_S = 10.0

Told = Mapping[str, tuple[Announced, ...]]


class Announcements:
    """Keeps the newest answer of one scheduler: machine, slot or node → what is announced of it.

    Args:
        name: of the backend.
        ask: asks the scheduler; raises `SchedulerError`.
    """

    def __init__(self, name: str, ask: Callable[[], Awaitable[Told]]) -> None:
        self._name = name
        self._ask = ask
        self.newest: Told = {}
        self._asked_s = -math.inf
        self._asking: asyncio.Task[None] | None = None
        self._error = ""

    async def look(self) -> Told:
        """Return the newest answer; ask anew where it is old, and wait a moment for that."""
        if self._asking is None and time.monotonic() - self._asked_s >= EVERY_S:
            self._asked_s = time.monotonic()
            self._asking = asyncio.create_task(self._take(), name=f"announced by {self._name}")
        if self._asking is not None:
            await asyncio.wait([self._asking], timeout=PATIENCE_S)
        return self.newest

    async def _take(self) -> None:
        try:
            told = await self._ask()
            self.newest = {
                machine: tuple(_steady(one, self.newest.get(machine, ())) for one in announced)
                for machine, announced in told.items()
            }
            self._error = ""
        except SchedulerError as error:
            if not self._error:
                log.warning("%s: what it is about to do is not known: %s", self._name, error)
            self._error = str(error)
        except Exception:
            log.exception("%s: what it is about to do is not known", self._name)
        finally:
            self._asking = None


def _steady(now: Announced, before: tuple[Announced, ...]) -> Announced:
    """Return what was told before, if that is the same but for the clocks."""
    for known in before:
        moved = (known.at_s or 0.0) - (now.at_s or 0.0)
        if (known.deed, known.words, known.ends) == (now.deed, now.words, now.ends) and (
            (known.at_s is None) is (now.at_s is None) and abs(moved) < _SAME_S
        ):
            return known
    return now
