"""Who speaks to whom inside a cell, tried with real handshakes on loopback."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from tornado.netutil import ssl_options_to_context

from afportal import tls
from afportal.session import __main__ as session
from afportal.session import hub_tls
from afportal.signed_http import listening
from tests.afportal import authorities

ADDRESS = "127.0.0.1"
CODE = "c" * 43
LIFETIME_S = 3600


@pytest.fixture
def inside(tmp_path: Path) -> authorities.Pair:
    """The authority of the services."""
    made = authorities.authority("inside")
    made.write(tmp_path / "inside", "ca")
    return made


@pytest.fixture
def cell(tmp_path: Path, inside: authorities.Pair) -> tls.CellTls:
    """One cell."""
    authorities.cell(tmp_path / "cell", "htc-1", inside)
    return tls.CellTls(tmp_path / "inside/ca.pem", tmp_path / "cell")


@pytest.fixture
def neighbour(tmp_path: Path, inside: authorities.Pair) -> tls.CellTls:
    """Another cell of the same facility."""
    authorities.cell(tmp_path / "neighbour", "htc-2", inside)
    return tls.CellTls(tmp_path / "inside/ca.pem", tmp_path / "neighbour")


class Exchange(BaseHTTPRequestHandler):
    """A hub's /exchange; keeps the bodies that it heard."""

    heard: list[bytes]

    def do_POST(self) -> None:
        self.heard.append(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps({"environment": {}, "files": {}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextlib.contextmanager
def hub(context: ssl.SSLContext) -> Iterator[tuple[int, list[bytes]]]:
    """A hub that listens with this certificate: its port, and what it heard."""
    heard: list[bytes] = []
    handler = type("Handler", (Exchange,), {"heard": heard})
    server = HTTPServer((ADDRESS, 0), handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1], heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_code_goes_to_the_hub(cell: tls.CellTls) -> None:
    """A hub with a certificate of the authority on the session's command line gets the code."""
    with hub(cell.listening()) as (port, heard):
        answer = session.exchange(
            f"https://localhost:{port}", CODE, 0.0, authority=cell.authority_argument
        )
    assert answer == {"environment": {}, "files": {}}
    assert json.loads(heard[0])["code"] == CODE


@pytest.mark.parametrize("name", ["localhost", "hub-htc-1"])
def test_the_code_goes_to_nobody_else(
    cell: tls.CellTls, inside: authorities.Pair, tmp_path: Path, name: str
) -> None:
    """Another authority's certificate for the right name, or the right one's for another name,
    ends the session at once: no code is sent, and nothing is tried again."""
    issuer = authorities.authority("impostor") if name == "localhost" else inside
    authorities.certificate(issuer, name).write(tmp_path, "false")
    with (
        hub(listening(tmp_path / "false.pem", tmp_path / "false.key")) as (port, heard),
        pytest.raises(session.SessionError, match="not the hub"),
    ):
        session.exchange(f"https://localhost:{port}", CODE, 0.0, authority=cell.authority_argument)
    assert heard == []


def test_what_is_no_certificate_is_refused() -> None:
    """A command line that was cut short is told as that."""
    with pytest.raises(session.SessionError, match="is no certificate"):
        session.exchange("https://localhost:1", CODE, 0.0, authority="AAAA")


def write(folder: Path, files: dict[str, str]) -> None:
    """As a session keeps them."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def test_later_requests_believe_the_same(
    cell: tls.CellTls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the secrets are written, the authority among them is the only one that counts."""
    write(tmp_path / "secrets", cell.server_files(ADDRESS, LIFETIME_S))
    monkeypatch.setenv("AF_SECRETS", str(tmp_path / "secrets"))
    hub_tls.context.cache_clear()
    believed = hub_tls.context().get_ca_certs()
    hub_tls.context.cache_clear()
    assert [dict(part[0] for part in one["subject"]) for one in believed] == [
        {"commonName": "inside"}
    ]


# A person's server


@contextlib.contextmanager
def server(files: dict[str, str], folder: Path) -> Iterator[int]:
    """A person's server as JupyterHub's extension and tornado set it up: its port."""
    write(folder, files)
    context = ssl_options_to_context(
        {
            "certfile": str(folder / tls.SERVER_CERTIFICATE),
            "keyfile": str(folder / tls.SERVER_KEY),
            "ca_certs": str(folder / tls.CLIENT_AUTHORITY),
            "cert_reqs": ssl.CERT_REQUIRED,
        },
        server_side=True,
    )
    with socket.create_server((ADDRESS, 0)) as listener:
        listener.settimeout(10)

        def answer_one() -> None:
            with contextlib.suppress(OSError), listener.accept()[0] as connection:
                connection.settimeout(10)
                with context.wrap_socket(connection, server_side=True) as secure:
                    secure.sendall(b"hello")

        thread = threading.Thread(target=answer_one)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def hears(port: int, context: ssl.SSLContext) -> bytes:
    """What a caller with this context hears from a server; raises what it meets."""
    with (
        socket.create_connection((ADDRESS, port), 10) as plain,
        context.wrap_socket(plain, server_hostname=ADDRESS) as secure,
    ):
        return secure.recv(5)


def test_hub_and_proxy_reach_a_server(cell: tls.CellTls, tmp_path: Path) -> None:
    """The cell's own certificate opens it, and its own is believed at its address."""
    with server(cell.server_files(ADDRESS, LIFETIME_S), tmp_path / "secrets") as port:
        assert hears(port, cell.asking()) == b"hello"


def _bare(cell: tls.CellTls, folder: Path) -> ssl.SSLContext:
    """A caller who believes the server but has nothing to show."""
    write(folder, cell.server_files(ADDRESS, LIFETIME_S))
    return tls.asking(folder / tls.CLIENT_AUTHORITY)


def test_nobody_without_a_certificate_reaches_a_server(cell: tls.CellTls, tmp_path: Path) -> None:
    """Somebody on the same node does not get as far as a request."""
    with (
        server(cell.server_files(ADDRESS, LIFETIME_S), tmp_path / "secrets") as port,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        assert hears(port, _bare(cell, tmp_path / "other")) != b""


def test_a_servers_own_certificate_opens_no_other(cell: tls.CellTls, tmp_path: Path) -> None:
    """What one person's session holds is good for being called, not for calling."""
    other = _bare(cell, tmp_path / "other")
    other.load_cert_chain(
        tmp_path / "other" / tls.SERVER_CERTIFICATE, tmp_path / "other" / tls.SERVER_KEY
    )
    with (
        server(cell.server_files(ADDRESS, LIFETIME_S), tmp_path / "secrets") as port,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        assert hears(port, other) != b""


def test_another_cell_neither_reaches_nor_believes_a_server(
    cell: tls.CellTls, neighbour: tls.CellTls, tmp_path: Path
) -> None:
    """Cells do not touch each other's servers, in both directions of a handshake."""
    with (
        server(cell.server_files(ADDRESS, LIFETIME_S), tmp_path / "secrets") as port,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        hears(port, neighbour.asking())
    caller = _bare(cell, tmp_path / "other")
    caller.load_cert_chain(
        tmp_path / "neighbour/client/tls.pem", tmp_path / "neighbour/client/tls.key"
    )
    with (
        server(cell.server_files(ADDRESS, LIFETIME_S), tmp_path / "secrets") as port,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        assert hears(port, caller) != b""


def test_a_server_is_believed_at_its_own_address_only(cell: tls.CellTls, tmp_path: Path) -> None:
    """A certificate for one node is worth nothing on another."""
    with (
        server(cell.server_files("127.0.0.2", LIFETIME_S), tmp_path / "secrets") as port,
        pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"),
    ):
        hears(port, cell.asking())


def test_a_server_cannot_pass_for_a_service(cell: tls.CellTls, tmp_path: Path) -> None:
    """The cell's authority is not believed for a name, were it stolen and signed one."""
    key = (tmp_path / "cell/authority/ca.key").read_bytes()
    own = authorities.Pair(
        x509.load_pem_x509_certificate((tmp_path / "cell/authority/ca.pem").read_bytes()),
        authorities.serialization.load_pem_private_key(key, None),  # type: ignore[arg-type]
    )
    authorities.certificate(own, "localhost").write(tmp_path, "false")
    with (
        hub(listening(tmp_path / "false.pem", tmp_path / "false.key")) as (port, _),
        socket.create_connection((ADDRESS, port), 10) as plain,
        pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree"),
    ):
        cell.asking().wrap_socket(plain, server_hostname="localhost")


def test_what_a_server_gets(cell: tls.CellTls) -> None:
    """A key of its own each time, for one address, for as long as its job may run."""
    first, second = (cell.server_files("192.0.2.7", LIFETIME_S) for _ in range(2))
    assert first[tls.SERVER_KEY] != second[tls.SERVER_KEY]
    made = x509.load_pem_x509_certificate(first[tls.SERVER_CERTIFICATE].encode())
    (name,) = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert str(name.value) == "192.0.2.7"
    left = made.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(seconds=LIFETIME_S - 60) < left <= timedelta(seconds=LIFETIME_S)
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
