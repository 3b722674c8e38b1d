"""A server asks its hub often whether a session lives, and goes on while the hub is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from tornado import web, websocket
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.iostream import StreamClosedError
from tornado.tcpclient import TCPClient

from afportal.session import hub_auth
from afportal.session.hub_auth import SessionHubAuth
from tests.afportal.hub_in_process import Loop


class _Hub(web.RequestHandler):
    status = 200
    delay_s = 0.0
    asked = 0

    name = "alice"
    scopes: ClassVar[list[str]] = []

    async def get(self) -> None:
        type(self).asked += 1
        await asyncio.sleep(self.delay_s)
        self.set_status(self.status)
        self.write({"name": self.name, "message": "", "scopes": self.scopes})


@pytest.fixture
def loop() -> Iterator[Loop]:
    running = Loop()
    yield running
    running.close()


@pytest.fixture
def asks(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> SessionHubAuth:
    """A server's client of a stand-in hub; its answers are never kept without need."""
    _Hub.status, _Hub.delay_s, _Hub.asked = 200, 0.0, 0
    _Hub.name, _Hub.scopes = "alice", []
    monkeypatch.setenv("JUPYTERHUB_USER", "alice")
    monkeypatch.setattr(hub_auth, "ANSWER_TIMEOUT_S", 0.2)
    url = loop.listen(web.Application([(r"/hub/api/user", _Hub)]))
    made = SessionHubAuth(api_url=f"{url}/hub/api", api_token="own", oauth_client_id="c")
    assert made.cache_max_age == hub_auth.ASKED_EVERY_S
    return made


def name(loop: Loop, asks: SessionHubAuth) -> str | None:
    """Whom a token belongs to now, the kept answer aside."""
    asks.cache.clear()
    answer = loop.call(lambda: asks.user_for_token("token", sync=False))
    return answer and answer["name"]


def test_an_ended_session_ends(loop: Loop, asks: SessionHubAuth) -> None:
    """Once the hub does not know a token any more, nothing that it said before counts."""
    assert name(loop, asks) == "alice"
    _Hub.status = 403
    assert name(loop, asks) is None
    _Hub.status = 503
    with pytest.raises(web.HTTPError):
        name(loop, asks)


@pytest.mark.parametrize("how", ["fails", "hangs", "is gone"])
def test_a_session_goes_on_while_the_hub_is_away(
    loop: Loop, asks: SessionHubAuth, how: str
) -> None:
    """A hub that fails, hangs or is gone logs nobody out; what it says afterwards counts."""
    assert name(loop, asks) == "alice"
    there = asks.api_url
    if how == "fails":
        _Hub.status = 503
    elif how == "hangs":
        _Hub.delay_s = 5
    else:
        asks.api_url = "http://127.0.0.1:9/hub/api"
    assert name(loop, asks) == "alice"
    _Hub.status, _Hub.delay_s, asks.api_url = 403, 0.0, there
    assert name(loop, asks) is None


def test_a_hub_that_is_away_vouches_for_nobody_new(loop: Loop, asks: SessionHubAuth) -> None:
    """A token that the hub never confirmed is not taken while it is away."""
    asks.api_url = "http://127.0.0.1:9/hub/api"
    with pytest.raises(web.HTTPError):
        name(loop, asks)


def test_who_is_let_in_need_not_wait(loop: Loop, asks: SessionHubAuth) -> None:
    """That somebody may not is asked anew each time; that they may is kept for a moment."""
    asks.access_scopes = {"access:servers!server=alice/"}

    def scopes() -> list[str]:
        answer = loop.call(lambda: asks.user_for_token("bobs", sync=False))
        return list(answer["scopes"])

    _Hub.name = "bob"
    assert scopes() == []
    _Hub.scopes = ["access:servers!server=alice/"]
    assert scopes() == _Hub.scopes
    asked = _Hub.asked
    assert scopes() == _Hub.scopes
    assert _Hub.asked == asked


def test_a_hub_that_is_away_vouches_for_no_helper(loop: Loop, asks: SessionHubAuth) -> None:
    """Whom the owner let in is out while nobody can say that it has ended."""
    _Hub.name = "bob"
    assert name(loop, asks) == "bob"
    asks.api_url = "http://127.0.0.1:9/hub/api"
    with pytest.raises(web.HTTPError):
        name(loop, asks)


class _Socket(websocket.WebSocketHandler):
    """A server's web socket, whose browser sends the hub's token in a header."""

    auth: ClassVar[SessionHubAuth]
    url: ClassVar[str]
    let_in: ClassVar[asyncio.Queue[websocket.WebSocketHandler]]

    async def prepare(self) -> None:
        assert await self.auth.get_user(self, sync=False) is not None

    def on_message(self, message: str | bytes) -> None:
        self.write_message(message)


