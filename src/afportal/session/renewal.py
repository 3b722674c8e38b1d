"""Has the hub give the session's secrets anew before they end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from afportal.session import for_jobs
from afportal.session.private_folder import PrivateFolder

# A hub that is away, or refuses, is asked again; between two tries at most so long.
AGAIN_S = 5.0
AGAIN_MOST_S = 60.0

Ask = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]


class Renewal:
    """Renews one session's secrets as long as it lives.

    Args:
        folder: where they lie.
        in_s: when the hub wants to be asked, seconds from now; None for never.
        schedulers: whose jobs shall have the data token too.
        problems: what is missing from the start.
    """

    def __init__(
        self,
        folder: PrivateFolder,
        in_s: float | None,
        *,
        schedulers: Iterable[str] = (),
        problems: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = folder
        self.in_s = in_s
        self._schedulers = tuple(schedulers)
        self._wanted = asyncio.Event()
        self._asking = asyncio.Lock()
        self.renewed_s = time.time()
        not_yet = dict.fromkeys(map(for_jobs.problem, self._schedulers), for_jobs.NOT_YET)
        self._missing_at_start = dict(problems or {})
        self.problems = not_yet | self._missing_at_start

    async def run(self, ask: Ask, log: Any) -> None:
        """Renew when it is time, for ever."""
        pause_s = AGAIN_S
        try:
            async with self._asking:
                await self._hand_on(self._missing_at_start)
        except Exception as error:
            log.warning("the data token is not handed on to jobs before the next one: %s", error)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.in_s):
                    await self._wanted.wait()
            self._wanted.clear()
            try:
                await self.renew(ask)
                pause_s = AGAIN_S
            except Exception as error:
                log.warning("secrets not renewed, tried again in %g s: %s", pause_s, error)
                self.in_s = pause_s
                pause_s = min(pause_s * 2, AGAIN_MOST_S)

    async def renew(self, ask: Ask) -> None:
        """Renew now. Raises whatever `ask` does, and SessionError."""
        async with self._asking:
            given = await ask("secrets", {})
            self._folder.write(given["files"])
            self.in_s = given["renew_in_s"]
            # One that this renewal did not bring may have ended, and another session of the
            # person may have handed on a better one.
            await self._hand_on(given["problems"], new="data/token" in given["files"])
            self.renewed_s = time.time()

    async def _hand_on(self, problems: Mapping[str, str], *, new: bool = True) -> None:
        """Give the data token to the schedulers if it is new, and keep what is missing now."""
        refused = await for_jobs.hand_on(self._schedulers if new else ())
        if refused:
            self.in_s = min(self.in_s or AGAIN_MOST_S, AGAIN_MOST_S)
        self.problems = {**problems, **refused}
        self._folder.tell_problems(self.problems)
