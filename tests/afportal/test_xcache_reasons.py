"""A refusal names the file, the cause and the cure."""

import base64
import json
import os
from pathlib import Path

import pytest

from afportal.xcache import reasons, tokens

NOW_S = 1_800_000_000.0
URL = "root://xcache//data/cms/met/part-0.root"
AUTH_FAILED = {"ok": False, "code": 204, "errno": 0, "message": "[FATAL] Auth failed: No protocols"}
DENIED = {"ok": False, "code": 400, "errno": 3010, "message": "[ERROR] [3010] permission denied\n"}
GOOD = {
    "iss": "https://login.example/realms/af", "sub": "f:alice", "aud": "xrootd",
    "exp": NOW_S + 600, "scope": "openid storage.read:/cms storage.read:/open", "wlcg.ver": "1.0",
}  # fmt: skip


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    file.write_text("an authority")
    return file


def kept(folder: Path, *, mode: int = 0o600, **changed: object) -> dict[str, str]:
    """The environment of somebody who has a token like this; a claim that is None is left out."""
    claims = {name: value for name, value in (GOOD | changed).items() if value is not None}
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    file = folder / "token"
    file.write_text(f"e30.{body}.c2lnbmVk\n")
    file.chmod(mode)
    return {"BEARER_TOKEN_FILE": str(file), "X509_CERT_FILE": str(folder / "ca.pem")}


def said(status: dict[str, object], environ: dict[str, str], url: str = URL) -> str:
    """The message; the parts that every one has are checked here."""
    message = str(reasons.explained(url, status, environ, NOW_S)["message"])
    assert message.startswith(f"{url}: ")
    assert message.endswith(f"(XRootD: {str(status['message']).strip()})")
    assert "c2lnbmVk" not in message, "part of a token"
    return message


@pytest.mark.parametrize(
    ("status", "changed", "words"),
    [
        (AUTH_FAILED, {"exp": NOW_S - 300}, "ran out at"),
        (AUTH_FAILED, {"exp": NOW_S - 300}, "(5 min ago)"),
        (AUTH_FAILED, {"nbf": NOW_S + 3000}, "counts from"),
        (AUTH_FAILED, {"aud": None}, "names no audience"),
        (AUTH_FAILED, {"iss": "https://issuer.invalid"}, "its issuer 'https://issuer.invalid'"),
        (AUTH_FAILED, {}, "not signed with that issuer's key"),
        (DENIED, {"exp": NOW_S - 7500}, "(2 h ago)"),
        (DENIED, {"scope": None}, "lacks scope"),
        (DENIED, {"sub": None, "wlcg.ver": None}, "lacks sub and wlcg.ver"),
        (DENIED, {"scope": "openid"}, "your token allows no reading"),
        (DENIED, {"scope": "storage.read:/atlas"}, "allows storage.read:/atlas, not /data/cms/met"),
        (DENIED, {"scope": "storage.read:/cm"}, "allows storage.read:/cm, not"),
        (DENIED, {"aud": ["elsewhere"]}, "is made for elsewhere (its audience)"),
        (DENIED, {"aud": "elsewhere", "scope": "storage.read:/"}, "is made for elsewhere"),
    ],
)
def test_what_is_wrong_with_a_token(
    tmp_path: Path,
    authority: Path,
    status: dict[str, object],
    changed: dict[str, object],
    words: str,
) -> None:
    assert authority.is_file()
    assert words in said(status, kept(tmp_path, **changed))


def test_a_token_that_others_may_read(tmp_path: Path, authority: Path) -> None:
    message = said(AUTH_FAILED, kept(tmp_path, mode=0o644))
    assert "has mode 0644" in message
    assert f"chmod 600 {tmp_path / 'token'}" in message
    assert authority.is_file()


