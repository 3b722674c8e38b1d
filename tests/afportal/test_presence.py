"""The connection that a session holds with its hub, from both ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from tornado import httpserver, netutil, web
from tornado.iostream import IOStream

from afportal.presence import Presence
from afportal.session import presence

LIMIT_S = 10
LOG = logging.getLogger(__name__)


class WatchedLine(presence.Line):
    """Tells when it can be spoken in."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = asyncio.Event()

    @contextlib.contextmanager
    def open(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        with super().open(writer):
            self.opened.set()
            yield


class Hub:
    """Answers as the hub does, and counts what it loses."""

    def __init__(self, status: int = 200) -> None:
        self.lost = 0
        self.used: list[float] = []
        self.peaks: list[int] = []
        self.line = WatchedLine()
        self.gone = asyncio.Event()
        self.held = asyncio.Semaphore(0)
        self.tokens: list[str] = []
        self.presence = Presence(self._lose)
        self.changed = asyncio.Event()
        hub = self

        class Handler(web.RequestHandler):
            async def post(self) -> None:
                hub.tokens.append(self.request.headers["Authorization"])
                if status != 200:
                    hub.held.release()
                    raise web.HTTPError(status)
                connection = self.detach()
                hub.presence.hold(connection, hub.use, hub.peaks.append)
                await connection.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
                hub.held.release()

        sockets = netutil.bind_sockets(0, "127.0.0.1", family=socket.AF_INET)
        self.server = httpserver.HTTPServer(web.Application([("/hub/api/af/presence", Handler)]))
        self.server.add_sockets(sockets)
        self.url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}/hub/api"

    def use(self, at_s: float) -> None:
        self.used.append(at_s)
        self.changed.set()

    def _lose(self) -> None:
        self.lost += 1
        self.gone.set()
        self.changed.set()


def run(scenario: Callable[[], object]) -> None:
    async def main() -> None:
        async with asyncio.timeout(LIMIT_S):
            await scenario()  # type: ignore[misc]

    asyncio.run(main())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "AGAIN_S", (0.01, 0.02))


def test_a_session_that_ends_is_missed() -> None:
    """Its end is noticed, once; that it lives is not mistaken for one."""

    async def scenario() -> None:
        hub = Hub()
        session = asyncio.create_task(presence.keep(hub.url, "secret", LOG, hub.line))
        await hub.held.acquire()
        assert hub.tokens == ["token secret"]
        assert hub.lost == 0
        session.cancel()
        await hub.changed.wait()
        assert hub.lost == 1

    run(scenario)


def test_a_hub_that_ends_it_is_called_again() -> None:
    """A hub that starts anew finds its sessions again; what it closes itself is no sign."""

    async def scenario() -> None:
        hub = Hub()
        session = asyncio.create_task(presence.keep(hub.url, "secret", LOG, hub.line))
        await hub.held.acquire()
        hub.presence.end()
        await hub.held.acquire()
        assert hub.lost == 0
        session.cancel()
        await hub.changed.wait()

    run(scenario)


def test_the_newest_connection_counts() -> None:
    """A session that came again is not missed when its old connection goes."""

    async def scenario() -> None:
        hub = Hub()
        sessions = []
        for _ in range(2):
            sessions.append(asyncio.create_task(presence.keep(hub.url, "secret", LOG, hub.line)))
            await hub.held.acquire()
        sessions[0].cancel()
        await asyncio.sleep(0.05)
        assert hub.lost == 0
        sessions[1].cancel()
        await hub.changed.wait()
        assert hub.lost == 1

    run(scenario)


