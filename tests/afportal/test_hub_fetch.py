"""A server asks its hub without aiohttp: the same requests, the same answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from jupyterhub.httpclient import JupyterHubHTTPClient
from tornado import httpserver, netutil, web
from tornado.httpclient import HTTPClientError

from afportal.session import hub_fetch

LIMIT_S = 20


class Echo(web.RequestHandler):
    """Tells what it was asked; the status is in the path."""

    def _answer(self, status: str) -> None:
        self.set_status(int(status))
        self.set_header("X-JupyterHub-Version", "6.1.1")
        self.finish(
            {
                "method": self.request.method,
                "token": self.request.headers.get("Authorization"),
                "form": {
                    name: self.get_body_argument(name) for name in self.request.body_arguments
                },
                "body": self.request.body.decode(),
            }
        )

    get = post = _answer


def run(scenario: Callable[[str], Awaitable[None]]) -> None:
    async def main() -> None:
        sockets = netutil.bind_sockets(0, "127.0.0.1")
        server = httpserver.HTTPServer(web.Application([(r"/(\d+)", Echo)]))
        server.add_sockets(sockets)
        async with asyncio.timeout(LIMIT_S):
            await scenario(f"http://127.0.0.1:{sockets[0].getsockname()[1]}")
            await JupyterHubHTTPClient.loop_instance().close()
        server.stop()

    asyncio.run(main())


@pytest.mark.parametrize("options", [{}, {"timeout": None}], ids=["tornado", "aiohttp"])
def test_as_jupyterhub_uses_it(options: dict[str, Any]) -> None:
    """Who is this, what does this code stand for, I am used: whoever sends it."""

    async def scenario(hub: str) -> None:
        token = {"Authorization": "token secret"}
        who = await hub_fetch.fetch(f"{hub}/200", headers=token, **options)
        assert (who.status, who.headers["X-JupyterHub-Version"]) == (200, "6.1.1")
        assert '"token": "token secret"' in await who.text()
        form = {"code": "a b&c", "grant_type": "authorization_code"}
        code = await hub_fetch.fetch(f"{hub}/200", method="POST", data=form, **options)
        assert '"code": "a b&c"' in await code.text()
        used = await hub_fetch.fetch(f"{hub}/200", method="POST", data='{"servers": {}}', **options)
        assert "servers" in await used.text()

    run(scenario)


@pytest.mark.parametrize("status", [403, 500])
def test_a_refusal_is_an_answer_if_wanted(status: int) -> None:
    """JupyterHub looks at the status itself where it asks who somebody is."""

    async def scenario(hub: str) -> None:
        answer = await hub_fetch.fetch(f"{hub}/{status}", raise_for_status=False)
        assert answer.status == status
        with pytest.raises(HTTPClientError):
            await hub_fetch.fetch(f"{hub}/{status}")

    run(scenario)


def test_a_hub_that_is_away() -> None:
    """No answer is an error, as with aiohttp."""

    async def scenario(_: str) -> None:
        with pytest.raises(OSError, match="refused"):
            await hub_fetch.fetch("http://127.0.0.1:9/hub/api", raise_for_status=False)

    run(scenario)
