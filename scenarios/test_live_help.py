"""Live help: one person comes into a running server, for a while, and nobody else ever."""

import contextlib
import time
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import requests

from testbed import loopback, pages
from testbed.bed import Bed
from testbed.browser import Browser
from testbed.hub_client import HubClient
from testbed.kernels import Kernel
from testbed.live_help import COOKIE, Helped, Helper, close_of, problem
from testbed.logins import Logins
from testbed.markup import text_of
from testbed.promises import expect_within
from testbed.share_links import Owner, Reader
from testbed.site import Site

pytestmark = pytest.mark.needs("front_door", "faults", "htcondor", "local")

OWNER, HELPER, OUTSIDER = "alice", "bob", "carol"
# A server's answer is kept for 15 s, web sockets are asked for each 10 s.
OUT_WITHIN_S = 20
OPTIONS: dict[str, str | int] = {"backend": "local", "environment": "python"}


@pytest.fixture(scope="module")
def owner(logins: Logins) -> Iterator[HubClient]:
    """Whose server runs."""
    client = logins.client(OWNER, "htcondor")
    client.spawn(OPTIONS)
    yield client
    client.stop(timeout_s=120)


@pytest.fixture
def helped(owner: HubClient) -> Iterator[Helped]:
    """The same, with nobody let in; nobody is afterwards."""
    made = Helped(owner)
    made.end()
    yield made
    if "" in owner.servers():
        made.end()


@contextlib.contextmanager
def helper_of(site: Site, logins: Logins, name: str) -> Iterator[Helper]:
    """Somebody who is logged in at the front door; afterwards at their own servers again."""
    hub = site.hub_for("htcondor")
    reader = Reader.at(site, logins, name, hub)
    yield Helper(name, reader.browser, site.verify)
    door = reader.url.removesuffix(f"/{hub.name}")
    reader.browser.get(f"{door}/-/go/{hub.name}", allow_redirects=False, timeout=60)


@pytest.fixture
def bob(site: Site, logins: Logins) -> Iterator[Helper]:
    with helper_of(site, logins, HELPER) as made:
        yield made


@pytest.fixture
def carol(site: Site, logins: Logins) -> Iterator[Helper]:
    with helper_of(site, logins, OUTSIDER) as made:
        yield made


def is_out(helper: Helper) -> bool:
    """Whether the server, or the door before it, refuses."""
    return helper.get().status_code == 403


def test_a_link_leads_in_at_another_name(
    bed: Bed, site: Site, owner: HubClient, helped: Helped, bob: Helper
) -> None:
    """The pages say whose server it is and what it means; the helper's own hubs are elsewhere."""
    link = helped.link()
    own = bob.route("htc")
    front = bob.open(link)
    assert "The link says that alice asks for your help" in text_of(front.text)
    page = bob.look(link)
    # A link is in no Referer, which a hub logs where it fails.
    for opened in (front, page):
        assert opened.headers["Referrer-Policy"] == "strict-origin"
    assert urlsplit(page.url).path == "/htc/hub/accept-share"
    said = text_of(page.text)
    for words in ("alice lets you, bob, into their server", "There you are alice"):
        assert words in said, said
    assert helped.people() == []
    bob.come_in(link)
    assert bob.server == f"{bed.front_door('help')}/htc/user/{OWNER}"
    assert helped.people() == [HELPER]
    assert (
        bob.get().json()["started"]
        == owner.get_json(f"{owner.server_path()}/api/status")["started"]
    )
    # Their browser is back where their own servers are, and has no hub at the server's name.
    hubs = site.entry_url(site.hub_for("htcondor"))
    home = bob.open(f"{hubs}/hub/home")
    assert home.status_code == 200
    assert 'user: "bob"' in home.text
    assert bob.route("htc") == own
    led = bob.browser.get(f"{bob.origin}/htc/hub/home", allow_redirects=False, timeout=60)
    chosen = urlsplit(led.headers["Location"])
    assert f"{chosen.scheme}://{chosen.netloc}" == bed.front_door_url
    assert (chosen.path, parse_qs(chosen.query)) == ("/-/go/htc", {"next": ["/htc/hub/home"]})
    for path in ("/htc/hub/api/user", f"/htc/user/{HELPER}/", "/hpc/user/alice/", "/logout"):
        answer = bob.browser.post(f"{bob.origin}{path}", allow_redirects=False, timeout=60)
        assert answer.status_code in (403, 404), path
    sent = bob.cookies_for(f"{bob.server}/")
    assert "__Host-af_session" not in sent
    assert "route_" not in sent
    assert COOKIE not in bob.cookies_for(f"{hubs}/hub/")


