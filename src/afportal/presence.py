"""What a hub notices of a session between two answers of its scheduler."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable

from tornado.iostream import IOStream, StreamClosedError, UnsatisfiableReadError

# A session speaks when its server was used, each five minutes at most (JupyterHub's
# `hub_activity_interval`), and when it has more memory than ever, each ten seconds at most.
# One that never stops speaking is none of ours.
LEAST_PAUSE_S = 5.0
EARLY_LINES = 20
_LONGEST_LINE = 64
_MOST_MIB = 1 << 30


class Presence:
    """The connection that one running session holds: its end is the first sign of the session's.

    All that is said in it is when the server was last used, in unix seconds, and the most memory
    that it had, MiB, a line now and then: a request each time would cost the hub hundreds of
    times as much. The hub tells it when it will be ended because nobody uses it ("idle", unix
    seconds), which asks at the same time when it was last used.

    Args:
        lost: called when the connection has ended, and not from here.
    """

    def __init__(self, lost: Callable[[], None]) -> None:
        self._lost = lost
        self._held: IOStream | None = None
        # When a line came last, unix seconds.
        self.heard_s = 0.0
        self._watching: set[asyncio.Task[None]] = set()

    @property
    def held(self) -> bool:
        """Whether the session has its connection open now."""
        return self._held is not None

    def hold(
        self,
        connection: IOStream,
        used: Callable[[float], None],
        peak: Callable[[int], None],
    ) -> None:
        """Keep this connection, in place of the one before.

        Args:
            used: called with when the server was last used, unix seconds, never later than now.
            peak: called with the most memory that it had, MiB.
        """
        self.end()
        self._held = connection
        task = asyncio.get_running_loop().create_task(self._watch(connection, used, peak))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    def say(self, words: str) -> None:
        """Tell the session something in a line, if it is there."""
        if self._held is not None:
            with contextlib.suppress(StreamClosedError):
                written = self._held.write(words.encode() + b"\n")
                # A connection that ends meanwhile is noticed where it is read.
                written.add_done_callback(lambda done: done.exception())

    def end(self) -> None:
        """Close the connection; that is no sign of anything."""
        held, self._held = self._held, None
        if held is not None:
            held.close()

    async def _watch(
        self,
        connection: IOStream,
        used: Callable[[float], None],
        peak: Callable[[int], None],
    ) -> None:
        # Whatever else is said ends it.
        with contextlib.suppress(StreamClosedError, UnsatisfiableReadError, ValueError):
            heard_s, early = -math.inf, 0
            while early < EARLY_LINES:
                line = await connection.read_until(b"\n", max_bytes=_LONGEST_LINE)
                at, _, most = line.strip().partition(b" ")
                at_s, most_mib = float(at), int(most or 0)
                if not (0 <= at_s < math.inf and 0 <= most_mib <= _MOST_MIB):
                    break
                now_s = time.monotonic()
                if now_s - heard_s < LEAST_PAUSE_S:
                    early += 1  # as after a stall of this hub, in which several lines came
                    continue
                heard_s, early = now_s, 0
                self.heard_s = time.time()
                if at_s:
                    used(min(at_s, time.time()))
                if most_mib:
                    peak(most_mib)
        connection.close()
        if connection is self._held:
            self._held = None
            self._lost()
