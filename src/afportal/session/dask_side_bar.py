"""JupyterLab's Dask side bar, without Dask in the server.

The side bar (dask-labextension) asks a server extension of that name, which loads distributed and
bokeh into every server. Here the same addresses are answered in its place: before anybody has
used a cluster from what is ready-made, then by a process that has the clusters
(`afportal.dask.side_bar`). It begins with the first client that connects to a ready-made one, or
with a click.

Source: dask-labextension 7.0, `clusterhandler.py`, `dashboardhandler.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from jupyter_server.base.handlers import APIHandler, JupyterHandler
from jupyter_server.utils import url_path_join
from tornado import web

from afportal.dask import ready_made

# Dask's import, and all that a cluster begins with, on a node that is full
_START_TIMEOUT_S = 300.0
_ANSWER_TIMEOUT_S = 300.0
_NAME = r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,59})"


class NotDone(Exception):
    """The process does not do it; the message is for the person."""


class SideBar:
    """What the side bar shows: ready-made clusters, and those of the process once it runs."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._socket = ready_made.pages() / "side-bar.sock"
        self._process: asyncio.subprocess.Process | None = None
        self._starting = asyncio.Lock()
        self._tasks: set[asyncio.Future[None]] = set()
        self._waiting: dict[str, socket.socket] = {}
        for entry in ready_made.here():
            self._wait_for_client(entry)

    def _wait_for_client(self, entry: ready_made.Entry) -> None:
        """Keep a port for a ready-made cluster: its first client starts it."""
        listener = socket.create_server((ready_made.node_address(), 0))
        listener.setblocking(False)
        self._waiting[entry.cluster] = listener

        def called() -> None:
            self._tasks.add(task := asyncio.ensure_future(self._begin_told(entry)))
            task.add_done_callback(self._tasks.discard)
            asyncio.get_running_loop().remove_reader(listener)

        asyncio.get_running_loop().add_reader(listener, called)

    async def _begin_told(self, entry: ready_made.Entry) -> None:
        try:
            await self.begin(entry)
        except (NotDone, OSError) as error:
            self._log.error("the cluster %s does not begin: %s", entry.title, error)
            if entry.cluster not in self._waiting:
                self._wait_for_client(entry)

    async def begin(self, entry: ready_made.Entry) -> Any:
        """Start a ready-made cluster at the port that was kept for it."""
        listener = self._waiting.pop(entry.cluster, None)
        if listener is None:
            return await self.ask("begin", entry=entry.cluster)
        asyncio.get_running_loop().remove_reader(listener)
        try:
            await self._run()
        finally:
            # A client that is waiting here is refused now, and tries again until it is there.
            port = listener.getsockname()[1]
            listener.close()
        return await self.ask(
            "begin", entry=entry.cluster, key=entry.key, title=entry.title, port=port
        )

    async def shown(self) -> list[dict[str, Any]]:
        """Return all clusters as the side bar shows them."""
        waiting = [
            entry.model("tls://{}:{}".format(*self._waiting[entry.cluster].getsockname()[:2]))
            for entry in ready_made.ENTRIES
            if entry.cluster in self._waiting
        ]
        running = await self.ask("all") if self._runs() else []
        return [*waiting, *running]

    async def close(self, key: str) -> None:
        """End a cluster; a ready-made one is ready again."""
        if any(entry.key == key for entry in self._idle()):
            return
        await self.ask("close", key=key)
        for entry in ready_made.here():
            if entry.key == key:
                self._wait_for_client(entry)

    async def change(self, key: str, wanted: dict[str, Any]) -> Any:
        """Scale a cluster, or have it adapt; a ready-made one begins with that."""
        for entry in self._idle():
            if entry.key == key:
                await self.begin(entry)
        if wanted.get("adapt") is not None:
            bounds = {name: int(wanted["adapt"][name]) for name in ("minimum", "maximum")}
            return await self.ask("adapt", key=key, **bounds)
        return await self.ask("scale", key=key, workers=int(wanted["workers"]))

    def _idle(self) -> list[ready_made.Entry]:
        return [entry for entry in ready_made.ENTRIES if entry.cluster in self._waiting]

    def _runs(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def _run(self) -> None:
        """Start the process unless it runs."""
        async with self._starting:
            if self._runs():
                return
            self._socket.parent.mkdir(mode=0o700, exist_ok=True)
            self._socket.unlink(missing_ok=True)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "afportal.dask.side_bar", str(self._socket),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                cwd=Path.home(),
            )  # fmt: skip
            try:
                async with asyncio.timeout(_START_TIMEOUT_S):
                    said = await process.stdout.readline() if process.stdout else b""
            except TimeoutError:
                said = b""
            if said.strip() != b"ready":
                with suppress(ProcessLookupError):
                    process.kill()
                raise NotDone("Dask's process does not start; the server's log says why")
            self._process = process

    async def ask(self, deed: str, **what: Any) -> Any:
        """Have the process do something. Raises NotDone."""
        await self._run()
        reader, writer = await asyncio.open_unix_connection(str(self._socket))
        try:
            writer.write(json.dumps({"deed": deed, **what}).encode() + b"\n")
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                told = json.loads(await reader.readline() or b'{"error": "it has ended"}')
        except TimeoutError:
            raise NotDone(f"Dask's process: no answer after {_ANSWER_TIMEOUT_S:g} s") from None
        finally:
            writer.close()
        if "error" in told:
            raise NotDone(told["error"])
        return told["is"]


