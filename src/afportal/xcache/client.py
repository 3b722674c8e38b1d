"""What stands in front of the XRootD client's classes: URLs on the way in, reasons on the way out.

It is put around `pyxrootd.client`, the lowest layer in Python, so that XRootD.client,
fsspec-xrootd, uproot and coffea need not know of it (`afportal.import_hook`).
"""

import os
import time
from collections.abc import Callable
from typing import Any

from afportal.xcache import reasons, urls

# XRootD.client.flags: OpenFlags DELETE, NEW, UPDATE, MAKEPATH, APPEND, WRITE; QueryCode.CONFIG
_WRITING = 0x0002 | 0x0008 | 0x0020 | 0x0100 | 0x0200 | 0x8000
_CONFIG = 7
_ANSWER_TIMEOUT_S = 10
# What a cache answers as its origin would. The rest goes where the URL says.
_READS = frozenset({"stat", "cat", "locate", "deeplocate", "query"})
# Beside these the client's defaults have a person wait for many minutes for a server that is
# gone, and refuse a server that is back for half an hour. Its own settings in the environment
# (XRD_CONNECTIONWINDOW …) count before these.
SETTINGS = {"ConnectionWindow": 10, "ConnectionRetry": 2, "StreamErrorWindow": 5}

_unwrapped: dict[str, Any] = {}


def wrap(module: Any) -> None:
    """Put the classes here in place of those in `pyxrootd.client`."""
    if _unwrapped:
        return
    _unwrapped.update(File=module.File, FileSystem=module.FileSystem)
    for name, value in SETTINGS.items():
        module.EnvPutInt_cpp(name, value)
    module.File = _file_class(module.File)
    module.FileSystem = FileSystem
    module.CopyProcess = _copy_class(module.CopyProcess)


def origin_of(server: str) -> tuple[str, str]:
    """The origin that a cache names, and what was said instead if it names none."""
    import pyxrootd.client

    file_system = _unwrapped.get("FileSystem", pyxrootd.client.FileSystem)
    status, answer = file_system(server).query(_CONFIG, "proxy", _ANSWER_TIMEOUT_S)
    if not status["ok"]:
        return "", reasons.explained(server, status, os.environ, time.time())["message"]
    return answer.decode().strip("\0\n "), ""


def _for_reading(url: str) -> str:
    cache = urls.cache()
    return cache.pinned(cache.through(url)) if cache else url


def _called(url: str, method: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call a method of the client; a refusal comes back with its reason, at once or later."""

    def told(status: Any) -> Any:
        if isinstance(status, dict) and not status["ok"]:
            return reasons.explained(url, status, os.environ, time.time())
        return status

    def later(callback: Callable[..., Any]) -> Callable[..., Any]:
        return lambda status, *rest: callback(told(status), *rest)

    answer = method(*(later(each) if callable(each) else each for each in arguments))
    return (told(answer[0]), *answer[1:]) if isinstance(answer, tuple) else told(answer)


def _file_class(base: Any) -> Any:
    class File(base):
        """A file that is read through the cache, if that has it."""

        url = ""  # as it was named at open

        def open(self, url: str, flags: int = 0, *arguments: Any) -> Any:
            self.url = url
            there = url if flags & _WRITING else _for_reading(url)
            return _called(url, super().open, (there, flags, *arguments))

        def read(self, *arguments: Any) -> Any:
            return _called(self.url, super().read, arguments)

        def vector_read(self, *arguments: Any) -> Any:
            return _called(self.url, super().vector_read, arguments)

        def stat(self, *arguments: Any) -> Any:
            return _called(self.url, super().stat, arguments)

    return File


class FileSystem:
    """A server, or the cache in its place; asked over a connection of the token at hand."""

    def __init__(self, url: str) -> None:
        self._as_named = url
        self._there: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        method = getattr(self._server(name), name)
        if not callable(method):
            return method
        return lambda *arguments: self._told(name, method, arguments)

    def copy(self, source: str, target: str, force: bool = False) -> Any:
        server = self._server("copy")
        return _called(source, server.copy, (_for_reading(source), target, force))

    def _server(self, name: str) -> Any:
        url, cache = self._as_named, urls.cache()
        if cache and name in _READS:
            url = cache.pinned(cache.through(url))
        elif cache and name == "dirlist":
            url = cache.pinned(cache.at_origin(url))
        if url not in self._there:
            # The last two: while one token follows another, both may be asked with.
            self._there = dict(list(self._there.items())[-1:])
            self._there[url] = _unwrapped["FileSystem"](url)
        return self._there[url]

    def _told(self, name: str, method: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        path = arguments[0] if arguments and isinstance(arguments[0], str) else ""
        if name in ("locate", "deeplocate"):
            arguments = tuple(_noting(each) if callable(each) else each for each in arguments)
        answer = _called(f"{self._as_named.rstrip('/')}/{path}", method, arguments)
        if name in ("locate", "deeplocate") and isinstance(answer, tuple):
            _note_addresses(*answer)
        return answer


def _noting(callback: Callable[..., Any]) -> Callable[..., Any]:
    def noted(status: Any, locations: Any, *rest: Any) -> Any:
        _note_addresses(status, locations)
        return callback(status, locations, *rest)

    return noted


def _note_addresses(status: Any, locations: Any) -> None:
    """Keep where the cache says that it is: fsspec-xrootd opens files there."""
    cache = urls.cache()
    if cache and status["ok"]:
        for location in locations or ():
            cache.remember(location["address"])


def _copy_class(base: Any) -> Any:
    class CopyProcess(base):
        """Copies whose sources are read through the cache."""

        def add_job(self, source: str, *arguments: Any) -> Any:
            return super().add_job(_for_reading(source), *arguments)

    return CopyProcess
