"""What a hub notices of a session between two answers of its scheduler."""

from __future__ import annotations

import functools
from collections.abc import Callable

from tornado.iostream import IOStream


class Presence:
    """The connection that one running session holds: its end is the first sign of the session's.

    Args:
        lost: called when the connection has ended, and not from here.
    """

    def __init__(self, lost: Callable[[], None]) -> None:
        self._lost = lost
        self._held: IOStream | None = None

    @property
    def held(self) -> bool:
        """Whether the session has its connection open now."""
        return self._held is not None

    def hold(self, connection: IOStream) -> None:
        """Keep this connection, in place of the one before."""
        self.end()
        self._held = connection
        connection.set_close_callback(functools.partial(self._closed, connection))

    def end(self) -> None:
        """Close the connection; that is no sign of anything."""
        held, self._held = self._held, None
        if held is not None:
            held.close()

    def _closed(self, connection: IOStream) -> None:
        if connection is self._held:
            self._held = None
            self._lost()
