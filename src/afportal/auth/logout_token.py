"""Checks a logout token: what Keycloak sends a client when a session has ended.

Source: OpenID Connect Back-Channel Logout 1.0, sections 2.4 and 2.6.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import jwt

EVENT = "http://schemas.openid.net/event/backchannel-logout"
ALGORITHMS = ["RS256", "PS256", "ES256"]
CLOCK_SKEW_S = 60
OLDEST_S = 300
# A key that is not known is asked for, but not by every forged token.
KEYS_ASKED_EVERY_S = 10.0


class NotValid(Exception):
    """The logout token is refused; the message says why."""


class LogoutTokens:
    """Reads logout tokens of one issuer for one client; each counts once.

    Args:
        issuer: what `iss` must be.
        client_id: what `aud` must hold.
        fetch_keys: asks the issuer for its JWKS.
    """

    def __init__(
        self,
        *,
        issuer: str,
        client_id: str,
        fetch_keys: Callable[[], Awaitable[Mapping[str, Any]]],
    ) -> None:
        self._issuer = issuer
        self._client_id = client_id
        self._fetch_keys = fetch_keys
        self._keys: dict[str, jwt.PyJWK] = {}
        self._asked_s = -KEYS_ASKED_EVERY_S
        self._seen: dict[str, float] = {}

    async def read(self, token: str) -> dict[str, Any]:
        """Return the claims. Raises `NotValid`."""
        try:
            key = await self._key(str(jwt.get_unverified_header(token).get("kid") or ""))
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=self._client_id,
                issuer=self._issuer,
                leeway=CLOCK_SKEW_S,
                options={"require": ["iss", "aud", "iat", "jti"]},
            )
        except jwt.PyJWTError as error:
            raise NotValid(str(error)) from error
        events = claims.get("events")
        if not isinstance(events, dict) or EVENT not in events:
            raise NotValid("it tells of no log-out")
        if "nonce" in claims:
            raise NotValid("it has a nonce, as an ID token has")
        if not (claims.get("sub") or claims.get("sid")):
            raise NotValid("it names neither person nor session")
        self._first_time(str(claims["jti"]), float(claims["iat"]))
        return claims

    def _first_time(self, identity: str, issued_s: float) -> None:
        now = time.time()
        if now - issued_s > OLDEST_S:
            raise NotValid(f"it is {now - issued_s:.0f} s old")
        self._seen = {known: until for known, until in self._seen.items() if until > now}
        if identity in self._seen:
            raise NotValid("it was sent before")
        self._seen[identity] = issued_s + OLDEST_S + CLOCK_SKEW_S

    async def _key(self, identity: str) -> jwt.PyJWK:
        if identity not in self._keys and time.monotonic() - self._asked_s > KEYS_ASKED_EVERY_S:
            self._asked_s = time.monotonic()
            try:
                found = jwt.PyJWKSet.from_dict(dict(await self._fetch_keys()))
            except jwt.PyJWTError:
                raise
            except Exception as error:
                raise NotValid(f"the issuer's keys cannot be read: {error}") from error
            self._keys = {
                key.key_id: key
                for key in found.keys
                if key.key_id and key.public_key_use in (None, "sig")
            }
        try:
            return self._keys[identity]
        except KeyError:
            raise NotValid("it is signed with a key that the issuer does not have") from None
