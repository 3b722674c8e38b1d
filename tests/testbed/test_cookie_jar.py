"""A cookie file is one that curl and Python read, and that nobody else can."""

from http.cookiejar import MozillaCookieJar
from pathlib import Path

import requests
from requests.cookies import create_cookie

from testbed import cookie_jar


def cookies() -> requests.cookies.RequestsCookieJar:
    jar = requests.cookies.RequestsCookieJar()
    rest = {"HttpOnly": None, "SameSite": "Lax"}
    jar.set_cookie(
        create_cookie(
            "route_htc", "htc-1", domain="hubs.af.localhost", path="/htc/", secure=True, rest=rest
        )
    )
    jar.set_cookie(
        create_cookie(
            "_xsrf", "x|y", domain="hubs.af.localhost", path="/htc/hub/", expires=2**40, rest={}
        )
    )
    return jar


def test_every_line_has_seven_fields() -> None:
    lines = cookie_jar.netscape(iter(cookies())).splitlines()
    assert lines[0].startswith("# Netscape HTTP Cookie File")
    assert sorted(line.split("\t") for line in lines[1:]) == [
        ["#HttpOnly_hubs.af.localhost", "FALSE", "/htc/", "TRUE", "0", "route_htc", "htc-1"],
        ["hubs.af.localhost", "FALSE", "/htc/hub/", "FALSE", str(2**40), "_xsrf", "x|y"],
    ]


def test_python_reads_it_back_and_others_cannot(tmp_path: Path) -> None:
    path = tmp_path / "cookies" / "alice.txt"
    cookie_jar.write(iter(cookies()), path)
    assert path.stat().st_mode & 0o777 == 0o600
    read = MozillaCookieJar(path)
    read.load(ignore_discard=True, ignore_expires=True)
    assert {(cookie.name, cookie.value, cookie.path) for cookie in read} == {
        ("route_htc", "htc-1", "/htc/"),
        ("_xsrf", "x|y", "/htc/hub/"),
    }
