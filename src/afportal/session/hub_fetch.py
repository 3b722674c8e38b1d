"""A server's requests to its hub by the HTTP client that it has loaded anyway."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Mapping
from ssl import SSLContext
from typing import Any
from urllib.parse import urlencode

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest, HTTPResponse

CONNECT_TIMEOUT_S = 5.0
TIMEOUT_S = 60.0


@functools.lru_cache(maxsize=1)
def _client(_loop: asyncio.AbstractEventLoop) -> AsyncHTTPClient:
    # Its own: others' requests wait for a slot of tornado's shared one when the hub hangs.
    return AsyncHTTPClient(force_instance=True, max_clients=100)


class Answer:
    """What JupyterHub (6.1) looks at of an answer that aiohttp gives it."""

    def __init__(self, answer: HTTPResponse) -> None:
        self.status = answer.code
        self.reason = answer.reason
        self.headers = answer.headers
        self._text = answer.body.decode("utf-8", "replace")

    async def text(self) -> str:
        """Return the body."""
        return self._text


async def fetch(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    data: str | bytes | Mapping[str, str] | None = None,
    ssl: SSLContext | None = None,
    raise_for_status: bool = True,
    **options: Any,
) -> Any:
    """Do as `jupyterhub.httpclient.fetch`; with options that are not known here, have it do it.

    Raises:
        HTTPClientError: refused, with `raise_for_status`.
        OSError: no answer.
    """
    if options:
        from jupyterhub.httpclient import fetch as by_aiohttp

        wanted = {"method": method, "headers": headers, "data": data, "ssl": ssl, **options}
        return await by_aiohttp(url, raise_for_status=raise_for_status, **wanted)
    request = HTTPRequest(
        url,
        method=method,
        headers=dict(headers or {}),
        body=urlencode(data) if isinstance(data, Mapping) else data,
        ssl_options=ssl,
        connect_timeout=CONNECT_TIMEOUT_S,
        request_timeout=TIMEOUT_S,
        allow_nonstandard_methods=True,
    )
    client = _client(asyncio.get_running_loop())
    return Answer(await client.fetch(request, raise_error=raise_for_status))


def words_of(error: HTTPClientError) -> str:
    """Return what the hub said when it refused, in one line."""
    try:
        said = json.loads(error.response.body)["message"] if error.response else ""
    except (ValueError, KeyError, TypeError):
        said = ""
    return " ".join(str(said or error).split())
