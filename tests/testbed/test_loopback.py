"""Names below localhost are reached here, under their own name, and nothing else changes."""

import base64
import hashlib
import http.server
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from testbed import browser, loopback
from testbed.errors import TestbedError

NAME = "hubs.af.localhost"


class EchoOfTheHost(http.server.BaseHTTPRequestHandler):
    """Answers with the name that it was asked by."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.headers["Host"].encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CA and a certificate for NAME."""
    folder = tmp_path_factory.mktemp("ca")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    (folder / "names").write_text(f"subjectAltName=DNS:{NAME}")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test CA")
    openssl("req", *curve, "-keyout", "tls.key", "-out", "tls.csr", "-subj", "/CN=x")
    openssl("x509", "-req", "-in", "tls.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-extfile", "names", "-out", "tls.pem")  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def port(authority: Path) -> Iterator[int]:
    """An HTTPS server that knows itself by NAME only."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), EchoOfTheHost)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "tls.pem", authority / "tls.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("host", "address"),
    [
        (NAME, "127.0.0.1"),
        ("API.AF.LocalHost.", "127.0.0.1"),
        ("localhost", "localhost"),
        ("localhost.example.org", "localhost.example.org"),
        ("notlocalhost", "notlocalhost"),
    ],
)
def test_only_names_below_localhost_are_taken(host: str, address: str) -> None:
    assert loopback.address_of(host) == address


def test_the_server_sees_its_own_name(authority: Path, port: int) -> None:
    with loopback.session(str(authority / "ca.pem")) as session:
        answer = session.get(f"https://{NAME}:{port}/")
    assert answer.text == f"{NAME}:{port}"
    assert answer.url == f"https://{NAME}:{port}/"


@pytest.mark.parametrize("host", [NAME, "other.af.localhost"])
def test_a_wrong_certificate_is_refused(authority: Path, port: int, host: str) -> None:
    """One of a CA that is not the site's, and one for another name."""
    verify: str | bool = True if host == NAME else str(authority / "ca.pem")
    with (
        loopback.session(verify) as session,
        pytest.raises(requests.exceptions.SSLError, match="certificate verify failed"),
    ):
        session.get(f"https://{host}:{port}/")


def test_no_server_is_an_error_that_names_the_host() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        with loopback.session() as session, pytest.raises(requests.ConnectionError, match=NAME):
            session.get(f"https://{NAME}:{port}/")


def test_the_believed_key_is_the_servers(authority: Path, port: int) -> None:
    """The same as `openssl pkey -pubout` makes of the key, hashed."""
    made = subprocess.run(
        ["openssl", "pkey", "-in", "tls.key", "-pubout", "-outform", "DER"],
        cwd=authority,
        capture_output=True,
        check=True,
    ).stdout
    url = f"https://{NAME}:{port}/"
    expected = base64.b64encode(hashlib.sha256(made).digest()).decode()
    assert browser.spki(url, verify=str(authority / "ca.pem")) == expected
    with pytest.raises(TestbedError, match="no believable TLS"):
        browser.spki(url)
