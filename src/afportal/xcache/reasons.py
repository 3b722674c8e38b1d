"""Why a read was refused, in words for the person whose notebook it is.

The XRootD client says little (`Auth failed`, `[3010]`), and some of it leads astray. What it
does not say stands in the token, in the environment and in the modes of files. Nothing is
asked here, and a token is never shown.
"""

import datetime
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from afportal.xcache import tokens
from afportal.xcache.tokens import Token
from afportal.xcache.urls import parse

# Codes of the client's, and errors of the server's: XrdCl/XrdClStatus.hh, XProtocol.hh
_INVALID_ADDRESS, _AUTH_FAILED, _EXPIRED, _SERVER_SAYS = 101, 204, 206, 400
_TLS = frozenset({110})
_CONNECTION = frozenset(range(102, 110))
_NOT_AUTHORIZED, _NOT_FOUND, _IS_DIRECTORY = 3010, 3011, 3016
_IO_ERROR, _DAMAGED = 3007, 3019
# What a cache answers for an origin that it does not reach: file system error, server error, no
# server, overloaded.
_ORIGIN_AWAY = frozenset({3005, 3012, 3014, 3024})

_AUTHORITIES = Path("/etc/grid-security/certificates")
_READ = "storage.read:"


def explained(
    url: str, status: Mapping[str, Any], environ: Mapping[str, str], now_s: float
) -> dict[str, Any]:
    """The client's status with a message that names the file, the cause and the cure.

    What the client said stands at the end. A status without a known cause stays as it is.
    """
    said = str(status.get("message", "")).strip()
    reason = explain(url, status, environ, now_s)
    return {**status, "message": f"{url}: {reason} (XRootD: {said})" if reason else said}


def explain(url: str, status: Mapping[str, Any], environ: Mapping[str, str], now_s: float) -> str:
    """Cause and cure in a sentence; empty if they are not known."""
    parts = parse(url)
    code, errno = status.get("code"), status.get("errno")
    if parts is None:
        return ""
    server = environ.get("XCACHE_HOST") or parts.host
    path = "/" + parts.rest.partition("?")[0].lstrip("/")
    if code == _INVALID_ADDRESS:
        return f"there is no server {parts.host!r}: a letter amiss in the URL, or another network"
    if code in _TLS:
        return _of_authority(environ) or (
            f"the certificate of {parts.host} is not signed by an authority in "
            f"{_authorities(environ)}, so it was not asked for anything: it may not be the one "
            "it says it is"
        )
    if code == _AUTH_FAILED:
        return _of_authority(environ) or _of_login(tokens.find(environ), server, now_s)
    if code in _CONNECTION or code == _EXPIRED:
        return (
            f"{server} does not answer; your token and this URL may be right. Try again in a "
            "minute, and tell the facility if it lasts"
        )
    if code == _SERVER_SAYS and errno == _NOT_AUTHORIZED:
        return _of_path(tokens.find(environ), path, server, now_s)
    if code == _SERVER_SAYS and errno == _NOT_FOUND:
        return f"there is no file {path}: {server} and the origin behind it have none of that name"
    if code == _SERVER_SAYS and errno == _IS_DIRECTORY:
        return f"{path} is a folder: name a file in it"
    if code == _SERVER_SAYS and errno in _ORIGIN_AWAY:
        return (
            f"{server} could not get it from its origin, which does not answer it or broke off. "
            "What the cache holds can be read meanwhile; try again in half a minute"
        )
    if code == _SERVER_SAYS and errno == _DAMAGED:
        return (
            f"what {server} keeps of {path} is damaged: a checksum does not match, and it gives "
            "nothing rather than wrong data. Tell the facility, which removes its copy; then it is "
            "fetched anew"
        )
    if code == _SERVER_SAYS and errno == _IO_ERROR:
        return (
            f"{server} could not read it: its disk, or the origin behind it, fails. Try again in "
            "half a minute, and tell the facility if it lasts"
        )
    return ""


def _authorities(environ: Mapping[str, str]) -> str:
    return environ.get("X509_CERT_FILE") or environ.get("X509_CERT_DIR") or str(_AUTHORITIES)


