"""People's data tokens at one hub: had once by a browser, renewed as long as a server runs.

The offline token that renews them is kept from the page that fetched it until the person's
last server here is gone; without a server until Log Out, an hour at most.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import jwt

from afportal.credentials.offline_tokens import OfflineTokens
from afportal.credentials.token_client import Given, ProviderAway, ProviderRefuses, TokenClient
from afportal.phases import CREDENTIALS

log = logging.getLogger("afportal.credentials")

UNUSED_S = 3600.0
SWEEP_S = 60.0
# Claims are whole seconds.
ROUNDING_S = 2.0
CURE = "open the hub's page 'data-token' in a browser"


class NoDataToken(Exception):
    """There is none for this person now; the message says why, and the cure."""


@dataclass(frozen=True)
class Life:
    """When an offline token was made, and when it ends, unix seconds of the provider's clock."""

    made_s: float
    ends_s: float

    @property
    def life_s(self) -> float:
        """Seconds between the two."""
        return self.ends_s - self.made_s


def life_of(offline: str) -> Life | None:
    """Read an offline token's own claims; None where it has none, or no end."""
    try:
        # Nothing is believed of it that its provider would not tell anyway.
        claims = jwt.decode(offline, options={"verify_signature": False})
        life = Life(float(claims["iat"]), float(claims["exp"]))
    except (jwt.PyJWTError, KeyError, TypeError, ValueError):
        return None
    # Older Keycloaks write 0 where there is no end.
    return life if life.life_s > 0 else None


@dataclass(frozen=True)
class DataToken:
    """A data token, when it ends (unix seconds), and how long it lived from the first."""

    text: str
    ends_s: float
    life_s: float

    @property
    def left_s(self) -> float:
        """Seconds that it still lives."""
        return self.ends_s - time.time()


class DataTokens:
    """Keeps and renews people's data tokens.

    Args:
        client: this instance's client at the provider.
        kept: where offline tokens are.
        has_server: tells whether a person has a server here that starts, runs or stops.
    """

    def __init__(
        self, client: TokenClient, kept: OfflineTokens, has_server: Callable[[str], bool]
    ) -> None:
        self.client = client
        self._kept = kept
        self._has_server = has_server
        self._newest: dict[str, DataToken] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def has(self, person: str) -> bool:
        """Tell whether a person's token can be had without a browser."""
        return self._kept.has(person)

    async def keep(self, person: str, given: Given) -> None:
        """Take what a browser has fetched."""
        async with self._lock(person):
            await self._take(person, given)
        log.info("%s: a data token was fetched", person)

    async def get(self, person: str) -> DataToken:
        """Return a person's token, renewed when half of its life is over.

        Raises:
            NoDataToken: none was fetched, or the provider gives none any more.
        """
        async with self._lock(person):
            offline = await self._kept.read(person)
            if not offline:
                raise NoDataToken(f"no data token was fetched for {person}; {CURE}")
            newest = self._newest.get(person)
            if newest and newest.left_s > newest.life_s / 2:
                return newest
            try:
                given = await self.client.renew(offline)
                CREDENTIALS.labels("data", "made").inc()
                return await self._take(person, given, offline)
            except ProviderAway as error:
                CREDENTIALS.labels("data", "failed").inc()
                if newest and newest.left_s > 0:
                    log.warning("%s: data token not renewed yet: %s", person, error)
                    return newest
                raise NoDataToken(f"the login service does not answer: {error}") from error
            except ProviderRefuses as error:
                CREDENTIALS.labels("data", "failed").inc()
                self._newest.pop(person, None)
                self._kept.drop(person)
                log.warning("%s: data token not renewed: %s", person, error)
                why = f"the login service renews it no more ({error})"
                raise NoDataToken(f"{why}; {CURE}") from error

    async def last_end_s(self, person: str, until_s: float) -> float | None:
        """Return when a person's token will be renewed no more, if that is before `until_s`.

        An offline token's end moves with each renewal, until the longest life of its login is
        near: from then on each renewal leaves it less. So one that seems to end too early is
        renewed now, and compared.

        Args:
            until_s: unix seconds.

        Returns:
            Unix seconds; None: not before, or nobody can say.
        """
        life = life_of(await self._kept.read(person))
        if life is None or life.ends_s >= until_s:
            return None  # as nearly always: nobody waits for a renewal that is under way
        async with self._lock(person):
            offline = await self._kept.read(person)
            before = life_of(offline)
            if before is None:
                return None
            try:
                given = await self.client.renew(offline)
            except (ProviderAway, ProviderRefuses):
                return None  # whoever needs it next is told
            CREDENTIALS.labels("data", "made").inc()
            await self._take(person, given, offline)
            after = life_of(given.offline)
            if after is None or after.ends_s >= until_s:
                return None
            shrunk = before.life_s - after.life_s > ROUNDING_S
            return after.ends_s if shrunk or given.offline == offline else None

    def session_over(self, person: str) -> None:
        """Revoke a person's token if no server is left that needs it; returns at once."""
        if self._has_server(person) or not self._kept.end(person):
            return
        self._newest.pop(person, None)
        task = asyncio.get_running_loop().create_task(self._revoke(person))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def sweep_for_ever(self) -> None:
        """Sweep, once a minute."""
        while True:
            await self.sweep()
            await asyncio.sleep(SWEEP_S)

    async def sweep(self) -> None:
        """Revoke what was fetched and not used, and what could not be revoked before."""
        for person, kept_s in self._kept.kept_since().items():
            if self._kept.has(person) and time.time() - kept_s > UNUSED_S:
                self.session_over(person)
            elif not self._kept.has(person):
                await self._revoke(person)

    async def _take(self, person: str, given: Given, known: str = "") -> DataToken:
        if given.offline != known:
            await self._kept.keep(person, given.offline)
        token = DataToken(given.access, time.time() + given.life_s, given.life_s)
        self._newest[person] = token
        return token

    async def _revoke(self, person: str) -> None:
        """Tell the provider; what it does not hear now, the next sweep tells."""
        async with self._lock(person):
            offline = await self._kept.read(person, over=True)
            if not offline:  # fetched anew in the meantime
                return
            try:
                await self.client.revoke(offline)
            except ProviderAway as error:
                log.warning("%s: the offline token is not revoked yet: %s", person, error)
                return
            except ProviderRefuses as error:
                log.warning("%s: the offline token was not revoked: %s", person, error)
            else:
                log.info("%s: the last session is over, the offline token is revoked", person)
            self._kept.drop(person)

    def _lock(self, person: str) -> asyncio.Lock:
        return self._locks.setdefault(person, asyncio.Lock())
