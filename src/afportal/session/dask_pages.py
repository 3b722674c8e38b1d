"""A Dask cluster's pages, from the socket in the session's folder to the person's browser.

Loaded when somebody first looks at them: jupyter-server-proxy brings an HTTP client of its own.
"""

from __future__ import annotations

from typing import Any

from jupyter_server_proxy.handlers import ProxyHandler

from afportal.dask import ready_made


class PagesHandler(ProxyHandler):
    """Hands pages and their web sockets on, to whoever may be in this server.

    Each is a web socket's handler, also a plain page: what a helper has open of either ends with
    the help (`hub_auth`).
    """

    def _of(self, name: str) -> None:
        self.unix_socket = str(ready_made.pages() / f"{name}.sock")

    async def proxy(self, name: str, path: str | None = None) -> Any:
        self._of(name)
        return await super().proxy("localhost", 0, path or "/")

    async def http_get(self, name: str, path: str | None = None) -> Any:
        return await self.proxy(name, path)

    async def open(self, name: str, path: str | None = None) -> Any:
        self._of(name)
        return await super().proxy_open("localhost", 0, path or "/")

    post = put = delete = head = patch = options = proxy
