"""Speaks with the OpenID provider that gives data tokens: code, renewal, revocation.

Source: OpenID Connect Core 1.0 (3.1, 11), RFC 6749 (6), RFC 7009, RFC 7636; Keycloak 26:
`logout` with an offline token ends the browser's session too, `revoke` does not.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import jwt
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

from afportal.credentials.settings import DataSettings
from afportal.signed_http import read_secret

ENDPOINTS = "/protocol/openid-connect"
TIMEOUT_S = 10.0


class ProviderAway(Exception):
    """The provider does not answer; what it gave before still counts."""


class ProviderRefuses(Exception):
    """The provider answered, and gives nothing: the message has its own words."""


@dataclass(frozen=True)
class Given:
    """What the provider gave.

    Args:
        access: the data token.
        life_s: how long it lives from now, seconds.
        offline: renews it; the provider may give another one each time.
        id_claims: claims of the ID token, empty at a renewal.
    """

    access: str
    life_s: float
    offline: str
    id_claims: Mapping[str, Any]


class TokenClient:
    """One hub instance's client at the provider."""

    def __init__(self, settings: DataSettings, cell: str) -> None:
        self._settings = settings
        self._client = settings.client_id.replace("{cell}", cell)
        self._secret = read_secret(settings.client_secret_file).decode()
        self._inside = (settings.inside_url or settings.issuer) + ENDPOINTS

    def question(self, redirect_uri: str, state: str, verifier: str, *, quiet: bool) -> str:
        """Return where a browser asks for a code.

        Args:
            quiet: the provider shows no page, not even where the person must log in.
        """
        digest = hashlib.sha256(verifier.encode()).digest()
        asked = {
            "client_id": self._client,
            "response_type": "code",
            "redirect_uri": redirect_uri,
            "scope": " ".join(("openid", "offline_access", *self._settings.scopes)),
            "state": state,
            "nonce": nonce_of(verifier),
            "code_challenge_method": "S256",
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            **({"prompt": "none"} if quiet else {}),
        }
        return f"{self._settings.issuer}{ENDPOINTS}/auth?{urlencode(asked)}"

    async def knows_me(self) -> bool:
        """Tell whether the provider answers and has this client: if not, people would be stuck."""
        try:
            await self._ask("token", grant_type="refresh_token", refresh_token="none")  # noqa: S106 - none is meant
        except ProviderRefuses as refusal:
            return str(refusal).startswith("invalid_grant")
        except ProviderAway:
            return False
        return True

    async def exchange(self, code: str, redirect_uri: str, verifier: str) -> Given:
        """Return tokens for a code. Raises ProviderAway, ProviderRefuses."""
        given = self._given(
            await self._ask(
                "token",
                grant_type="authorization_code",
                code=code,
                redirect_uri=redirect_uri,
                code_verifier=verifier,
            )
        )
        if given.id_claims.get("nonce") != nonce_of(verifier):
            raise ProviderRefuses("the ID token answers another question than this hub's")
        return given

    async def renew(self, offline: str) -> Given:
        """Return a fresh token.

        Raises:
            ProviderAway: try again later.
            ProviderRefuses: this offline token renews nothing any more.
        """
        answer = await self._ask("token", grant_type="refresh_token", refresh_token=offline)
        return self._given({"refresh_token": offline, **answer, "id_token": ""})

    async def revoke(self, offline: str) -> None:
        """End what an offline token stands for. Raises ProviderAway, ProviderRefuses."""
        await self._ask("revoke", token=offline, token_type_hint="refresh_token")  # noqa: S106 - RFC 7009's word

    def _given(self, answer: Mapping[str, Any]) -> Given:
        try:
            # It came straight from the provider: its signature would say nothing more.
            claims = (
                jwt.decode(answer["id_token"], options={"verify_signature": False})
                if answer.get("id_token")
                else {}
            )
            return Given(
                str(answer["access_token"]),
                float(answer["expires_in"]),
                str(answer["refresh_token"]),
                claims,
            )
        except (KeyError, ValueError, jwt.PyJWTError) as error:
            raise ProviderRefuses(f"its answer lacks something: {error!r}") from error

    async def _ask(self, endpoint: str, **form: str) -> Mapping[str, Any]:
        request = HTTPRequest(
            f"{self._inside}/{endpoint}",
            method="POST",
            body=urlencode({"client_id": self._client, "client_secret": self._secret, **form}),
            connect_timeout=TIMEOUT_S,
            request_timeout=TIMEOUT_S,
        )
        try:
            answer = await AsyncHTTPClient().fetch(request)
        except HTTPClientError as error:
            if error.code >= 500:
                raise ProviderAway(str(error)) from error
            raise ProviderRefuses(_words(error)) from error
        except OSError as error:
            raise ProviderAway(str(error)) from error
        found: Any = json.loads(answer.body) if answer.body else {}
        return found if isinstance(found, dict) else {}


def nonce_of(verifier: str) -> str:
    """Return the nonce that goes with a code verifier: one secret of the browser's serves both."""
    return hashlib.sha256(f"nonce {verifier}".encode()).hexdigest()


def _words(error: HTTPClientError) -> str:
    """Return the provider's error, code first."""
    try:
        said = json.loads(error.response.body) if error.response is not None else {}
        return f"{said['error']}: {said.get('error_description', '')}".strip(": ")
    except (ValueError, KeyError, TypeError):
        return f"HTTP {error.code}"
