"""A whole JupyterHub in a thread of the test's own process, with the tests' stand-ins beside it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import requests
from jupyterhub.app import JupyterHub
from tornado import httpserver, netutil, web
from traitlets.config import Config

T = TypeVar("T")
START_TIMEOUT_S = 60


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run a coroutine there and return what it gives."""

        async def run() -> T:
            return await work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(START_TIMEOUT_S)

    def listen(self, application: web.Application, port: int = 0) -> str:
        """Serve an application on loopback, on a free port by default; returns its address."""

        async def begin() -> str:
            sockets = netutil.bind_sockets(port, "127.0.0.1")
            httpserver.HTTPServer(application).add_sockets(sockets)
            return f"http://127.0.0.1:{sockets[0].getsockname()[1]}"

        return self.call(begin)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


class RunningHub:
    """A hub that answers at `url`, without a proxy; pages are under `url`/hub/."""

    def __init__(self, loop: Loop, app: JupyterHub, url: str) -> None:
        self.loop = loop
        self.app = app
        self.url = url

    def database(self, look: Callable[[Any], T]) -> T:
        """Look into the hub's database, in its own thread."""

        async def run() -> T:
            return look(self.app.db)

        return self.loop.call(run)

    def browser(self) -> requests.Session:
        """A session of its own cookies."""
        session = requests.Session()
        session.trust_env = False
        return session


@contextlib.contextmanager
def running_hub(folder: Path, config: Config, loop: Loop, port: int = 0) -> Iterator[RunningHub]:
    """Start a hub with this configuration; what it keeps goes below the folder.

    Args:
        port: where it listens; 0: anywhere.
    """
    config.JupyterHub.db_url = f"sqlite:///{folder}/hub.sqlite"
    config.JupyterHub.cookie_secret = bytes(32)
    (folder / "empty.py").touch()
    config.JupyterHub.config_file = str(folder / "empty.py")
    config.JupyterHub.log_level = "WARN"
    config.ConfigurableHTTPProxy.should_start = False
    config.ConfigurableHTTPProxy.auth_token = "t" * 32
    config.CryptKeeper.keys = [bytes(range(32))]

    async def begin() -> JupyterHub:
        JupyterHub.clear_instance()
        app = JupyterHub.instance(config=config)
        await app.initialize([])
        return app

    app = loop.call(begin)
    try:
        url = loop.listen(app.tornado_application, port)
        yield RunningHub(loop, app, f"{url}{app.base_url.rstrip('/')}")
    finally:

        async def end() -> None:
            app.db.close()
            JupyterHub.clear_instance()

        loop.call(end)
