"""A stand-in for a person's server: all that the hub sees of one, and no Jupyter.

For load tests of hubs and schedulers on machines that hold a thousand jobs and not a thousand
JupyterLabs. It is a real job of the person's, exchanges its code, listens with its own
certificate, says hello, reports activity and renews its secrets as a real session does; every
page of it says that it is a stand-in. A catalogue offers it as an environment with
`stand_in: true`, and no other has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import signal
import socket
import ssl
import sys
import urllib.request
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afportal.session import hub_tls, presence

if TYPE_CHECKING:
    from afportal.session.renewal import Renewal

ANSWER_TIMEOUT_S = 30.0
REQUEST_TIMEOUT_S = 30.0
# As JupyterHub's own server has it (6.1.1, singleuser/extension.py).
ACTIVITY_EVERY_S = 300
ACTIVITY_JITTER = 0.2

log = logging.getLogger(__name__)


def listening(folder: Path) -> ssl.SSLContext | None:
    """Return how it listens with the hub's files for TLS in that folder; None: there are none."""
    if not (folder / "server.key").is_file():
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(folder / "client-authority.pem")
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return context


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request, whatever it is, and close."""
    body = json.dumps({"stand_in": True}).encode()
    head = [
        "HTTP/1.1 200 OK",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *_hub_version(),
    ]
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            await reader.readuntil(b"\r\n\r\n")
            writer.write("\r\n".join([*head, "", ""]).encode() + body)
            await writer.drain()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _hub_version() -> list[str]:
    """What the hub compares with its own version, once a server."""
    try:
        return [f"X-JupyterHub-Version: {version('jupyterhub')}"]
    except PackageNotFoundError:
        return []


def _send(url: str, token: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310 - the hub's own address, by the exchange
        url,
        data=json.dumps(body).encode(),
        headers={"Authorization": f"token {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(  # noqa: S310
        request, timeout=ANSWER_TIMEOUT_S, context=hub_tls.context()
    ) as response:
        text = response.read()
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


async def _report_activity(url: str, token: str, server: str, line: presence.Line) -> None:
    """Tell the hub now and then that the server is used, as one is whose person works."""
    every_s = float(os.environ.get("JUPYTERHUB_ACTIVITY_INTERVAL") or ACTIVITY_EVERY_S)
    while True:
        now = datetime.now(UTC)
        if not line.say_used(now.timestamp()):
            at = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            body = {"servers": {server: {"last_activity": at}}, "last_activity": at}
            try:
                await asyncio.to_thread(_send, url, token, body)
            except OSError as error:
                log.warning("the hub does not take this server's activity: %s", error)
        jitter = ACTIVITY_JITTER * (random.random() - 0.5)  # noqa: S311 - nothing secret
        await asyncio.sleep(every_s * (1 + jitter))


async def _run(token: str, renewal: Renewal, tls_folder: Path, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    api = os.environ["JUPYTERHUB_API_URL"]
    server = await asyncio.start_server(answer, sock=listener, ssl=listening(tls_folder))

    async def ask(what: str, body: dict[str, Any]) -> dict[str, Any]:
        return await asyncio.to_thread(_send, f"{api}/af/{what}", token, body)

    async with server:
        # As with a real one: a server that nobody finds must not sit in its slot.
        await ask("hello", {"port": listener.getsockname()[1]})
        line = presence.Line()
        beside = [
            asyncio.create_task(renewal.run(ask, log)),
            asyncio.create_task(presence.keep(api, token, log, line)),
            asyncio.create_task(
                _report_activity(
                    os.environ["JUPYTERHUB_ACTIVITY_URL"],
                    token,
                    os.environ.get("JUPYTERHUB_SERVER_NAME", ""),
                    line,
                )
            ),
        ]
        await over.wait()
        for task in beside:
            task.cancel()


def serve(
    token: str, renewal: Renewal, *, tls_folder: Path, listener: socket.socket, **_: Any
) -> None:
    """Become the stand-in; returns when the scheduler ends it. As `launcher.serve`."""
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s")
    log.warning("this is a stand-in for a load test: it runs no Jupyter")
    try:
        asyncio.run(_run(token, renewal, tls_folder, listener))
    except OSError as error:
        sys.exit(f"afportal: stand-in: {error}")
