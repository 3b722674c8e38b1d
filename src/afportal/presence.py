"""What a hub notices of a session between two answers of its scheduler."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from tornado.iostream import IOStream, StreamClosedError


class Presence:
    """The connection that one running session holds: its end is the first sign of the session's.

    Args:
        lost: called when the connection has ended, and not from here.
    """

    def __init__(self, lost: Callable[[], None]) -> None:
        self._lost = lost
        self._held: IOStream | None = None
        self._watching: set[asyncio.Task[None]] = set()

    @property
    def held(self) -> bool:
        """Whether the session has its connection open now."""
        return self._held is not None

    def hold(self, connection: IOStream) -> None:
        """Keep this connection, in place of the one before."""
        self.end()
        self._held = connection
        task = asyncio.get_running_loop().create_task(self._watch(connection))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    def end(self) -> None:
        """Close the connection; that is no sign of anything."""
        held, self._held = self._held, None
        if held is not None:
            held.close()

    async def _watch(self, connection: IOStream) -> None:
        with contextlib.suppress(StreamClosedError):
            await connection.read_bytes(1)  # nothing is said here: whatever comes ends it
        connection.close()
        if connection is self._held:
            self._held = None
            self._lost()
