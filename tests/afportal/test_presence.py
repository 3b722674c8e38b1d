"""The connection that a session holds with its hub, from both ends."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

import pytest
from tornado import httpserver, netutil, web
from tornado.iostream import IOStream

from afportal.presence import Presence
from afportal.session import presence

LIMIT_S = 10
LOG = logging.getLogger(__name__)


class Hub:
    """Answers as the hub does, and counts what it loses."""

    def __init__(self, status: int = 200) -> None:
        self.lost = 0
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
                hub.presence.hold(connection)
                await connection.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
                hub.held.release()

        sockets = netutil.bind_sockets(0, "127.0.0.1", family=socket.AF_INET)
        self.server = httpserver.HTTPServer(web.Application([("/hub/api/af/presence", Handler)]))
        self.server.add_sockets(sockets)
        self.url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}/hub/api"

    def _lose(self) -> None:
        self.lost += 1
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
        session = asyncio.create_task(presence.keep(hub.url, "secret", LOG))
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
        session = asyncio.create_task(presence.keep(hub.url, "secret", LOG))
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
            sessions.append(asyncio.create_task(presence.keep(hub.url, "secret", LOG)))
            await hub.held.acquire()
        sessions[0].cancel()
        await asyncio.sleep(0.05)
        assert hub.lost == 0
        sessions[1].cancel()
        await hub.changed.wait()
        assert hub.lost == 1

    run(scenario)


@pytest.mark.parametrize("says", [b"", b"x"])
def test_a_connection_that_says_anything_is_over(says: bytes) -> None:
    """A peer that speaks, or had gone before its connection was held, is no living session."""

    async def scenario() -> None:
        hub = Hub()
        mine, its = socket.socketpair()
        if says:
            its.sendall(says)
        else:
            its.close()
        hub.presence.hold(IOStream(mine))
        await hub.changed.wait()
        assert (hub.lost, hub.presence.held) == (1, False)

    run(scenario)


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_hub_that_does_not_hold_it_harms_nobody(status: int) -> None:
    """An older hub, or one in trouble, is asked again; the session goes on."""

    async def scenario() -> None:
        hub = Hub(status)
        session = asyncio.create_task(presence.keep(hub.url, "secret", LOG))
        for _ in range(2):
            await hub.held.acquire()
        assert not session.done()
        session.cancel()

    run(scenario)
