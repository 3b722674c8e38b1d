"""A TLS connection that breaks must break no other of its process.

OpenSSL keeps a queue of errors for each thread, and asks it, before anything else, why a read
came back empty. CPython (seen with 3.13.5; python/cpython#148594) raises the operating system's
error of a connection that broke, ECONNRESET or EPIPE, and leaves OpenSSL's own in that queue. The
next read in this thread that finds nothing yet, of whatever connection, is then told of an end of
file that was never there, and tornado closes it: its caller sees a connection closed in
mid-request, and a proxy in between says 503.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable
from typing import Any

_AT_WORK = ("do_handshake", "read", "send", "write")
_spare = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def stay_apart() -> None:
    """Have every TLS socket that this process makes from now on leave no error behind.

    For processes with many connections in one thread, called once where they begin. asyncio's
    own TLS goes through memory, where the operating system has no errors: it leaves none.
    """
    kind = ssl.SSLContext.sslsocket_class
    if kind is None or "af_apart" in vars(kind):
        return
    methods = {name: _forgetting(getattr(kind, name)) for name in _AT_WORK}
    ssl.SSLContext.sslsocket_class = type(kind.__name__, (kind,), {**methods, "af_apart": True})


def _forgetting(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **options: Any) -> Any:
        try:
            return method(*args, **options)
        except ssl.SSLError:
            raise  # with these the ssl module empties the queue itself
        except OSError:
            # As it does where a connection begins, its only other call that does.
            _spare.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
            raise

    return call
