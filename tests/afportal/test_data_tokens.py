"""Data tokens: kept encrypted, renewed in time, revoked with the last server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
import pytest
from jupyterhub import orm
from jupyterhub.crypto import CryptKeeper
from prometheus_client import REGISTRY
from sqlalchemy import text

from afportal.credentials.data_tokens import DataTokens, NoDataToken
from afportal.credentials.offline_tokens import OfflineToken, OfflineTokens
from afportal.credentials.token_client import Given, ProviderAway, ProviderRefuses

LIFE_S = 1200.0


class ScriptedProvider:
    """Gives numbered tokens, until its test says otherwise."""

    def __init__(self) -> None:
        self.given = 0
        self.revoked: list[str] = []
        self.error: Exception | None = None

    def next(self, offline: str) -> Given:
        self.given += 1
        return Given(f"access-{self.given}", LIFE_S, offline, {})

    async def renew(self, offline: str) -> Given:
        if self.error:
            raise self.error
        return self.next(offline)

    async def revoke(self, offline: str) -> None:
        if self.error:
            raise self.error
        self.revoked.append(offline)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Any]:
    CryptKeeper.clear_instance()
    CryptKeeper.instance(keys=[bytes(range(32))])
    session = orm.new_session_factory(f"sqlite:///{tmp_path}/hub.sqlite")()
    yield session
    session.close()
    CryptKeeper.clear_instance()


class Desk:
    """Data tokens with a scripted provider, and who has a server."""

    def __init__(self, database: Any) -> None:
        self.provider = ScriptedProvider()
        self.kept = OfflineTokens(lambda: database)
        self.with_server: set[str] = set()
        self.tokens = DataTokens(self.provider, self.kept, self.with_server.__contains__)  # type: ignore[arg-type]

    async def settle(self) -> None:
        await asyncio.gather(*self.tokens._ending)


@pytest.fixture
def desk(database: Any) -> Desk:
    return Desk(database)


def test_the_database_has_no_token_in_the_clear(desk: Desk, database: Any) -> None:
    """What a stolen database tells is who had a token, not the token."""
    asyncio.run(desk.kept.keep("alice", "offline-in-the-clear"))
    (row,) = database.execute(text("select * from af_offline_tokens")).all()
    assert row[0] == "alice"
    assert "in-the-clear" not in repr(row)
    assert asyncio.run(desk.kept.read("alice")) == "offline-in-the-clear"


def test_a_persons_servers_share_a_token_for_half_its_life(desk: Desk) -> None:
    """The provider is asked once; again when half of the life is over."""

    async def go() -> None:
        await desk.tokens.keep("alice", desk.provider.next("offline"))
        first = await desk.tokens.get("alice")
        assert (await desk.tokens.get("alice")).text == first.text == "access-1"
        older = Given(first.text, LIFE_S * 0.4, "offline", {})
        await desk.tokens.keep("alice", older)
        known = desk.tokens._newest["alice"]
        desk.tokens._newest["alice"] = type(known)(known.text, known.ends_s, LIFE_S)
        assert (await desk.tokens.get("alice")).text == "access-2"

    asyncio.run(go())


def test_nobody_gets_anothers(desk: Desk) -> None:
    asyncio.run(desk.tokens.keep("alice", desk.provider.next("offline")))
    with pytest.raises(NoDataToken, match=r"for bob.*data-token"):
        asyncio.run(desk.tokens.get("bob"))


def test_while_the_provider_is_away_the_newest_holds(desk: Desk) -> None:
    """Until it ends; then the person is told who does not answer."""

    async def go() -> None:
        await desk.tokens.keep("alice", Given("short", LIFE_S, "offline", {}))
        desk.provider.error = ProviderAway("no answer")
        known = desk.tokens._newest["alice"]
        desk.tokens._newest["alice"] = type(known)("short", time.time() + 10, LIFE_S)
        assert (await desk.tokens.get("alice")).text == "short"
        desk.tokens._newest["alice"] = type(known)("short", time.time() - 1, LIFE_S)
        with pytest.raises(NoDataToken, match="does not answer"):
            await desk.tokens.get("alice")
        desk.provider.error = None
        assert (await desk.tokens.get("alice")).text == "access-1"

    asyncio.run(go())


def counted(outcome: str) -> float:
    labels = {"credential": "data", "outcome": outcome}
    return REGISTRY.get_sample_value("afportal_credentials_total", labels) or 0


def test_renewals_and_their_failures_are_counted(desk: Desk) -> None:
    """Also the one that nobody feels yet; a person who never fetched a token is no failure."""
    made, failed = counted("made"), counted("failed")

    async def go() -> None:
        with pytest.raises(NoDataToken):
            await desk.tokens.get("bob")
        await desk.tokens.keep("alice", Given("short", 10.0, "offline", {}))
        known = desk.tokens._newest["alice"]
        desk.tokens._newest["alice"] = type(known)(known.text, known.ends_s, LIFE_S)
        desk.provider.error = ProviderAway("no answer")
        assert (await desk.tokens.get("alice")).text == "short"
        desk.provider.error = None
        assert (await desk.tokens.get("alice")).text == "access-1"

    asyncio.run(go())
    assert (counted("made") - made, counted("failed") - failed) == (1, 1)


def test_what_the_provider_refuses_is_forgotten(desk: Desk) -> None:
    """A dead offline token is not tried for ever, and the cure is told."""

    async def go() -> None:
        await desk.tokens.keep("alice", Given("old", -1.0, "offline", {}))
        desk.provider.error = ProviderRefuses("invalid_grant: gone")
        with pytest.raises(NoDataToken, match=r"invalid_grant.*data-token"):
            await desk.tokens.get("alice")
        assert not desk.tokens.has("alice")

    asyncio.run(go())


def test_the_last_servers_end_revokes(desk: Desk) -> None:
    """Not the first one's; afterwards nothing is kept."""

    async def go() -> None:
        await desk.tokens.keep("alice", desk.provider.next("offline"))
        desk.with_server.add("alice")
        desk.tokens.session_over("alice")
        assert desk.tokens.has("alice")
        desk.with_server.clear()
        desk.tokens.session_over("alice")
        assert not desk.tokens.has("alice")
        await desk.settle()
        assert desk.provider.revoked == ["offline"]
        assert desk.kept.kept_since() == {}

    asyncio.run(go())


