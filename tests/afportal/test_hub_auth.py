"""A server asks its hub often whether a session lives, and goes on while the hub is away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from tornado import web

from afportal.session import hub_auth
from afportal.session.hub_auth import SessionHubAuth
from tests.afportal.hub_in_process import Loop


class _Hub(web.RequestHandler):
    status = 200
    delay_s = 0.0
    asked = 0

    async def get(self) -> None:
        type(self).asked += 1
        await asyncio.sleep(self.delay_s)
        self.set_status(self.status)
        self.write({"name": "alice", "message": "", "scopes": []})


@pytest.fixture
def loop() -> Iterator[Loop]:
    running = Loop()
    yield running
    running.close()


@pytest.fixture
def asks(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> SessionHubAuth:
    """A server's client of a stand-in hub; its answers are never kept without need."""
    _Hub.status, _Hub.delay_s, _Hub.asked = 200, 0.0, 0
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
