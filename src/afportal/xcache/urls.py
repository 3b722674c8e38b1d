"""Where data are read: through the facility's cache, over a connection of the token at hand."""

import hashlib
import os
import re
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

from afportal.xcache import tokens

_PORT = "1094"
_PAUSE_S = 30  # a cache that does not say is not asked at every file
# What people call the cache wherever they are, as at other facilities.
_ALIAS = "xcache"
_URL = re.compile(
    r"(?P<scheme>x?roots?)://(?:(?P<user>[^@/]*)@)?"
    r"(?P<host>\[[^]]*\]|[^:/?]+)(?::(?P<port>\d+))?(?P<rest>[/?].*)?",
    re.DOTALL,
)


@dataclass(frozen=True)
class Url:
    """A URL of an XRootD server, in its parts; `rest` is all behind the host."""

    scheme: str
    user: str
    host: str
    port: str
    rest: str

    @property
    def server(self) -> str:
        """Host and port, as servers are compared."""
        return _server(f"{self.host}:{self.port or _PORT}")

    def __str__(self) -> str:
        return "".join((
            f"{self.scheme}://",
            f"{self.user}@" if self.user else "",
            self.host,
            f":{self.port}" if self.port else "",
            self.rest,
        ))  # fmt: skip


def parse(url: str) -> Url | None:
    """The parts of a URL; nothing if it is not XRootD's."""
    found = _URL.fullmatch(url)
    return Url(**{name: part or "" for name, part in found.groupdict().items()}) if found else None


class Cache:
    """The facility's cache, and which far servers it stands for.

    Args:
        host: Its name, with a port if that is not 1094.
        origins: Names of the servers whose files it gives; empty: it is asked.
        ask: What the cache itself says of its origin.
    """

    def __init__(self, host: str, origins: frozenset[str], ask: Callable[[str], str]) -> None:
        self._url = parse(f"root://{host}")
        self._origins = frozenset(_server(name) for name in origins)
        self._ask = ask
        self._asking = threading.Lock()
        self._ask_again_s = 0.0
        self._addresses: set[str] = set()

    def through(self, url: str) -> str:
        """A file's URL at the cache; as it was if the cache does not have that server's files."""
        parts = parse(url)
        if parts is None or self._url is None or parts.server == self._url.server:
            return url
        if self._is_alias(parts) or parts.server in self._addresses | self.origins():
            return str(replace(parts, host=self._url.host, port=self._url.port))
        return url

    def at_origin(self, url: str) -> str:
        """A folder's URL at the origin, for what is at the cache: only an origin lists folders."""
        parts = parse(self.through(url))
        if parts is None or self._url is None or parts.server != self._url.server:
            return url
        origin = next(iter(sorted(self.origins())), None)
        if origin is None:
            return url
        host, _, port = origin.rpartition(":")
        return str(replace(parts, host=host, port="" if port == _PORT else port))

    def pinned(self, url: str) -> str:
        """The URL over a connection that was opened with the token of this moment.

        A server judges a token when a connection opens, and for as long as that one lasts. The
        client makes one connection for each user in a URL, whatever it is; so the user is made
        from the token. Whoever names a user is left alone.
        """
        parts = parse(url)
        if parts is None or parts.user or self._url is None:
            return url
        if parts.server != self._url.server and parts.server not in self._origins:
            return url
        token = tokens.find(os.environ)
        if not token.text:
            return url
        return str(replace(parts, user="t" + hashlib.sha256(token.text.encode()).hexdigest()[:7]))

    def remember(self, address: str) -> None:
        """The cache is at this address too: it said so itself."""
        self._addresses.add(_server(address))

    def origins(self) -> frozenset[str]:
        """The servers whose files the cache has; asked for until it has said so once."""
        with self._asking:
            now_s = time.monotonic()
            if not self._origins and self._url is not None and now_s >= self._ask_again_s:
                self._ask_again_s = now_s + _PAUSE_S
                answer = self._ask(self.pinned(str(self._url)))
                # A server that is no cache answers with the question.
                self._origins = frozenset(
                    _server(name) for name in answer.split() if name != "proxy"
                )
        return self._origins

    def _is_alias(self, url: Url) -> bool:
        # fsspec adds the port to every URL.
        return url.server == _server(_ALIAS)


def _server(name: str) -> str:
    # XRootD writes addresses of version 4 as if they were of version 6.
    plain = re.sub(r"\[::([\d.]+)\]", r"\1", name.lower())
    return plain if re.search(r":\d+$", plain) else f"{plain}:{_PORT}"


_caches: dict[tuple[str, str], Cache] = {}


def cache() -> Cache | None:
    """The cache that XCACHE_HOST names at this moment; nothing if it names none.

    XCACHE_ORIGINS (names with commas) says which servers' files it has, if not only those of
    the one that it names itself.
    """
    settings = os.environ.get("XCACHE_HOST", ""), os.environ.get("XCACHE_ORIGINS", "")
    if not settings[0]:
        return None
    if settings not in _caches:
        origins = frozenset(name.strip() for name in settings[1].split(",") if name.strip())
        _caches[settings] = Cache(settings[0], origins, _ask)
    return _caches[settings]


def through_cache(url: str) -> str:
    """The URL by which a file is read through the facility's cache (XCACHE_HOST).

    URLs of servers that the cache does not stand for come back as they are.
    """
    found = cache()
    return found.through(url) if found else url


def _ask(server: str) -> str:
    from afportal.xcache import client

    answer, words = client.origin_of(server)
    if not answer:
        warnings.warn(
            f"XCACHE_HOST: {server} does not say whose files it has ({words}); "
            "other servers' files are read past it",
            stacklevel=2,
        )
    return answer