def test_what_could_not_be_revoked_is_not_used_and_not_forgotten(desk: Desk) -> None:
    """The next sweep, or the next hub process, revokes it."""

    async def go() -> None:
        await desk.tokens.keep("alice", desk.provider.next("offline"))
        desk.provider.error = ProviderAway("no answer")
        desk.tokens.session_over("alice")
        await desk.settle()
        assert not desk.tokens.has("alice")
        assert list(desk.kept.kept_since()) == ["alice"]
        desk.provider.error = None
        await desk.tokens.sweep()
        assert desk.kept.kept_since() == {}
        assert desk.provider.revoked == ["offline"]

    asyncio.run(go())


def test_a_token_fetched_anew_is_not_revoked_for_the_old_one(desk: Desk) -> None:
    """A person who comes back in that moment keeps the new one."""

    async def go() -> None:
        await desk.tokens.keep("alice", desk.provider.next("old"))
        desk.provider.error = ProviderAway("no answer")
        desk.tokens.session_over("alice")
        await desk.settle()
        desk.provider.error = None
        await desk.tokens.keep("alice", desk.provider.next("new"))
        await desk.tokens._revoke("alice")
        assert desk.provider.revoked == []
        assert (await desk.tokens.get("alice")).text == "access-2"

    asyncio.run(go())


def test_what_was_fetched_and_not_used_goes(desk: Desk, database: Any) -> None:
    """Without a server a token is kept for an hour."""

    async def go() -> None:
        await desk.tokens.keep("alice", desk.provider.next("unused"))
        await desk.tokens.keep("bob", desk.provider.next("fresh"))
        await desk.tokens.keep("carol", desk.provider.next("used"))
        desk.with_server.add("carol")
        for person in ("alice", "carol"):
            database.get(OfflineToken, person).kept_s -= 4000
        await desk.tokens.sweep()
        await desk.settle()
        assert desk.provider.revoked == ["unused"]
        assert {*desk.kept.kept_since()} == {"bob", "carol"}

    asyncio.run(go())


DAY_S = 86400.0


def offline(made_s: float, life_s: float) -> str:
    """An offline token as Keycloak makes it: its life is in it."""
    claims = {"iat": int(made_s), "exp": int(made_s + life_s), "jti": str(uuid4())}
    return jwt.encode(claims, "k" * 32)


@pytest.mark.parametrize(
    ("kept", "renewed", "ends_in_s"),
    [
        # Long enough as it is: nobody is asked.
        (offline(time.time() - 3600, 2 * DAY_S), None, None),
        # Each renewal gives it an hour: it goes on for ever.
        (offline(time.time() - 1800, 3600), offline(time.time(), 3600), None),
        (offline(time.time() - 3600, 4 * 3600), offline(time.time(), DAY_S), None),
        # The login's longest life is near: it has less than before.
        (offline(time.time() - 3600, 7200), offline(time.time(), 3600), 3600),
        (offline(time.time() - 600, 7200), offline(time.time(), 7000), 7000),
        # Two pages in one second tell nothing.
        (offline(time.time(), 3600), offline(time.time(), 3600), None),
        # A provider that does not say, or gives the same one again.
        ("opaque", None, None),
        # Older Keycloaks: no end.
        (jwt.encode({"iat": int(time.time()), "exp": 0}, "k" * 32), None, None),
        (offline(time.time() - 600, 3600), "same", 3000),
    ],
)
def test_a_life_that_no_renewal_prolongs(
    desk: Desk, kept: str, renewed: str | None, ends_in_s: float | None
) -> None:
    """A token that will be renewed no more is told from one whose end moves on."""
    asked: list[str] = []

    async def renew(token: str) -> Given:
        asked.append(token)
        assert renewed is not None
        return Given("access", LIFE_S, token if renewed == "same" else renewed, {})

    desk.provider.renew = renew  # type: ignore[method-assign]

    async def go() -> float | None:
        await desk.kept.keep("alice", kept)
        return await desk.tokens.last_end_s("alice", time.time() + 8 * 3600)

    found = asyncio.run(go())
    assert (found is None) == (ends_in_s is None)
    if found is not None and ends_in_s is not None:
        assert abs(found - time.time() - ends_in_s) < 600
    assert asked == ([] if renewed is None else [kept])


def test_who_cannot_be_asked_refuses_nobody(desk: Desk) -> None:
    """Nor does one who has no token at all: the session tells."""
    until_s = time.time() + 8 * 3600
    assert asyncio.run(desk.tokens.last_end_s("bob", until_s)) is None
    asyncio.run(desk.kept.keep("alice", offline(time.time() - 60, 600)))
    for error in (ProviderAway("no answer"), ProviderRefuses("invalid_grant")):
        desk.provider.error = error
        assert asyncio.run(desk.tokens.last_end_s("alice", until_s)) is None
    assert desk.tokens.has("alice")
