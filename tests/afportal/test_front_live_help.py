"""The front's part of live help: nobody is moved by a link, and a pass opens one way."""

import time
from pathlib import Path
from urllib.parse import quote

import pytest

from afportal.live_help.door_pass import Pass
from tests.afportal.test_front import HELP_URL, HUBS_URL, SECRET, run, running_front, text

CODE = "c" * 43
LINK = f"/-/help?on=htc-2&owner=alice&server=&code={CODE}"


def test_a_link_says_where_it_leads_and_moves_nobody(tmp_path: Path) -> None:
    async def check() -> None:
        async with running_front(tmp_path) as (ask, _, _):
            page = await ask(LINK, "bob")
            assert page.code == 200
            assert "Set-Cookie" not in page.headers
            assert "The link says that alice asks for your help" in text(page)
            assert page.headers["Referrer-Policy"] == "strict-origin"
            assert "htc-2" in text(page)
            assert f'name="code" value="{CODE}"' in text(page)
            assert (await ask(LINK)).code == 401
            for words in ("%3Cb%3E", "Call%20me", "alice%2F", ""):
                other = await ask(LINK.replace("alice", words), "bob")
                assert "<h1>Somebody asks for your help</h1>" in text(other)

    run(check)


def test_bad_links(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Mangled, or to a hub that is not there or asks for a login of its own; none is logged."""

    async def check() -> None:
        async with running_front(tmp_path) as (ask, _, _):
            for code in ("", CODE[1:], CODE + "c", CODE[:-1] + "%22"):
                page = await ask(f"/-/help?on=htc-2&owner=alice&code={code}", "bob")
                assert page.code == 400
                assert "no whole link" in text(page)
            for on in ("", "htc", "htc-9", "oauth-1", "../x"):
                page = await ask(f"/-/help?on={quote(on)}&owner=alice&code={CODE}", "bob")
                assert page.code == 404
                assert "Ask who sent it for a new one" in text(page)

    run(check)
    assert CODE[1:] not in caplog.text


def test_a_click_leads_to_the_owners_instance(tmp_path: Path) -> None:
    """By a form of this page alone; where that instance is down, the browser stays."""
    form = {"method": "POST", "body": f"on=htc-2&code={CODE}"}

    async def check() -> None:
        async with running_front(tmp_path) as (ask, _, _):
            gone = await ask("/-/help", "bob", **form, headers={"Origin": HUBS_URL})
            assert gone.code == 303
            assert gone.headers["Location"] == f"/htc/hub/accept-share?code={CODE}"
            assert "route_htc=htc-2;" in gone.headers["Set-Cookie"]
            for origin in ("https://evil.example", "null", HELP_URL):
                refused = await ask("/-/help", "bob", **form, headers={"Origin": origin})
                assert refused.code == 403
        async with running_front(tmp_path, dead=("htc-2",)) as (ask, _, _):
            down = await ask("/-/help", "bob", **form, headers={"Origin": HUBS_URL})
            assert down.code == 503
            assert "Set-Cookie" not in down.headers

    run(check)


def test_a_pass_is_taken_on_with_the_old_route(tmp_path: Path) -> None:
    """The browser is back at the instance of its own servers before it is in, login or not."""
    servers = {"htc-1": {"": {"ready": True, "url": "/htc/user/bob/"}}}

    async def check() -> None:
        async with running_front(tmp_path, servers=servers) as (ask, _, _):
            on = "/-/help/in/htc?key=1%3Ahtc%3Ax&server=a%20b&next=more"
            gone = await ask(on, "bob")
            assert gone.code == 302
            assert gone.headers["Location"] == f"{HELP_URL}/-/in?key=1%3Ahtc%3Ax&server=a+b"
            assert "route_htc=htc-1;" in gone.headers["Set-Cookie"]
            assert (await ask(on)).code == 401
            assert (await ask(on.replace("htc?", "none?"), "bob")).code == 404

    run(check)


def test_a_login_leads_over_the_owners_instance(tmp_path: Path) -> None:
    """As the door sends it, for a first login and for a later one; elsewhere nobody knows it."""
    login = "/htc/hub/api/oauth2/authorize?client_id=jupyterhub-user-alice&state=a%3Db"

    async def check() -> None:
        async with running_front(tmp_path) as (ask, _, _):
            for instance in ("htc-1", "htc-2"):
                on = f"/-/go/htc?instance={instance}&next={quote(login, safe='')}"
                gone = await ask(on, "bob")
                assert gone.headers["Location"] == login
                assert f"route_htc={instance};" in gone.headers["Set-Cookie"]

    run(check)


def test_a_login_ends_at_the_helpers_name(tmp_path: Path) -> None:
    """With the browser back at the instance of its own servers; nothing else is led there."""
    servers = {"htc-1": {"": {"ready": True, "url": "/htc/user/bob/"}}}
    back = "/htc/user/alice/a%20b/oauth_callback"

    async def check() -> None:
        async with running_front(tmp_path, servers=servers) as (ask, _, _):
            on = f"/-/help/on/htc?path={quote(back)}&code=x%2By&state=s&key=more"
            gone = await ask(on.replace("%2520", "%20"), "bob")
            assert gone.code == 302
            assert gone.headers["Location"] == f"{HELP_URL}{back}?code=x%2By&state=s"
            assert "route_htc=htc-1;" in gone.headers["Set-Cookie"]
            assert (await ask(on)).code == 401
            for path in (
                "", "/", "/htc/user/alice/lab", "/hpc/user/alice/oauth_callback",
                "//evil.example/user/a/oauth_callback", "/htc/hub/oauth_callback",
                "/htc/user/a/b/c/oauth_callback",
            ):  # fmt: skip
                refused = await ask(f"/-/help/on/htc?path={quote(path)}&code=x", "bob")
                assert refused.code == 404, path

    run(check)


def test_a_pass_is_kept_and_leads_to_its_server(tmp_path: Path) -> None:
    """A forged one, or one that is over, is not."""
    made = Pass(int(time.time()) + 600, "htc", "htc-1", "alice", "bob")
    value = made.written(SECRET)

    async def check() -> None:
        async with running_front(tmp_path) as (ask, _, _):
            gone = await ask(f"/-/in?key={value}&server=")
            assert (gone.code, gone.headers["Location"]) == (302, "/htc/user/alice/")
            cookie = gone.headers["Set-Cookie"]
            assert cookie.startswith(f"__Host-af_help={value};"), cookie
            for part in ("Path=/;", "Secure", "HttpOnly", "SameSite=Lax", "Max-Age="):
                assert part in cookie + ";"
            assert "Domain" not in cookie
            assert gone.headers["Clear-Site-Data"] == '"storage", "cache"'
            named = await ask(f"/-/in?key={value}&server=a%20b")
            assert named.headers["Location"] == "/htc/user/alice/a%20b/"
            over = Pass(int(time.time()) - 1, "htc", "htc-1", "alice", "bob").written(SECRET)
            for bad in (
                "", over, value[:-1], value.replace("alice", "carol"), made.written("6" * 64)
            ):  # fmt: skip
                refused = await ask(f"/-/in?key={bad}&server=")
                assert refused.code == 403
                assert "Set-Cookie" not in refused.headers
            assert (await ask(f"/-/in?key={value}&server=..%2Fx")).code == 403

    run(check)