class ClustersHandler(APIHandler):
    """The clusters, as dask-labextension's page asks for them."""

    def initialize(self, side_bar: SideBar) -> None:
        self.side_bar = side_bar

    def _refused(self, error: Exception) -> web.HTTPError:
        return web.HTTPError(500, str(error), reason=re.sub(r"[^ -~]+", " ", str(error))[:300])

    @web.authenticated
    async def get(self, name: str = "") -> None:
        """Tell of all, or of one."""
        try:
            shown = await self.side_bar.shown()
        except (NotDone, OSError) as error:
            raise self._refused(error) from error
        if not name:
            self.finish(json.dumps(shown))
            return
        for model in shown:
            if model["id"] == name:
                self.finish(model)
                return
        raise web.HTTPError(404, f"no cluster {name}")

    @web.authenticated
    async def put(self, name: str = "") -> None:
        """Make one more, at the scheduler that is first among the ready-made."""
        entries = ready_made.here()
        if not entries:
            raise web.HTTPError(404, "no scheduler for Dask's workers in this session")
        try:
            self.finish(await self.side_bar.ask("begin", entry=entries[0].cluster, key=name))
        except (NotDone, OSError) as error:
            raise self._refused(error) from error

    @web.authenticated
    async def patch(self, name: str) -> None:
        """Change how many workers one has."""
        try:
            self.finish(await self.side_bar.change(name, json.loads(self.request.body)))
        except (KeyError, TypeError, ValueError) as error:
            raise web.HTTPError(
                400, f"workers, or adapt with minimum and maximum: {error}"
            ) from error
        except (NotDone, OSError) as error:
            raise self._refused(error) from error

    @web.authenticated
    async def delete(self, name: str) -> None:
        """End one."""
        try:
            await self.side_bar.close(name)
        except (NotDone, OSError) as error:
            raise self._refused(error) from error
        self.set_status(204)


class _Later(JupyterHandler):
    """Stands for a handler whose module is loaded with the first request for it."""

    def __new__(cls, *args: Any, **options: Any) -> Any:
        from afportal.session import dask_pages

        return dask_pages.PagesHandler(*args, **options)


class CheckHandler(APIHandler):
    """Whether an address elsewhere, which somebody typed, is a cluster's pages: nothing is asked
    there. Those of this server are looked at by the page itself."""

    @web.authenticated
    async def get(self, url: str) -> None:
        """Tell that it is not."""
        self.finish({"url": url, "isActive": False, "plots": {}})


def put_in(server: Any) -> None:
    """Answer in place of dask-labextension, where this session can have clusters."""
    if not (os.environ.get("AF_SECRETS") and ready_made.here()):
        return
    base = server.web_app.settings["base_url"]
    side_bar = SideBar(server.log)
    clusters = {"side_bar": side_bar}

    def at(pattern: str) -> str:
        return str(url_path_join(base, pattern))

    server.web_app.add_handlers(
        ".*$",
        [
            (at("dask/clusters/?"), ClustersHandler, clusters),
            (at(f"dask/clusters/{_NAME}"), ClustersHandler, clusters),
            (at("dask/dashboard-check/(?P<url>.+)"), CheckHandler),
            (at(f"{ready_made.PAGES}/{_NAME}(?P<path>/.*)?"), _Later),
        ],
    )
