"""The connection by whose end the hub learns at once that this session is over.

What is said in it is when this server was last used, and the most memory that it had.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from afportal.session import hub_tls

ANSWER_TIMEOUT_S = 30.0
# A hub ends a connection in which more is said than once in five seconds.
SAID_EVERY_S = 10.0
# A peak is told when it is so much higher than the last that was.
_HIGHER = 1.05
# A hub that starts again is not called by all its sessions in the same second.
AGAIN_S = (5.0, 60.0)
# A hub whose machine is gone is noticed after three minutes.
_KEEPALIVE = {"TCP_KEEPIDLE": 120, "TCP_KEEPINTVL": 20, "TCP_KEEPCNT": 3}


class Line:
    """What can be said in the connection that is held, while it is."""

    def __init__(self) -> None:
        self._writer: asyncio.StreamWriter | None = None
        self._used_s = 0.0
        self._peak_mib = self._told_mib = 0
        self._said_s = -math.inf
        self._later: asyncio.TimerHandle | None = None

    @property
    def _heard(self) -> bool:
        return self._writer is not None and not self._writer.is_closing()

    def say_used(self, at_s: float) -> bool:
        """Tell when this server was last used, unix seconds; False while nobody hears it."""
        self._used_s = max(self._used_s, at_s)
        self._say()
        return self._heard

    def say_memory(self, used_mib: int) -> None:
        """Tell how much memory is in use, MiB, where that is clearly more than it ever was."""
        self._peak_mib = max(self._peak_mib, used_mib)
        if self._peak_mib > self._told_mib * _HIGHER:
            self._say()

    @contextlib.contextmanager
    def open(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        """Let this connection be spoken in as long as the context is open."""
        self._writer, self._said_s = writer, -math.inf
        if self._peak_mib:  # the hub may be another process by now
            self._say()
        try:
            yield
        finally:
            self._writer = None

    def _say(self) -> None:
        """Say all that there is, now or when it is time again."""
        if not self._heard or self._later is not None:
            return
        wait_s = self._said_s + SAID_EVERY_S - time.monotonic()
        if wait_s > 0:
            self._later = asyncio.get_running_loop().call_later(wait_s, self._say_now)
        else:
            self._say_now()

    def _say_now(self) -> None:
        self._later = None
        if self._writer is not None and self._heard:
            self._said_s, self._told_mib = time.monotonic(), self._peak_mib
            self._writer.write(b"%.3f %d\n" % (self._used_s, self._peak_mib))


def _nothing(_words: list[str]) -> None:
    pass


async def keep(
    api_url: str,
    token: str,
    log: Any,
    line: Line,
    heard: Callable[[list[str]], None] = _nothing,
) -> None:
    """Hold a connection to the hub open for ever; open it again when it has ended.

    Args:
        api_url: the hub's API.
        token: the server's own.
        line: can be spoken in while it is held.
        heard: called with the words of each line that the hub says.
    """
    while True:
        try:
            await _hold(api_url, token, log, line, heard)
        except (OSError, TimeoutError, ValueError) as error:
            log.debug("no connection is held with the hub: %s", error)
        await asyncio.sleep(random.uniform(*AGAIN_S))  # noqa: S311 - nothing secret


async def _hold(
    api_url: str, token: str, log: Any, line: Line, heard: Callable[[list[str]], None]
) -> None:
    url = urlsplit(api_url)
    secure = url.scheme == "https"
    async with asyncio.timeout(ANSWER_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(
            url.hostname,
            url.port or (443 if secure else 80),
            ssl=hub_tls.context() if secure else None,
        )
    try:
        _notice_silence(writer.get_extra_info("socket"))
        headers = {
            "Host": url.netloc,
            "Authorization": f"token {token}",
            "Content-Type": "application/json",
            "Content-Length": "2",
            "Connection": "close",
        }
        writer.write(_head(f"POST {url.path}/af/presence HTTP/1.1", headers) + b"{}")
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            status = (await reader.readline()).decode("latin-1").split()
            while (await reader.readline()).strip():  # headers
                pass
        if status[1:2] != ["200"]:
            raise ValueError(f"it answers {' '.join(status) or 'nothing'}")
        with line.open(writer):
            while said := await reader.readline():
                try:
                    heard(said.decode("latin-1").split())
                except Exception:  # the connection tells more than one word of the hub's
                    log.exception("the hub said %r", said)
    finally:
        writer.close()


def _head(line: str, headers: Mapping[str, str]) -> bytes:
    return "\r\n".join(
        [line, *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    ).encode("latin-1")


def _notice_silence(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE.items():
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