class _WaitingSocket(_Socket):
    """One that is let in, and is no web socket before its kernel answers."""

    kernel: ClassVar[asyncio.Event]
    opened: ClassVar[bool]

    async def get(self, *args: Any, **kwargs: Any) -> None:
        self.let_in.put_nowait(self)
        await self.kernel.wait()
        await super().get(*args, **kwargs)

    def open(self, *_: str, **__: str) -> None:
        type(self).opened = True


class _EndlessPage(_Socket):
    """A web socket's handler that answers a plain request, and goes on answering."""

    async def get(self, *_: Any, **__: Any) -> None:
        self.write("first")
        await self.flush()
        self.let_in.put_nowait(self)
        await asyncio.sleep(60)


class _ShortPage(_Socket):
    """The same with a whole answer."""

    async def get(self, *_: Any, **__: Any) -> None:
        self.let_in.put_nowait(self)
        await asyncio.sleep(float(self.get_query_argument("after_s", "0")))
        self.finish("all")


@pytest.fixture
def sockets(
    loop: Loop, asks: SessionHubAuth, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], websocket.WebSocketClientConnection]:
    """Opens a web socket of somebody whom the hub lets in."""
    monkeypatch.setattr(hub_auth, "HELPERS_ASKED_EVERY_S", 0.05)
    asks.access_scopes = {"access:servers!server=alice/"}
    _Socket.auth = asks
    _Socket.let_in = asyncio.Queue()
    _WaitingSocket.kernel, _WaitingSocket.opened = asyncio.Event(), False
    routes = [
        (r"/socket", _Socket), (r"/waiting", _WaitingSocket), (r"/endless", _EndlessPage),
        (r"/short", _ShortPage),
    ]  # fmt: skip
    _Socket.url = loop.listen(web.Application(routes))
    url = _Socket.url.replace("http", "ws", 1)

    def open_one(person: str) -> websocket.WebSocketClientConnection:
        _Hub.name, _Hub.scopes = person, ["access:servers!server=alice/"]
        asks.cache.clear()
        request = HTTPRequest(f"{url}/socket", headers={"Authorization": f"token {person}"})

        async def connect() -> websocket.WebSocketClientConnection:
            return await websocket.websocket_connect(request)

        return loop.call(connect)

    return open_one


def hears(loop: Loop, socket: websocket.WebSocketClientConnection) -> str | bytes | None:
    """What comes back for a word that is sent; None from a socket that is closed."""

    async def ask() -> str | bytes | None:
        try:
            await socket.write_message("there?")
        except websocket.WebSocketClosedError:
            return None
        return await asyncio.wait_for(socket.read_message(), 5)

    return loop.call(ask)


@pytest.mark.parametrize("how", ["share ended", "session ended"])
def test_a_helpers_open_socket_ends_with_the_help(
    loop: Loop, sockets: Callable[[str], websocket.WebSocketClientConnection], how: str
) -> None:
    """Soon after the hub says no; as long as it says yes, it stays."""
    helpers = sockets("bob")
    before = _Hub.asked
    while _Hub.asked < before + 3:
        assert hears(loop, helpers) == "there?"
    if how == "share ended":
        _Hub.scopes = []
    else:
        _Hub.status = 403

    async def closed() -> None:
        async with asyncio.timeout(5):
            while await helpers.read_message() is not None:
                pass

    loop.call(closed)
    assert (helpers.close_code, helpers.close_reason) == (1008, "the help is over")


def test_the_owners_open_socket_is_not_asked_for(
    loop: Loop,
    asks: SessionHubAuth,
    sockets: Callable[[str], websocket.WebSocketClientConnection],
) -> None:
    own = sockets("alice")
    assert hears(loop, own) == "there?"
    assert asks._watch is None


