"""Asks a signed service (a minter, the login node's agent) as the hub."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

from afportal.signed_http import sign


class ServiceError(Exception):
    """A signed service did not answer, or refused; `status` is 0 when nothing answered."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class SignedClient:
    """Sends signed JSON requests to one service.

    Args:
        url: "https://host:port".
        secret: the secret shared with the service.
        timeout_s: for connect and answer together.
        tls: whose certificates are believed; None: those of this machine.
    """

    def __init__(
        self,
        url: str,
        secret: bytes,
        *,
        timeout_s: float = 10.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._secret = secret
        self._timeout_s = timeout_s
        self._tls = tls
        self._http = AsyncHTTPClient(force_instance=True, max_clients=50)

    async def call(self, method: str, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send one request and return the answer's object. Raises `ServiceError`."""
        raw = json.dumps(body).encode()
        request = HTTPRequest(
            self._url + path,
            method=method,
            headers=sign(self._secret, method, path, raw),
            body=raw,
            allow_nonstandard_methods=True,
            connect_timeout=self._timeout_s,
            request_timeout=self._timeout_s,
            ssl_options=self._tls,
        )
        try:
            response = await self._http.fetch(request)
        except HTTPClientError as error:
            detail = str(error)
            if error.response is not None and error.response.body:
                try:
                    detail = json.loads(error.response.body)["error"]
                except (ValueError, KeyError, TypeError):
                    detail = f"HTTP {error.code}"
            raise ServiceError(f"{self._url}{path}: {detail}", error.code) from error
        except OSError as error:
            raise ServiceError(f"{self._url}{path}: {error}") from error
        answer: Mapping[str, Any] = json.loads(response.body)
        return answer

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


async def mint(client: SignedClient, person: str, lifetime_s: int) -> str:
    """Return a person's token from a minter. Raises `ServiceError`."""
    answer = await client.call("POST", "/token", {"person": person, "lifetime_s": lifetime_s})
    return str(answer["token"])
