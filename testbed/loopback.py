"""Names below `localhost` reached on this machine, whatever its resolver makes of them.

Browsers take `*.localhost` to the loopback by themselves (RFC 6761); the C library of many
machines does not. Only the address is chosen here: the name is still what the server sees
(SNI, Host) and what its certificate is checked for.
"""

import socket
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
import websocket
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NewConnectionError
from urllib3.util.connection import create_connection

LOOPBACK = "127.0.0.1"


def address_of(host: str) -> str:
    """Where to connect for a host: the loopback for `*.localhost`, else the host itself."""
    return LOOPBACK if host.rstrip(".").lower().endswith(".localhost") else host


def session(verify: str | bool = True) -> requests.Session:
    """A browser-like session: keeps cookies, follows redirects, reaches `*.localhost`.

    Args:
        verify: What certificates are checked against, as `requests` takes it.
    """
    made = requests.Session()
    # Neither .netrc nor proxy variables of this machine may change what is judged.
    made.trust_env = False
    made.verify = verify
    for scheme in ("https://", "http://"):
        made.mount(scheme, _Adapter())
    return made


def connect_tls(
    host: str, port: int, *, verify: str | bool = True, timeout_s: float = 30,
    cut_raises: bool = False,
) -> ssl.SSLSocket:  # fmt: skip
    """An open TLS connection to a host, its certificate checked.

    Args:
        cut_raises: An end without TLS's own farewell raises `ssl.SSLEOFError`; by default it
            reads like any other end.

    Raises:
        OSError: No connection; `ssl.SSLError` where the certificate is not believed.
    """
    context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
    plain = socket.create_connection((address_of(host), port), timeout=timeout_s)
    try:
        return context.wrap_socket(plain, server_hostname=host, suppress_ragged_eofs=not cut_raises)
    except BaseException:
        plain.close()
        raise


def web_socket(
    url: str,
    *,
    header: Mapping[str, str],
    verify: str | bool = True,
    origin: str | None = None,
    timeout_s: float = 120,
) -> websocket.WebSocket:
    """An open web socket.

    Args:
        url: Its address as `http` or `https`.
        origin: What a browser would say that the page came from; none by default.

    Raises:
        OSError: No connection, or the certificate is not believed.
        websocket.WebSocketBadStatusException: The server refused it.
    """
    parts = urlsplit(url)
    host, tls = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    if tls:
        # Who cut a web socket is the first question: a process that died says no farewell.
        opened: socket.socket = connect_tls(
            host, port, verify=verify, timeout_s=timeout_s, cut_raises=True
        )
    else:
        opened = socket.create_connection((address_of(host), port), timeout=timeout_s)
    try:
        made: websocket.WebSocket = websocket.create_connection(
            "ws" + url.removeprefix("http"),
            header=dict(header),
            origin=origin,
            suppress_origin=origin is None,
            timeout=timeout_s,
            socket=opened,
        )
        made.settimeout(timeout_s)
        return made
    except BaseException:
        opened.close()
        raise


class _Reached(HTTPConnection):
    """A connection made to where `address_of` says."""

    def _new_conn(self) -> socket.socket:
        if address_of(self.host) == self.host:
            return super()._new_conn()
        try:
            return create_connection(
                (address_of(self.host), self.port or self.default_port),
                self.timeout,
                source_address=self.source_address,
                socket_options=self.socket_options,
            )
        except OSError as error:
            raise NewConnectionError(self, str(error)) from error


class _ReachedTls(_Reached, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Reached


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _ReachedTls


class _Adapter(HTTPAdapter):
    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **pool: Any
    ) -> None:
        self.poolmanager = PoolManager(num_pools=connections, maxsize=maxsize, block=block, **pool)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