def test_the_way_in_again(bed: Bed, helped: Helped, bob: Helper) -> None:
    """By a click, and with the browser back at its own servers, with a login and without."""
    own = bob.route("htc")
    bob.come_in(helped.link())
    for forget in (False, True):
        if forget:
            bob.forget_login()
        page = bob.open(way_in_at_owners(bed, helped))
        assert f'data-af-help-enter="{OWNER}"' in page.text, text_of(page.text)[:300]
        arrived = bob.send(page)
        assert arrived.status_code == 200
        assert arrived.url.startswith(f"{bob.server}/lab")
        cleared = [answer.headers.get("Clear-Site-Data") for answer in arrived.history]
        assert '"storage", "cache"' in cleared
        assert bob.route("htc") == own
    # Later, as after Log Out and a new login: the server itself asks for it.
    bob.forget_login()
    arrived = bob.open(f"{bob.server}/lab")
    assert arrived.status_code == 200, arrived.url.partition("?")[0]
    assert arrived.url.startswith(f"{bob.server}/lab")
    assert bob.route("htc") == own


def test_a_page_of_a_server_leads_its_helper_into_no_other(
    bed: Bed, helped: Helped, bob: Helper
) -> None:
    """A browser that is sent to the way in is asked: its pass stays until a click."""
    bob.come_in(helped.link())
    before = bob.the_pass
    way = way_in_at_owners(bed, helped)
    for site in ("same-site", "cross-site", "same-origin", "none"):
        headers = {
            "Sec-Fetch-Site": site,
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Dest": "document",
            "Accept": "text/html",
        }
        page = bob.browser.get(way, headers=headers, timeout=60)
        assert page.status_code == 200, site
        assert f'data-af-help-enter="{OWNER}"' in page.text, site
        assert page.url.startswith(bed.front_door_url), site
        assert "frame-ancestors 'self'" in page.headers["Content-Security-Policy"]
        assert bob.the_pass == before
    # A form that such a page sends says where it stands.
    sent = bob.browser.post(
        f"{bed.front_door_url}/htc/hub/af/help/{OWNER}",
        headers={"Origin": bob.origin, "Sec-Fetch-Site": "same-site"},
        allow_redirects=False,
        timeout=60,
    )
    assert sent.status_code == 403
    assert "Location" not in sent.headers


