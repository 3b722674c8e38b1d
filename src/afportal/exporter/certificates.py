"""Until when the certificates are good that services really show.

Source of XRootD's way into TLS: "XRootD Protocol", 5.0, kXR_protocol and kXR_gotoTLS.
"""

from __future__ import annotations

import json
import logging
import socket
import ssl
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

log = logging.getLogger("afportal.exporter")

TIMEOUT_S = 5
_PROTOCOL, _ABLE_TLS, _WANT_TLS, _EXPECT_LOGIN, _GO_TO_TLS = 3006, 2, 4, 3, 0x40000000


@dataclass(frozen=True)
class Endpoint:
    """A service that listens with TLS.

    Args:
        name: how the figures call it.
        address: "host:port", or "root://host:port" of an XRootD server.
        authority: file of the authority that its certificate must be of.
    """

    name: str
    address: str
    authority: Path

    def good_until(self) -> float:
        """Return when the certificate ends that it shows now, in unix seconds.

        Raises:
            OSError: no answer, or a certificate that is not believed (`ssl.SSLError`).
        """
        host, _, port = self.address.removeprefix("root://").rpartition(":")
        context = ssl.create_default_context(cafile=str(self.authority))
        with socket.create_connection((host, int(port)), TIMEOUT_S) as plain:
            if self.address.startswith("root://"):
                _ask_for_tls(plain)
            with context.wrap_socket(plain, server_hostname=host) as secured:
                shown = secured.getpeercert() or {}
        return float(ssl.cert_time_to_seconds(str(shown["notAfter"])))


class Certificates:
    """All certificates that are to be watched.

    Args:
        endpoints: those that are always there.
        hubs: file of Prometheus' targets with the hubs of the moment; None: no hubs.
        hubs_authority: file of the authority that hubs' certificates are of.
    """

    name = "certificates"

    def __init__(
        self, endpoints: Sequence[Endpoint], hubs: Path | None, hubs_authority: Path
    ) -> None:
        self._endpoints = tuple(endpoints)
        self._hubs = hubs
        self._hubs_authority = hubs_authority
        self._wrong: Mapping[str, str] = {}

    def read(self) -> list[Metric]:
        """Connect to each once."""
        believed = GaugeMetricFamily(
            "tls_certificate_believed",
            "Whether a service answered with a certificate that its callers believe",
            labels=["service"],
        )
        ends = GaugeMetricFamily(
            "tls_certificate_end_timestamp_seconds",
            "When that certificate ends",
            labels=["service"],
        )
        wrong = {}
        for endpoint in (*self._endpoints, *self._of_hubs()):
            try:
                until = endpoint.good_until()
            except (OSError, ValueError, LookupError) as error:
                wrong[endpoint.name] = str(error)
                believed.add_metric([endpoint.name], 0)
                continue
            believed.add_metric([endpoint.name], 1)
            ends.add_metric([endpoint.name], until)
        for name in sorted({*wrong} - {*self._wrong}):
            log.warning("certificate of %s: %s", name, wrong[name])
        self._wrong = wrong
        return [believed, ends]

    def _of_hubs(self) -> list[Endpoint]:
        if self._hubs is None:
            return []
        groups = json.loads(self._hubs.read_text())
        return [
            Endpoint(address.rpartition(":")[0], address, self._hubs_authority)
            for group in groups
            for address in group["targets"]
        ]


def _ask_for_tls(plain: socket.socket) -> None:
    """Have an XRootD server go on with TLS. Raises `OSError` if it does not."""
    plain.sendall(
        struct.pack(">5i", 0, 0, 0, 4, 2012)
        + struct.pack(
            ">2sHiBB10xi", b"\0\1", _PROTOCOL, 0x511, _ABLE_TLS | _WANT_TLS, _EXPECT_LOGIN, 0
        )
    )
    with plain.makefile("rb", buffering=0) as answers:
        _answer(answers)  # to the first five numbers
        _, flags = struct.unpack(">iI", _answer(answers)[:8])
    if not flags & _GO_TO_TLS:
        raise OSError("this XRootD server does not offer TLS")


def _answer(stream: socket.SocketIO) -> bytes:
    _, status, length = struct.unpack(">2sHi", _exactly(stream, 8))
    if status != 0 or not 0 <= length < 4096:
        raise OSError(f"XRootD answers with status {status}")
    return _exactly(stream, length)


def _exactly(stream: socket.SocketIO, count: int) -> bytes:
    found = b""
    while len(found) < count:
        more = stream.read(count - len(found))
        if not more:
            raise OSError("the connection was closed")
        found += more
    return found
