"""Small HTTP services that answer only to who holds a shared secret.

The minters (beside a scheduler's signing key) and the login node's agent are such
services: the hub signs each request with HMAC-SHA256 over method, path, time, nonce and
body. Standard library only, because they run beside the daemons, not in the portal's
environment.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 64 * 1024
CLOCK_SKEW_S = 60.0

_STAMP, _NONCE, _SIGNATURE = "X-Af-Stamp", "X-Af-Nonce", "X-Af-Signature"


class Refused(Exception):
    """The request was understood and is refused; `status` is the HTTP status."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Request:
    """One authenticated request: method, path and the decoded JSON object."""

    method: str
    path: str
    body: Mapping[str, Any]


def read_secret(path: str | Path) -> bytes:
    """Read a shared secret from a file.

    Raises:
        ValueError: the file holds fewer than 32 characters.
    """
    secret = Path(path).read_bytes().strip()
    if len(secret) < 32:
        raise ValueError(f"secret file {path} holds {len(secret)} bytes; at least 32 are needed")
    return secret


def listening(certificate: str | Path, key: str | Path) -> ssl.SSLContext:
    """Return the TLS context of a service; its files' owner alone can read the key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context


def _signature(secret: bytes, method: str, path: str, stamp: str, nonce: str, body: bytes) -> str:
    digest = hashlib.sha256(body).hexdigest()
    message = f"{method}\n{path}\n{stamp}\n{nonce}\n{digest}".encode()
    return hmac.new(secret, message, hashlib.sha256).hexdigest()


def sign(secret: bytes, method: str, path: str, body: bytes) -> dict[str, str]:
    """Return the headers that make a request acceptable to `SignedServer`."""
    stamp, nonce = f"{time.time():.3f}", secrets.token_hex(16)
    return {
        "Content-Type": "application/json",
        _STAMP: stamp,
        _NONCE: nonce,
        _SIGNATURE: _signature(secret, method, path, stamp, nonce, body),
    }


class _SeenNonces:
    """Nonces of the last two minutes, so that a captured request cannot be sent again."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}
        self._lock = threading.Lock()

    def first_time(self, nonce: str, now: float) -> bool:
        with self._lock:
            if len(self._seen) > 10_000:
                horizon = now - 2 * CLOCK_SKEW_S
                self._seen = {n: t for n, t in self._seen.items() if t > horizon}
            if nonce in self._seen:
                return False
            self._seen[nonce] = now
            return True


class SignedServer(ThreadingHTTPServer):
    """Serves `answer(request) -> JSON object` to signed requests only.

    Args:
        address: host and port to listen on.
        secret: the shared secret, at least 32 bytes.
        answer: called in a thread of its own for every request that is signed right;
            raises `Refused` for what it will not do.
        tls: what it listens with, the handshake in that thread as well; None: in clear.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self,
        address: tuple[str, int],
        secret: bytes,
        answer: Callable[[Request], Mapping[str, Any]],
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.secret = secret
        self.answer = answer
        self.nonces = _SeenNonces()
        super().__init__(address, _Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )


class _Handler(BaseHTTPRequestHandler):
    server: SignedServer
    protocol_version = "HTTP/1.1"
    timeout = 30

    def _check(self, body: bytes) -> None:
        headers = self.headers
        stamp, nonce = headers.get(_STAMP, ""), headers.get(_NONCE, "")
        expected = _signature(self.server.secret, self.command, self.path, stamp, nonce, body)
        if not hmac.compare_digest(expected, headers.get(_SIGNATURE, "")):
            raise Refused("not signed with this service's secret", 403)
        now = time.time()
        if abs(now - float(stamp)) > CLOCK_SKEW_S:
            raise Refused(f"signed at {stamp}, it is {now:.3f} here: clocks differ too much", 403)
        if not self.server.nonces.first_time(nonce, now):
            raise Refused("this request was sent before", 403)

    def _serve(self) -> None:
        try:
            length = int(self.headers.get("Content-Length") or 0)
            if length > MAX_BODY_BYTES:
                self.close_connection = True
                raise Refused(f"body of {length} bytes; at most {MAX_BODY_BYTES} are taken", 413)
            raw = self.rfile.read(length)
            self._check(raw)
            body = json.loads(raw or b"{}")
            if not isinstance(body, dict):
                raise Refused("the body must be a JSON object")
            status, answer = 200, dict(self.server.answer(Request(self.command, self.path, body)))
        except Refused as error:
            log.warning(
                "refused %s %s from %s: %s", self.command, self.path, self.client_address[0], error
            )
            status, answer = error.status, {"error": str(error)}
        except ValueError as error:
            status, answer = 400, {"error": f"not understood: {error}"}
        except Exception:
            log.exception("failed on %s %s", self.command, self.path)
            status, answer = 500, {"error": "failed; see this service's log"}
        payload = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - http.server looks for these names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base has it
        log.debug(format, *args)
