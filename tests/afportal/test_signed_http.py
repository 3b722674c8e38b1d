"""Only who holds the secret is answered, and each request once."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from afportal.minter import Minter
from afportal.signed_client import ServiceError, SignedClient
from afportal.signed_http import Request, SignedServer, listening, read_secret, sign
from afportal.tls import asking
from tests.afportal import authorities

SECRET = b"0123456789abcdef0123456789abcdef"


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    def answer(request: Request) -> Mapping[str, Any]:
        return {"path": request.path, "body": dict(request.body)}

    server = SignedServer(("127.0.0.1", 0), SECRET, answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield ("127.0.0.1", server.server_address[1])
    server.shutdown()
    thread.join()
    server.server_close()


def send(
    address: tuple[str, int], body: bytes, headers: Mapping[str, str], path: str = "/a"
) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(*address, timeout=10)
    connection.request("POST", path, body, dict(headers))
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def test_a_signed_request_is_answered(address: tuple[str, int]) -> None:
    """Client and server agree on what is signed."""
    client = SignedClient(f"http://{address[0]}:{address[1]}", SECRET)
    answer = asyncio.run(client.call("POST", "/token", {"person": "alice"}))
    assert answer == {"path": "/token", "body": {"person": "alice"}}


def test_it_answers_by_tls_though_somebody_is_silent(tmp_path: Path) -> None:
    """With a certificate only its own authority's clients go on; who says nothing stops nobody."""
    authority = authorities.authority("inside")
    authority.write(tmp_path, "ca")
    authorities.certificate(authority, "localhost").write(tmp_path, "tls")
    server = SignedServer(
        ("127.0.0.1", 0),
        SECRET,
        lambda _: {"fine": True},
        tls=listening(tmp_path / "tls.pem", tmp_path / "tls.key"),
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    port = server.server_address[1]
    try:
        with socket.create_connection(("127.0.0.1", port)):
            believing = SignedClient(
                f"https://localhost:{port}", SECRET, tls=asking(tmp_path / "ca.pem")
            )
            assert asyncio.run(believing.call("POST", "/token", {})) == {"fine": True}
        with pytest.raises(ServiceError, match="certificate"):
            asyncio.run(SignedClient(f"https://localhost:{port}", SECRET).call("POST", "/a", {}))
        with pytest.raises((ConnectionError, http.client.BadStatusLine)):
            send(("127.0.0.1", port), b"{}", sign(SECRET, "POST", "/a", b"{}"))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_another_secret_is_refused(address: tuple[str, int]) -> None:
    """A wrong secret gets 403 and no answer."""
    client = SignedClient(f"http://{address[0]}:{address[1]}", b"x" * 32)
    with pytest.raises(ServiceError, match="not signed") as caught:
        asyncio.run(client.call("POST", "/token", {}))
    assert caught.value.status == 403


def test_a_changed_body_or_path_is_refused(address: tuple[str, int]) -> None:
    """The signature covers body and path."""
    headers = sign(SECRET, "POST", "/a", b'{"person": "alice"}')
    assert send(address, b'{"person": "bob"}', headers)[0] == 403
    assert send(address, b'{"person": "alice"}', headers, path="/b")[0] == 403


def test_a_request_is_answered_once(address: tuple[str, int]) -> None:
    """A captured request cannot be sent again."""
    headers = sign(SECRET, "POST", "/a", b"{}")
    assert send(address, b"{}", headers)[0] == 200
    status, answer = send(address, b"{}", headers)
    assert status == 403
    assert "before" in answer["error"]


def test_an_old_request_is_refused(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signature is good for a minute."""
    import time

    real = time.time()
    with monkeypatch.context() as patch:
        patch.setattr("afportal.signed_http.time.time", lambda: real - 3600)
        headers = sign(SECRET, "POST", "/a", b"{}")
    status, answer = send(address, b"{}", headers)
    assert status == 403
    assert "clocks" in answer["error"]


@pytest.mark.parametrize("body", [b"[]", b"{", b'"x"'])
def test_what_is_no_object_is_refused(address: tuple[str, int], body: bytes) -> None:
    """Only a JSON object is taken."""
    assert send(address, body, sign(SECRET, "POST", "/a", body))[0] == 400


def test_a_short_secret_is_refused(tmp_path: Any) -> None:
    """A secret that was cut short is not worked with."""
    path = tmp_path / "secret"
    path.write_text("short")
    with pytest.raises(ValueError, match="at least 32"):
        read_secret(path)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"person": "root", "lifetime_s": 60}, "root"),
        ({"person": "../etc", "lifetime_s": 60}, "login name"),
        ({"person": "nobody-at-all", "lifetime_s": 60}, "no account"),
        ({"person": "root", "lifetime_s": 10**6}, "lifetime"),
        ({"person": "root", "lifetime_s": "60"}, "whole number"),
        ({"person": "root"}, "exactly"),
        ({"person": "root", "lifetime_s": 60, "authz": "ADMIN"}, "exactly"),
    ],
)
def test_the_minter_makes_tokens_for_people_only(body: dict[str, Any], word: str) -> None:
    """Root, strangers, service accounts and odd requests get no token."""
    made: list[Any] = []

    def make(*asked: Any) -> str:
        made.append(asked)
        return "token"

    minter = Minter(make, group="root", min_uid=20000)
    with pytest.raises(Exception, match=word):
        minter.answer(Request("POST", "/token", body))
    assert made == []


def test_the_minter_makes_tokens_for_its_named_services() -> None:
    """The hub's own identity is named on the minter's command line."""
    minter = Minter(
        lambda person, lifetime_s: f"{person}/{lifetime_s}",
        group="root",
        min_uid=20000,
        services=frozenset({"hub"}),
    )
    body = {"person": "hub", "lifetime_s": 60}
    assert minter.answer(Request("POST", "/token", body))["token"] == "hub/60"
