"""The clusters of JupyterLab's Dask side bar, in a process of their own.

    python -m afportal.dask.side_bar SOCKET

A scheduler that is busy keeps nobody from typing in a notebook, and a server whose person never
touches the side bar never loads Dask. The server (`afportal.session.dask_side_bar`) asks over a
Unix socket: one line of JSON each way, `{"deed": NAME, …}` and `{"is": …}` or `{"error": WORDS}`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from inspect import isawaitable
from typing import Any

from afportal.dask import ready_made

# The longest line: an address, a name, some numbers.
_MOST_BYTES = 64 * 1024


class SideBar:
    """The clusters that this process has, by the side bar's key of each."""

    def __init__(self) -> None:
        self._clusters: dict[str, Any] = {}
        self._titles: dict[str, str] = {}
        self._adaptive: dict[str, Any] = {}

    async def begin(self, entry: str, key: str = "", title: str = "", port: int = 0) -> Any:
        """Start a cluster that grows and shrinks with the work; returns it as it is shown.

        Args:
            entry: which of the ready-made ones it is like.
            key: its UUID; by default a new one.
            title: as it is shown; by default the scheduler's, with a number.
            port: the scheduler's; by default any that is free.
        """
        from afportal import dask

        made = next(each for each in ready_made.ENTRIES if each.cluster == entry)
        key = key or str(uuid.uuid4())
        # The socket of its pages is called like it.
        options = {"port": port} if port else {}
        cluster = getattr(dask, entry)(name=key, asynchronous=True, scheduler_options=options)
        await cluster
        self._clusters[key] = cluster
        self._titles[key] = title or f"{made.title} {len(self._clusters)}"
        self._adaptive[key] = cluster.adapt()
        return self._shown(key)

    async def scale(self, key: str, workers: int) -> Any:
        """Have so many workers, whatever there is to do."""
        if (adaptive := self._adaptive.pop(key, None)) is not None:
            adaptive.stop()
        done = self._clusters[key].scale(workers)
        if isawaitable(done):
            await done
        return self._shown(key)

    async def adapt(self, key: str, minimum: int, maximum: int) -> Any:
        """Have as many workers as there is work for, within these bounds."""
        if (adaptive := self._adaptive.pop(key, None)) is not None:
            adaptive.stop()
        self._adaptive[key] = self._clusters[key].adapt(minimum=minimum, maximum=maximum)
        return self._shown(key)

    async def close(self, key: str) -> Any:
        """End a cluster and its jobs."""
        cluster = self._clusters.pop(key)
        self._adaptive.pop(key, None)
        await cluster.close()
        return None

    async def all(self) -> Any:
        """Return every cluster as it is shown."""
        return [self._shown(key) for key in self._clusters]

    async def close_all(self) -> None:
        """End every cluster and its jobs."""
        await asyncio.gather(
            *(self.close(key) for key in list(self._clusters)), return_exceptions=True
        )

    def _shown(self, key: str) -> dict[str, Any]:
        from dask_labextension.manager import make_cluster_model

        shown: dict[str, Any] = make_cluster_model(
            key, self._titles[key], self._clusters[key], self._adaptive.get(key)
        )
        return shown

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Do what the server asks for."""
        try:
            asked = json.loads(await reader.readline())
            deed = _DEEDS[asked.pop("deed")]
            told = {"is": await deed(self, **asked)}
        except KeyError as error:
            told = {"error": f"no such cluster: {error}"}
        except Exception as error:
            told = {"error": str(error) or repr(error)}
        with suppress(ConnectionError):  # a server that no longer waits
            writer.write(json.dumps(told).encode() + b"\n")
            await writer.drain()
        writer.close()


_DEEDS: dict[str, Callable[..., Awaitable[Any]]] = {
    "begin": SideBar.begin,
    "scale": SideBar.scale,
    "adapt": SideBar.adapt,
    "close": SideBar.close,
    "all": SideBar.all,
}


async def serve(path: str) -> None:
    """Answer until the process is asked to end, or the server that started it is gone."""
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    # The server holds the other end of standard input: that closes, however it ends.
    loop.add_reader(0, lambda: over.set() if not os.read(0, 1) else None)
    bar = SideBar()
    server = await asyncio.start_unix_server(bar.answer, path, limit=_MOST_BYTES)
    print("ready", flush=True)
    await over.wait()
    server.close()
    await bar.close_all()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