def test_a_page_of_another_name_loads_nothing_unseen(
    bed: Bed, site: Site, helped: Helped, bob: Helper
) -> None:
    """No frame, picture, script or page ahead of time of the hubs; a page that is seen opens."""
    bob.come_in(helped.link())
    hubs = site.entry_url(site.hub_for("htcondor"))
    urls = [
        f"{hubs}/hub/home",
        f"{hubs}/hub/spawn/{HELPER}?backend=local",
        f"{hubs}/user/{HELPER}/api/status",
        f"{bed.front_door_url}/",
        f"{bed.front_door_url}/-/go/htc",
        f"{bed.front_door_url}/logout",
        way_in_at_owners(bed, helped),
    ]

    def ask(url: str, place: str, dest: str, **more: str) -> requests.Response:
        headers = {
            "Accept": "text/html",
            "Sec-Fetch-Site": place,
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Dest": dest,
            **more,
        }
        return bob.browser.get(url, headers=headers, allow_redirects=False, timeout=60)

    for url in urls:
        for place in ("same-site", "cross-site"):
            for dest in ("iframe", "image", "script", "empty", "object"):
                refused = ask(url, place, dest)
                assert refused.status_code == 403, (url, place, dest)
                assert "Location" not in refused.headers, (url, place, dest)
            ahead = ask(url, place, "document", **{"Sec-Purpose": "prefetch;prerender"})
            assert ahead.status_code == 403, (url, place)
    home = urls[0]
    for place, dest in (
        ("same-site", "document"), ("cross-site", "document"), ("none", "document"),
        ("same-origin", "iframe"), ("same-origin", "empty"),
    ):  # fmt: skip
        assert ask(home, place, dest).status_code == 200, (place, dest)
    for name in ("hubs", "login"):
        told = bob.browser.get(
            f"{bed.front_door(name)}/-/announcement",
            headers={"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "empty"},
            timeout=60,
        )
        assert told.status_code == 200, name


def way_in_at_owners(bed: Bed, helped: Helped) -> str:
    """The page for who was let in before, at the instance that knows of it."""
    page = quote(f"/htc/hub/af/help/{OWNER}", safe="")
    return f"{bed.front_door_url}/-/go/htc?instance={helped.client.instance}&next={page}"


def test_a_helper_works_as_the_owner_and_lets_nobody_in(helped: Helped, bob: Helper) -> None:
    """Their requests reach the owner's files; the route of live help is the owner's alone."""
    bob.come_in(helped.link())
    made = bob.ask("POST", "/api/contents", json={"type": "directory"})
    assert made.status_code == 201, made.text
    assert Owner(helped.client).ask("GET", f"/api/contents/{made.json()['name']}").ok
    assert bob.ask("DELETE", f"/api/contents/{made.json()['name']}").ok
    for method, path in (("GET", ""), ("POST", ""), ("DELETE", ""), ("DELETE", "/people/bob")):
        refused = bob.ask(method, f"/api/af/live-help{path}", json={"lifetime_min": 15})
        assert refused.status_code == 403, (method, path)
        assert "only its owner lets others in" in refused.json()["message"]
    assert helped.people() == [HELPER]


def test_nobody_else_gets_in(site: Site, helped: Helped, bob: Helper, carol: Helper) -> None:
    """Not without a pass, not by a forged one, not by another's, and never at the hubs' name."""
    link = helped.link()
    bob.come_in(link)
    assert "for one person" in problem(carol.look(link))
    good = bob.the_pass
    until_s, rest = good.split(":", 1)
    for forged in (
        None,
        good[:-1] + ("0" if good[-1] != "0" else "1"),
        f"{int(until_s) + 86400}:{rest}",
        good.replace(":alice:bob:", ":alice:carol:"),
        good.rpartition(":")[0] + ":",
        good + "; " + COOKIE + "=" + good,
        "",
    ):
        assert bob.with_pass(forged) == 403, forged
    # A pass of bob's that carol has leads her to the login of a server that is not open to her.
    carol.server = bob.server
    carol.browser.cookies.set(COOKIE, good, domain=urlsplit(bob.server).hostname, path="/")
    try:
        led = carol.open(f"{carol.server}/lab")
        assert led.status_code == 403
        assert "/hub/api/oauth2/authorize" in led.url
        assert carol.get().status_code == 403
    finally:
        carol.browser.cookies.clear(urlsplit(bob.server).hostname or "", "/", COOKIE)
    assert carol.get().status_code == 403
    elsewhere = f"{bob.origin}/htc/user/{OUTSIDER}/api/status"
    over = bob.browser.get(elsewhere, allow_redirects=False, timeout=60)
    assert over.status_code == 403
    assert over.headers["Clear-Site-Data"] == '"storage", "cache"'
    hubs = site.entry_url(site.hub_for("htcondor"))
    for helper in (bob, carol):
        at_hubs = f"{hubs}/user/{OWNER}/api/status"
        answer = helper.browser.get(at_hubs, allow_redirects=False, timeout=60)
        assert answer.status_code in (401, 403)
    worker = bob.get("/lab", headers={"Service-Worker": "script"})
    assert worker.status_code == 403


def test_the_owner_ends_it(helped: Helped, bob: Helper) -> None:
    """Requests are refused and open web sockets closed, within 20 s; the owner's stay."""
    bob.come_in(helped.link())
    terminal = bob.ask("POST", "/api/terminals").json()["name"]
    with Kernel.start(helped.client) as kernel:
        sockets = [
            bob.web_socket(f"/api/kernels/{kernel.kernel_id}/channels"),
            bob.web_socket(f"/terminals/websocket/{terminal}"),
        ]
        helped.end("/people/bob")
        ended_s = time.monotonic()
        for socket in sockets:
            assert close_of(socket, OUT_WITHIN_S) == 1008
        expect_within(OUT_WITHIN_S, lambda: is_out(bob), what="the helper's requests are refused")
        assert time.monotonic() - ended_s < OUT_WITHIN_S
        assert kernel.run("6 * 7").value == "42"
    assert helped.people() == []
    assert "is not open to you" in problem(bob.open(way_in(helped)))


def way_in(helped: Helped) -> str:
    """The hub's page that asks who was let in before."""
    return f"{helped.client.url.replace('//api.', '//hubs.')}/hub/af/help/{OWNER}"


@pytest.mark.soak  # a minute is the shortest
def test_it_ends_with_its_time(helped: Helped, bob: Helper) -> None:
    """At the minute that the owner said, also for who is in."""
    link = helped.link(1)
    began_s = time.monotonic()
    bob.come_in(link)
    socket = bob.web_socket("/api/events/subscribe")
    assert close_of(socket, 60 + OUT_WITHIN_S) == 1008
    assert time.monotonic() - began_s > 55
    expect_within(OUT_WITHIN_S, lambda: is_out(bob), what="the helper is out")
    assert helped.people() == []


@pytest.mark.timeout(300)
def test_it_ends_with_the_server(owner: HubClient, helped: Helped, bob: Helper) -> None:
    """The next server of the same name is open to nobody else."""
    bob.come_in(helped.link())
    unused = helped.link()
    owner.stop(timeout_s=120)
    assert "not good any more" in problem(bob.look(unused))
    owner.spawn(OPTIONS)
    assert helped.people() == []
    assert is_out(bob)
    assert "not good any more" in problem(bob.look(unused))


def test_bad_links(helped: Helped, bob: Helper, site: Site, logins: Logins) -> None:
    """A page says what is wrong and what to do."""
    link = helped.link()
    for mangled in (link[:-1], link + "x", link.partition("&code=")[0]):
        page = bob.open(mangled)
        assert page.status_code == 400
        assert "no whole link" in text_of(page.text)
    gone = bob.open(link.replace("on=htc-", "on=none-"))
    assert gone.status_code == 404
    with helper_of(site, logins, OWNER) as own:
        assert "into your own server" in problem(own.look(link))
    code = parse_qs(urlsplit(link).query)["code"][0]
    unknown = link.replace(code, "x" * 43)
    assert "not good any more" in problem(bob.look(unknown))
    helped.end()
    assert "not good any more" in problem(bob.look(link))


def test_nobody_is_let_in_without_a_login(site: Site, helped: Helped, bob: Helper) -> None:
    """A stranger is sent to the login, and has nothing at the server's name."""
    link = helped.link()
    bob.come_in(helped.link())
    stranger = Helper("nobody", loopback.session(site.verify), site.verify, bob.server)
    assert stranger.open(link).url.startswith("https://login.")
    assert stranger.get().status_code == 403
    assert stranger.get("/lab").status_code == 403


# In two browsers


@pytest.mark.timeout(300)
def test_two_people_in_two_browsers(
    site: Site,
    logins: Logins,
    chromium: Callable[[str], Browser],
    stopped_after: Callable[..., HubClient],
) -> None:
    """Let in by the button, at work as the owner in the owner's JupyterLab, put out by a click."""
    hub = site.hub_for("htcondor")
    client = stopped_after(logins.client("erin", hub=hub))
    client.spawn(OPTIONS)

    erin = chromium("owner")
    pages.open_lab(erin, site, hub, "erin")
    erin.click('.jp-SideBar [data-id="af-share-panel"]')
    erin.see("#af-share-panel .af-Help")
    erin.picture("panel")
    erin.click("#af-share-panel .af-Help .af-Session-buttons button")
    erin.see(".af-Help-warning")
    erin.picture("warning")
    erin.click(".jp-Dialog .jp-mod-accept")
    link = erin.see(".af-Share-url").get_attribute("value")
    assert link
    erin.picture("link")
    erin.click(".jp-Dialog .jp-mod-accept")
    erin.see('#af-share-panel [data-af-help^="links/"]')

    frank = chromium("helper")
    frank.open(link)
    pages.log_in(frank, site, "frank")
    frank.see('form[action="/-/help"] button')
    frank.picture("where-it-leads")
    frank.leave('form[action="/-/help"] button')
    frank.see("[data-af-accept]")
    frank.picture("what-it-means")
    frank.leave("[data-af-accept]")
    server = f"{site.entry_url(hub).replace('//hubs.', '//help.')}"
    pages.wait_for_lab(frank, server)
    assert frank.url.startswith(f"{server}/user/erin/")
    assert pages.run_first_cell(frank, "!whoami").strip() == "erin"
    frank.picture("at-work")

    def answers() -> bool:
        frank.open(f"{server}/user/erin/api/status")
        return '"started"' in frank.text

    assert answers()
    erin.see('#af-share-panel [data-af-help="people/frank"]', 60)
    erin.picture("who-is-in")
    erin.click('#af-share-panel [data-af-help="people/frank"] button')
    expect_within(OUT_WITHIN_S, lambda: not answers(), what="the helper's browser is refused")
    frank.open(f"{server}/user/erin/lab")
    frank.picture("out")
    assert frank.see("h1").text == "The help is over"
    erin.until(
        lambda: not erin.has('#af-share-panel [data-af-help="people/frank"]'), "an empty list", 30
    )
    erin.picture("nobody-is-in")
