"""Server extension: says hello to the hub once the server listens, and what befalls it later."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from afportal.session import memory_watch

ANSWER_TIMEOUT_S = 30.0


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "afportal.session.extension"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Nothing to add to the server itself."""


async def _tell_hub(server: Any, what: str, body: dict[str, int]) -> None:
    """Send word to the hub with the server's own token."""
    request = HTTPRequest(
        f"{os.environ['JUPYTERHUB_API_URL']}/af/{what}",
        method="POST",
        headers={
            "Authorization": f"token {server.identity_provider.hub_auth.api_token}",
            "Content-Type": "application/json",
        },
        body=json.dumps(body),
        request_timeout=ANSWER_TIMEOUT_S,
    )
    await AsyncHTTPClient().fetch(request)


async def _start_jupyter_server_extension(server: Any) -> None:
    """Called after the port is bound: tell the hub which it is, nothing else."""
    try:
        await _tell_hub(server, "hello", {"port": server.port})
    except Exception as error:
        # A server that nobody finds must not sit in its slot: the job's end tells the hub.
        server.log.critical("the hub does not take this server's hello: %s", error)
        server.exit(1)
    else:
        server.af_memory_watch = asyncio.create_task(_watch_memory(server))


async def _watch_memory(server: Any) -> None:
    """Tell the hub whenever something in this job was ended for want of memory."""
    try:
        counter = memory_watch.oom_counter()
        if counter is None:
            server.log.warning("no count of memory kills here: they go unnoticed")
            return
        async for times in memory_watch.each_kill(counter):
            server.log.error("out of memory: a process of this server was ended (%d so far)", times)
            try:
                await _tell_hub(server, "notice", {"oom_kills": times})
            except Exception as error:
                server.log.error("the hub does not take the notice: %s", error)
    except OSError as error:
        server.log.warning("the count of memory kills cannot be read: %s", error)
