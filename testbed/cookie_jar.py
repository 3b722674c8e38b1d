"""A session's cookies in the file form that curl, wget and Python's cookiejar read."""

import os
from collections.abc import Iterable
from http.cookiejar import Cookie
from pathlib import Path

_HEADER = "# Netscape HTTP Cookie File: stands for a person, keep it to yourself\n"


def netscape(cookies: Iterable[Cookie]) -> str:
    """The text of a cookie file.

    Source: curl.se/docs/http-cookies.html, 'Cookie file format'. Python's own writer leaves
    the time of a session's cookie empty, and curl then drops the line.
    """
    lines = []
    for cookie in cookies:
        mark = "#HttpOnly_" if any(a.lower() == "httponly" for a in _attributes(cookie)) else ""
        fields = (
            mark + cookie.domain,
            _flag(cookie.domain.startswith(".")),
            cookie.path,
            _flag(cookie.secure),
            str(cookie.expires or 0),
            cookie.name,
            cookie.value or "",
        )
        lines.append("\t".join(fields) + "\n")
    return _HEADER + "".join(lines)


def write(cookies: Iterable[Cookie], path: Path) -> None:
    """Write a cookie file that nobody else can read, replacing an older one at once."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(netscape(cookies))
    part.replace(path)


def _attributes(cookie: Cookie) -> Iterable[str]:
    """Names of the attributes that a server added beyond the cookie standard's first ones."""
    return list(getattr(cookie, "_rest", {}))


def _flag(value: bool) -> str:
    return "TRUE" if value else "FALSE"