def _of_authority(environ: Mapping[str, str]) -> str:
    """Whether the client lacks what it checks a server's certificate with.

    Without it, it gives up TLS, and then shows no token.
    """
    named = environ.get("X509_CERT_FILE")
    if named and not os.access(named, os.R_OK):
        return (
            f"X509_CERT_FILE names {named}, which "
            f"{'cannot be read' if Path(named).exists() else 'does not exist'}; without the "
            "facility's authority the server cannot be told from a false one, and the token was "
            "not shown. A session of the facility sets it: stop and start the server"
        )
    if named or Path(environ.get("X509_CERT_DIR") or _AUTHORITIES).is_dir():
        return ""
    return (
        "X509_CERT_FILE is not set, and the XRootD client knows neither the system's authorities "
        "nor SSL_CERT_FILE; the token was not shown. A session of the facility sets it, and what "
        "is started from it inherits it"
    )


def _of_login(token: Token, server: str, now_s: float) -> str:
    """Why a server did not let this token in."""
    if token.flaw:
        return token.flaw
    if stale := _of_time(token, now_s):
        return stale
    claims = token.claims
    if "aud" not in claims:
        return f"the token in {token.place} names no audience (claim aud), and {server} wants one"
    return (
        f"{server} does not trust the token in {token.place}: its issuer {claims.get('iss')!r} is "
        "none that the facility takes, or it is not signed with that issuer's key. Use the token "
        "that the session wrote"
    )


def _of_time(token: Token, now_s: float) -> str:
    claims = token.claims
    told = token.told or "look at the server's log, or stop and start the server"
    ends_s, begins_s = (_number(claims.get(name)) for name in ("exp", "nbf"))
    if ends_s is not None and ends_s <= now_s:
        return (
            f"the token in {token.place} ran out at {_clock(ends_s)} ({_ago(now_s - ends_s)} ago); "
            "the session renews it before that, so either it could not, or this is another "
            f"token. {told[0].upper()}{told[1:]}"
        )
    if begins_s is not None and begins_s > now_s + 60:
        return f"the token in {token.place} counts from {_clock(begins_s)} on only"
    return ""


def _of_path(token: Token, path: str, server: str, now_s: float) -> str:
    """Why a server that knows the token's bearer does not give a file."""
    if token.flaw:
        return token.flaw
    if stale := _of_time(token, now_s):
        return stale
    claims = token.claims
    missing = [name for name in ("sub", "wlcg.ver", "scope") if not claims.get(name)]
    if missing:
        return (
            f"the token in {token.place} lacks {' and '.join(missing)}, and is worth nothing to "
            f"{server} without. Use the token that the session wrote"
        )
    allowed = [
        scope.removeprefix(_READ) for scope in str(claims["scope"]).split() if _READ in scope
    ]
    if not allowed:
        return (
            f"your token allows no reading: its scope is {claims['scope']!r}. Ask the facility "
            "for membership in the group whose data these are"
        )
    if not any(_leads_to(scope, path) for scope in allowed):
        names = ", ".join(f"{_READ}{scope}" for scope in allowed)
        return (
            f"your token allows {names}, not {path}. Ask the facility for membership in the "
            "group whose data these are"
        )
    audience = claims.get("aud")
    names = ", ".join(audience) if isinstance(audience, list) else str(audience)
    return (
        f"the token in {token.place} is made for {names} (its audience), which {server} is not. "
        "Use the token that the session wrote"
    )


def _leads_to(scope: str, path: str) -> bool:
    """Whether a scope's path may cover a file's.

    What a server puts in front of scopes (`/data`) is its own affair: any folder may be meant.
    """
    wanted, parts = scope.strip("/").split("/"), path.strip("/").split("/")
    return wanted == [""] or any(
        parts[start : start + len(wanted)] == wanted for start in range(len(parts))
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _clock(moment_s: float) -> str:
    return datetime.datetime.fromtimestamp(moment_s).astimezone().strftime("%H:%M:%S on %d %B")


def _ago(span_s: float) -> str:
    if span_s < 120:
        return f"{span_s:.0f} s"
    return f"{span_s / 60:.0f} min" if span_s < 7200 else f"{span_s / 3600:.0f} h"
