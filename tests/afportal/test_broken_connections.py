"""What a TLS connection's end does to its neighbours.

Older Pythons than the hubs' leave no error behind by themselves, and show nothing here: there is
a scenario with the hubs themselves in test_tls_inside.py.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path

import pytest

from afportal.broken_connections import stay_apart
from afportal.signed_http import listening
from tests.afportal import authorities


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    monkeypatch.setattr(ssl.SSLContext, "sslsocket_class", ssl.SSLContext.sslsocket_class)
    stay_apart()
    authorities.certificate(authorities.authority("inside"), "hub").write(tmp_path, "tls")
    return listening(tmp_path / "tls.pem", tmp_path / "tls.key")


def connection(server: ssl.SSLContext) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    """Return both ends, the handshake over, nothing under way."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    here = server.wrap_socket(ends[0], server_side=True, do_handshake_on_connect=False)
    there = trusting.wrap_socket(ends[1], do_handshake_on_connect=False)
    for _ in range(3):
        for end in (there, here):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert here.version() == there.version() == "TLSv1.3"
    with pytest.raises(ssl.SSLWantReadError):  # the tickets are taken, or the end is a reset
        there.recv(1)
    return here, there


def test_a_broken_connection_breaks_no_other(server: ssl.SSLContext) -> None:
    broken, its_peer = connection(server)
    well, peer = connection(server)
    its_peer.close()
    with contextlib.suppress(BrokenPipeError):
        assert broken.recv(1) == b""
    with pytest.raises(ssl.SSLWantReadError):
        well.recv(1)
    peer.send(b"a")
    assert well.recv(1) == b"a"