def test_no_token(tmp_path: Path, authority: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it was to be, or that nobody said where."""
    environ = {"X509_CERT_FILE": str(authority)}
    named = {**environ, "BEARER_TOKEN_FILE": str(tmp_path / "none")}
    assert f"names {tmp_path / 'none'}, which does not exist" in said(AUTH_FAILED, named)
    monkeypatch.setattr("os.geteuid", lambda: 3_000_000_001)  # nobody has left a token in /tmp
    assert "BEARER_TOKEN_FILE is not set" in said(AUTH_FAILED, environ)


def test_what_is_no_token(tmp_path: Path, authority: Path) -> None:
    environ = kept(tmp_path)
    (tmp_path / "token").write_text("Keycloak is away, sorry\n")
    assert "holds no token" in said(AUTH_FAILED, environ)
    (tmp_path / "token").write_bytes(b"\xff\xfe.\xff.")
    assert "cannot be read: no text" in said(AUTH_FAILED, environ)
    assert authority.is_file()


def test_no_authority(tmp_path: Path) -> None:
    """The client's own words for it lead astray: ztn disallowed for non-TLS connections."""
    environ = kept(tmp_path)  # names a ca.pem that is not there
    assert f"X509_CERT_FILE names {tmp_path / 'ca.pem'}" in said(AUTH_FAILED, environ)
    del environ["X509_CERT_FILE"]
    assert "X509_CERT_FILE is not set" in said(
        AUTH_FAILED, {**environ, "X509_CERT_DIR": str(tmp_path / "none")}
    )


def test_another_authority(tmp_path: Path, authority: Path) -> None:
    status = {"ok": False, "code": 110, "errno": 11, "message": "[FATAL] TLS error"}
    assert f"not signed by an authority in {authority}" in said(status, kept(tmp_path))


@pytest.mark.parametrize(
    ("code", "errno", "words"),
    [
        (101, 0, "there is no server 'xcache'"),
        (108, 0, "xcache does not answer"),
        (206, 0, "xcache does not answer"),
        (400, 3011, "there is no file /data/cms/met/part-0.root"),
        (400, 3016, "is a folder"),
        (400, 3007, "could not read it"),
        (400, 3019, "damaged: a checksum does not match"),
        (400, 3014, "could not get it from its origin"),
    ],
)
def test_what_is_not_the_tokens_fault(tmp_path: Path, code: int, errno: int, words: str) -> None:
    status = {"ok": False, "code": code, "errno": errno, "message": "[ERROR] so it is"}
    assert words in said(status, kept(tmp_path))


def test_what_nobody_knows_stays_as_it_was() -> None:
    status = {"ok": False, "code": 400, "errno": 3001, "message": "[ERROR] argument missing"}
    assert reasons.explained(URL, status, {}, NOW_S) == status


def test_the_tokens_place_in_order(tmp_path: Path) -> None:
    """As the client looks for it: the first place where there is something."""
    environ = kept(tmp_path)
    assert tokens.find(environ).place == f"token file {tmp_path / 'token'}"
    assert tokens.find({**environ, "BEARER_TOKEN": "a.b.c"}).place == "$BEARER_TOKEN"
    (tmp_path / "token").rename(tmp_path / f"bt_u{os.geteuid()}")
    found = tokens.find({**environ, "XDG_RUNTIME_DIR": str(tmp_path)})
    assert found.claims["sub"] == "f:alice"


def test_a_token_is_never_shown(tmp_path: Path) -> None:
    assert "c2lnbmVk" not in repr(tokens.find(kept(tmp_path)))


def test_what_the_hub_said_is_passed_on(tmp_path: Path, authority: Path) -> None:
    """A session that got no token, or whose token is renewed no more, knows why and what to do."""
    del authority
    (tmp_path / "problems").write_text("data: none was fetched; open the hub's page\nslurm: away\n")
    session = {"AF_SECRETS": str(tmp_path)}
    without = {**kept(tmp_path), **session, "BEARER_TOKEN_FILE": str(tmp_path / "none")}
    assert "does not exist; none was fetched; open the hub's page" in said(AUTH_FAILED, without)
    expired = {**kept(tmp_path, exp=NOW_S - 300), **session}
    assert "another token. None was fetched; open the hub's page" in said(AUTH_FAILED, expired)