@pytest.mark.parametrize(
    ("says", "used"),
    [
        (b"", []), (b"x\n", []), (b"nan\n", []), (b"-1\n", []), (b"inf\n", []), (b"1" * 200, []),
        (b"1000\n" * 40, [1000.0]), (b"1000\n1001\nx\n", [1000.0]),
        (b"1000 many\n", []), (b"1000 -1\n", []),
        (b"1000 9999999999999\n", []), (b"1000 7 8\n", []),
    ],
)  # fmt: skip
def test_a_connection_that_says_anything_else_is_over(says: bytes, used: list[float]) -> None:
    """A peer that had gone before its connection was held is no living session; neither is one
    that tells no time, does not end its line, or has more to say than a session has."""

    async def scenario() -> None:
        hub = Hub()
        mine, its = socket.socketpair()
        if says:
            its.sendall(says)
        else:
            its.close()
        hub.presence.hold(IOStream(mine), hub.use, hub.peaks.append)
        await hub.gone.wait()
        assert (hub.lost, hub.presence.held) == (1, False)
        assert hub.used == used

    run(scenario)


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_hub_that_does_not_hold_it_harms_nobody(status: int) -> None:
    """An older hub, or one in trouble, is asked again; the session goes on."""

    async def scenario() -> None:
        hub = Hub(status)
        session = asyncio.create_task(presence.keep(hub.url, "secret", LOG, hub.line))
        for _ in range(2):
            await hub.held.acquire()
        assert not session.done()
        session.cancel()

    run(scenario)


def test_when_a_server_was_used_is_heard() -> None:
    """In the connection that is held, and never as later than now."""

    async def scenario() -> None:
        hub = Hub()
        assert not hub.line.say_used(1000.0)
        session = asyncio.create_task(presence.keep(hub.url, "secret", LOG, hub.line))
        await hub.line.opened.wait()
        assert hub.line.say_used(1_000_000_000.25)
        await hub.changed.wait()
        assert hub.used == [1_000_000_000.25]
        assert hub.lost == 0
        session.cancel()

    run(scenario)


def test_the_most_memory_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is clearly more than before, not more often than a hub listens; and to a new hub."""
    monkeypatch.setattr(presence, "SAID_EVERY_S", 0.1)
    monkeypatch.setattr("afportal.presence.LEAST_PAUSE_S", 0.05)

    async def scenario() -> None:
        hub = Hub()
        hub.line.say_memory(90)
        session = asyncio.create_task(presence.keep(hub.url, "secret", LOG, hub.line))
        await hub.line.opened.wait()
        for used_mib in (100, 300, 200, 301):
            hub.line.say_memory(used_mib)
        assert hub.line.say_used(1_000_000_000)
        await hub.changed.wait()
        assert hub.used == [1_000_000_000]
        assert hub.peaks == [90, 301]
        hub.presence.end()
        hub.line.opened.clear()
        hub.changed.clear()
        await hub.line.opened.wait()
        await hub.changed.wait()
        assert hub.peaks == [90, 301, 301]
        assert hub.lost == 0
        session.cancel()

    run(scenario)


def test_the_hub_is_heard() -> None:
    """What it says comes word by word, and no header is taken for it."""

    async def scenario() -> None:
        hub = Hub()
        said: list[list[str]] = []
        told = asyncio.Event()

        def heard(words: list[str]) -> None:
            said.append(words)
            if words == ["over"]:
                told.set()

        session = asyncio.create_task(presence.keep(hub.url, "secret", LOG, hub.line, heard))
        await hub.held.acquire()
        hub.presence.say("idle 1800000000")
        hub.presence.say("over")
        await told.wait()
        assert said == [["idle", "1800000000"], ["over"]]
        session.cancel()
        hub.presence.end()
        hub.presence.say("nobody hears this")

    run(scenario)


def test_a_time_to_come_is_now() -> None:
    async def scenario() -> None:
        hub = Hub()
        session = asyncio.create_task(presence.keep(hub.url, "secret", LOG, hub.line))
        await hub.line.opened.wait()
        assert hub.line.say_used(time.time() + 9999)
        await hub.changed.wait()
        assert hub.used[0] <= time.time()
        session.cancel()

    run(scenario)
