"""A server asks its hub often whether a session lives, and goes on while the hub is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest
from tornado import web, websocket
from tornado.httpclient import HTTPRequest

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

    async def prepare(self) -> None:
        assert await self.auth.get_user(self, sync=False) is not None

    def on_message(self, message: str | bytes) -> None:
        self.write_message(message)


@pytest.fixture
def sockets(
    loop: Loop, asks: SessionHubAuth, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], websocket.WebSocketClientConnection]:
    """Opens a web socket of somebody whom the hub lets in."""
    monkeypatch.setattr(hub_auth, "HELPERS_ASKED_EVERY_S", 0.05)
    asks.access_scopes = {"access:servers!server=alice/"}
    _Socket.auth = asks
    url = loop.listen(web.Application([(r"/socket", _Socket)])).replace("http", "ws", 1)

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