def test_a_helpers_socket_outlives_a_short_restart_of_the_hub(
    loop: Loop,
    sockets: Callable[[str], websocket.WebSocketClientConnection],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    helpers = sockets("bob")
    _Hub.status = 503
    before = _Hub.asked
    while _Hub.asked < before + 3:
        assert hears(loop, helpers) == "there?"
    monkeypatch.setattr(hub_auth, "PATIENCE_WITH_HELPERS_S", 0.0)

    async def closed() -> str | bytes | None:
        return await asyncio.wait_for(helpers.read_message(), 5)

    assert loop.call(closed) is None


def test_a_socket_that_is_not_open_yet_never_opens(
    loop: Loop, sockets: Callable[[str], websocket.WebSocketClientConnection]
) -> None:
    """Whoever was let in while a kernel starts is out when the help ends before it answers."""
    stays = sockets("bob")
    request = HTTPRequest(
        f"{_Socket.url.replace('http', 'ws', 1)}/waiting", headers={"Authorization": "token bob"}
    )

    async def put_out() -> None:
        opening = asyncio.ensure_future(websocket.websocket_connect(request))
        async with asyncio.timeout(5):
            waiting = await _Socket.let_in.get()
            _Hub.scopes = []
            with pytest.raises((HTTPClientError, StreamClosedError)):
                await opening
            assert await stays.read_message() is None
        _WaitingSocket.kernel.set()
        await asyncio.sleep(0.1)
        assert waiting not in _Socket.auth._helpers

    loop.call(put_out)
    assert not _WaitingSocket.opened


def test_an_endless_answer_ends_with_the_help(
    loop: Loop, sockets: Callable[[str], websocket.WebSocketClientConnection]
) -> None:
    """The pages of a cluster are answered by a web socket's handler, which never is one."""
    sockets("bob")
    heard: list[bytes] = []
    request = HTTPRequest(
        f"{_Socket.url}/endless",
        headers={"Authorization": "token bob"},
        streaming_callback=heard.append,
    )

    async def put_out() -> None:
        answer = asyncio.ensure_future(AsyncHTTPClient().fetch(request))
        async with asyncio.timeout(5):
            await _Socket.let_in.get()
            assert not answer.done()
            _Hub.scopes = []
            with pytest.raises((HTTPClientError, StreamClosedError)):
                await answer

    loop.call(put_out)
    assert heard == [b"first"]


def test_the_next_request_of_a_connection_is_somebody_elses(
    loop: Loop,
    asks: SessionHubAuth,
    sockets: Callable[[str], websocket.WebSocketClientConnection],
) -> None:
    """A proxy asks for many people over one connection: what a helper left is not cut."""
    helpers = sockets("bob")
    port = int(_Socket.url.rpartition(":")[2])

    async def ask_twice() -> bytes:
        stream = await TCPClient().connect("127.0.0.1", port)
        asked = "GET /short?after_s={} HTTP/1.1\r\nHost: x\r\nAuthorization: token {}\r\n\r\n"
        async with asyncio.timeout(5):
            await stream.write(asked.format(0, "bob").encode())
            await stream.read_until(b"all")
            left = await _Socket.let_in.get()
            _Hub.name = "alice"
            await stream.write(asked.format(0.5, "alice").encode())
            await _Socket.let_in.get()
            _Hub.name, _Hub.scopes = "bob", []
            assert await helpers.read_message() is None
            assert left not in asks._helpers
            return await stream.read_until(b"all")

    assert b"200 OK" in loop.call(ask_twice)


def test_one_helpers_answer_is_not_anothers(
    loop: Loop,
    asks: SessionHubAuth,
    sockets: Callable[[str], websocket.WebSocketClientConnection],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For whom nothing is known, for whatever reason, has no more time by what others hear."""
    monkeypatch.setattr(hub_auth, "PATIENCE_WITH_HELPERS_S", 0.3)
    bobs, carols = sockets("bob"), sockets("carol")

    async def is_allowed(token: str) -> bool:
        if token == "bob":
            raise RuntimeError("nobody foresaw this")
        return True

    monkeypatch.setattr(asks, "_is_allowed", is_allowed)

    async def closed() -> None:
        async with asyncio.timeout(5):
            assert await bobs.read_message() is None

    assert hears(loop, bobs) == "there?"
    loop.call(closed)
    assert hears(loop, carols) == "there?"


def test_what_cannot_be_closed_now_is_closed_later(
    loop: Loop,
    sockets: Callable[[str], websocket.WebSocketClientConnection],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And keeps no other open."""
    both = [sockets("bob"), sockets("bob")]
    close, tries = hub_auth._close, 0

    def fail_once(handler: websocket.WebSocketHandler) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise RuntimeError("not now")
        close(handler)

    monkeypatch.setattr(hub_auth, "_close", fail_once)
    _Hub.scopes = []

    async def closed() -> None:
        async with asyncio.timeout(5):
            for socket in both:
                assert await socket.read_message() is None

    loop.call(closed)
    assert tries == 3


def test_patience_has_an_end(
    loop: Loop, asks: SessionHubAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a hub said long ago holds no more."""
    assert name(loop, asks) == "alice"
    monkeypatch.setattr(hub_auth, "PATIENCE_S", 0.0)
    _Hub.status = 503
    with pytest.raises(web.HTTPError):
        name(loop, asks)


def test_a_servers_cookies_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path is read when the session knows it, not at import: no server gets another's."""
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/htc/user/alice/")
    assert SessionHubAuth(oauth_client_id="c").cookie_path == "/htc/user/alice/"
