"""Server extension: says hello to the hub once the server listens."""

from __future__ import annotations

import json
import os
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPRequest

HELLO_TIMEOUT_S = 30.0


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "afportal.session.extension"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Nothing to add to the server itself."""


async def _start_jupyter_server_extension(server: Any) -> None:
    """Called after the port is bound: tell the hub which it is, nothing else."""
    request = HTTPRequest(
        f"{os.environ['JUPYTERHUB_API_URL']}/af/hello",
        method="POST",
        headers={
            "Authorization": f"token {server.identity_provider.hub_auth.api_token}",
            "Content-Type": "application/json",
        },
        body=json.dumps({"port": server.port}),
        request_timeout=HELLO_TIMEOUT_S,
    )
    try:
        await AsyncHTTPClient().fetch(request)
    except Exception as error:
        # A server that nobody finds must not sit in its slot: the job's end tells the hub.
        server.log.critical("the hub does not take this server's hello: %s", error)
        server.exit(1)
