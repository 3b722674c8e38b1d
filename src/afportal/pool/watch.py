"""What a scheduler has to give, asked for at most so often, however many forms are shown."""

from __future__ import annotations

import asyncio
import logging
import math
import time

from afportal.backends import Backend, SchedulerError
from afportal.pool.forecast import Outlook

log = logging.getLogger(__name__)

# A form's answer may be as old as this.
FRESH_S = 30.0


class PoolWatch:
    """Keeps one backend's newest pool, with what is foretold of it.

    Args:
        fresh_s: how old an answer may be before the scheduler is asked again.
        patience_s: how long a form waits for the first answer.
    """

    def __init__(
        self, backend: Backend, *, fresh_s: float = FRESH_S, patience_s: float = 2.0
    ) -> None:
        self.backend = backend
        self.error = ""
        self._fresh_s = fresh_s
        self._patience_s = patience_s
        self._newest: Outlook | None = None
        self._asked_s = -fresh_s
        self._asking: asyncio.Task[None] | None = None

    @property
    def fresh(self) -> bool:
        """Whether what is free is known as it is now, give or take a query's pause."""
        return self._age_s() < 2 * self._fresh_s

    def _age_s(self) -> float:
        return math.inf if self._newest is None else time.time() - self._newest.pool.asked_s

    async def look(self) -> Outlook | None:
        """Return the newest outlook, None where the scheduler was not heard for twice as long.

        One that is older than `fresh_s` is returned at once while a new one is asked for, as
        long as it is not much older; nobody waits longer than `patience_s`.
        """
        if time.monotonic() - self._asked_s >= self._fresh_s and self._asking is None:
            self._asked_s = time.monotonic()
            self._asking = asyncio.create_task(self._ask(), name=f"pool of {self.backend.name}")
        if self._asking is not None and not self.fresh:
            await asyncio.wait([self._asking], timeout=self._patience_s)
        return self.newest

    @property
    def newest(self) -> Outlook | None:
        """What was heard last, None where that is too long ago to say what is free now."""
        return self._newest if self.fresh else None

    async def _ask(self) -> None:
        try:
            pool = await self.backend.pool()
            self._newest = await asyncio.to_thread(Outlook, pool)
            self.error = ""
        except SchedulerError as error:
            if not self.error:
                log.warning("%s: what it has to give is not known: %s", self.backend.name, error)
            self.error = str(error)
        except Exception as error:
            log.exception("%s: what it has to give is not known", self.backend.name)
            self.error = f"{type(error).__name__}; see the hub's log"
        finally:
            self._asking = None

    async def close(self) -> None:
        """End a query that is under way."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
