"""Whom the front door lets in, and as whom: what forged, stolen or borrowed requests get."""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
import websocket

from testbed import guests, loopback
from testbed.bed import Bed
from testbed.guests import Guest
from testbed.hub_client import HubClient, HubRefused, Spawn
from testbed.kernels import Kernel
from testbed.logins import Visitor
from testbed.secret import Secret
from testbed.site import Site

pytestmark = pytest.mark.needs("front_door")

Enter = Callable[..., Guest]

# What back ends, gateways and frameworks are known to take a person's name from.
IDENTITY_HEADERS = (
    "X-Remote-User", "X-Proxy-Secret", "X-Access-Token", "Remote-User", "X-Forwarded-User",
    "X-Auth-Request-User", "X-Authenticated-User", "OIDC-CLAIM-preferred_username",
    "OIDC-access-token",
)  # fmt: skip


def spellings(name: str) -> Iterator[str]:
    """A header's name with every mixture of - and _, in three cases."""
    parts = name.replace("_", "-").split("-")
    for signs in itertools.product("-_", repeat=len(parts) - 1):
        mixed = parts[0] + "".join(sign + part for sign, part in zip(signs, parts[1:], strict=True))
        yield from {mixed, mixed.lower(), mixed.upper()}


FORGED = [spelling for name in IDENTITY_HEADERS for spelling in spellings(name)]


def _cookie_header(guest: Guest) -> tuple[str, str]:
    return "Cookie", "; ".join(f"{name}={value}" for name, value in guest.cookies().items())


# Forged identity


@pytest.mark.parametrize("name", ["hubs", "login", "api"])
def test_a_forged_header_logs_nobody_in(bed: Bed, site: Site, alice: Visitor, name: str) -> None:
    """Without a session no spelling of an identity header opens anything, on no name."""
    path = {"hubs": "/htc/hub/home", "login": "/realms/af/account/", "api": "/htc/hub/api/user"}
    opened = []
    for header in FORGED:
        answer = guests.say(site, bed.front_door(name), path[name], [(header, alice.name)])
        if answer.status == 200 and alice.name in answer.text:
            opened.append(header)
        if name != "login":
            assert answer.status in (302, 303, 401), f"{header}: HTTP {answer.status}"
    assert not opened


def test_a_forged_header_makes_nobody_somebody_else(
    site: Site, guest: Guest, alice: Visitor
) -> None:
    """Within one's own session a forged header, once or twice, changes nothing."""
    assert guest.who() == guest.person.name
    wrong = []
    for header in FORGED:
        seen = guest.who(headers={header: alice.name})
        if seen != guest.person.name:
            wrong.append(f"{header}: {seen}")
    assert not wrong
    target = urlsplit(guest.url).path + "/hub/home"
    for first, second in (("X-Remote-User", "x-remote-user"), ("X-Remote-User", "X_Remote_User")):
        headers = [_cookie_header(guest), (first, alice.name), (second, alice.name)]
        answer = guests.say(site, guest.url, target, headers)
        assert f'user: "{alice.name}"' not in answer.text


def test_a_forged_header_beside_a_token_changes_nothing(site: Site, alice: Visitor) -> None:
    """At the API door the token says who it is, whatever stands beside it."""
    client = alice.on("htcondor")
    other = site.people("person")[1].name
    target = f"{urlsplit(client.url).path}/hub/api/user"
    for header in FORGED:
        answer = guests.say(
            site, client.url, target, [("Authorization", f"token {client.token}"), (header, other)]
        )
        assert answer.status == 200, f"{header}: HTTP {answer.status}"
        assert json.loads(answer.text)["name"] == alice.name


# Sessions that are not there, and other people's


def test_no_session_opens_no_server(
    bed: Bed, site: Site, alice: Visitor, spawn: Callable[..., Spawn]
) -> None:
    """Without cookies a running server is closed: a page leads to the login, the rest is 401."""
    client = alice.on("htcondor")
    spawn(client, "htcondor")
    path = urlsplit(client.url).path + client.server_path()
    page = guests.say(site, bed.front_door_url, f"{path}/lab", [("Accept", "text/html")])
    assert page.status in (302, 303)
    led_to = page.headers["Location"]
    assert led_to.startswith((bed.front_door("login"), f"{bed.front_door_url}/-/go/")), led_to
    for extra in (
        [("Accept", "application/json"), ("X-Requested-With", "XMLHttpRequest")],
        [("Accept", "*/*"), ("Sec-Fetch-Mode", "cors")],
        [("Authorization", "token " + "0" * 64)],
        [("Authorization", f"token {client.token}"), ("X-Requested-With", "XMLHttpRequest")],
    ):
        answer = guests.say(site, bed.front_door_url, f"{path}/api/status", extra)
        assert answer.status in (401, 403), f"{extra[0]}: HTTP {answer.status}"


def test_anothers_hub_cookies_make_nobody_another(come_in: Enter) -> None:
    """Hub cookies of one person inside the session of another: the door's word counts."""
    one, other = come_in(), come_in()
    # The door's own session of the one, everything else of the other.
    mixed = other.copy()
    for cookie in iter(one.browser.cookies):
        if cookie.path == "/" and "session" in cookie.name.lower():
            mixed.browser.cookies.set_cookie(cookie)
    assert mixed.who() in (None, one.person.name)
    page = mixed.get("/hub/home", follow=True)
    assert f'user: "{other.person.name}"' not in page.text


def test_a_changed_login_does_not_go_on_as_the_last_person(come_in: Enter) -> None:
    """One browser, two people one after the other: the hub's old session is not taken over."""
    first = come_in()
    # What is left is the hub's own session, as when only the door's has run out.
    for cookie in list(iter(first.browser.cookies)):
        if cookie.path == "/" and "session" in cookie.name.lower():
            first.browser.cookies.clear(cookie.domain, cookie.path, cookie.name)
    assert first.get("/hub/home").status_code in (302, 303, 401)


# Tokens


def test_a_token_of_another_hub_is_told_so(site: Site, alice: Visitor) -> None:
    """A token at a hub that did not make it: 403, and both are named."""
    client = alice.on("htcondor")
    other = site.hub_for("slurm")
    wrong = HubClient(site.api_url(other), client.user, client.token, verify=site.verify)
    with pytest.raises(HubRefused) as refusal:
        wrong.get_json("/hub/api/user")
    assert refusal.value.status == 403
    assert client.instance in refusal.value.message
    assert other.name in refusal.value.message
    wrong.close()


def test_a_token_with_another_instances_name_is_worth_nothing(site: Site, alice: Visitor) -> None:
    """Whoever writes another instance behind their token only meets one that knows it not."""
    client = alice.on("htcondor")
    stem = client.token.rpartition(".")[0]
    for instance in site.hub_for("htcondor").instances:
        if instance != client.instance:
            forged = client.again(Secret(f"{stem}.{instance}"))
            with pytest.raises(HubRefused) as refusal:
                forged.get_json("/hub/api/user")
            assert refusal.value.status in (401, 403)
            forged.close()


def test_a_cookie_opens_nothing_at_the_api_door(site: Site, guest: Guest) -> None:
    """The API door knows tokens alone; a browser's cookies are dropped, and the answer says so."""
    api = site.api_url(guest.hub)
    target = urlsplit(api).path + "/hub/api/user"
    xsrf = [("X-XSRFToken", guest.cookies().get("_xsrf", ""))]
    for method in ("GET", "POST", "DELETE"):
        answer = guests.say(site, api, target, [_cookie_header(guest), *xsrf], method=method)
        assert answer.status == 401
        assert "token" in json.loads(answer.text)["message"].lower()
    client = guest.client()
    answer = guests.say(
        site, api, target, [_cookie_header(guest), ("Authorization", f"Bearer {client.token}")]
    )
    assert answer.status == 200
    assert "Set-Cookie" not in answer.headers
    client.close()


def test_the_api_door_leads_to_no_page(site: Site, alice: Visitor) -> None:
    """With a good token only the API of hub and server is there: no page, no form, no admin."""
    client = alice.on("htcondor")
    base = urlsplit(client.url).path
    token = ("Authorization", f"token {client.token}")
    server = client.server_path()
    for path in ("/hub/home", "/hub/token", "/hub/login", "/hub/admin", "/hub/spawn",
                 f"{server}/lab", f"{server}/files/x", "/", ""):  # fmt: skip
        answer = guests.say(site, client.url, base + path, [token])
        assert answer.status == 404, f"{path}: HTTP {answer.status}"
        assert json.loads(answer.text)["message"]


# Tricks with paths

TRICKS = (
    "/{hub}/hub/../user/{name}/",
    "/{hub}/user/../hub/home",
    "/{hub}/hub/%2e%2e/user/{name}/",
    "/{hub}/hub/..%2fuser/{name}/",
    "//{hub}/hub/home",
    "/{hub}//hub/home",
    "/-/../{hub}/hub/home",
    "/-/static/../../{hub}/hub/home",
    "/-/static/%2e%2e/%2e%2e/{hub}/hub/home",
    "/{hub}/hub\\..\\user/{name}/",
    "/{hub}%2fhub%2fhome",
    "/{hub}/hub/api/../home",
    "/{hub}/user/{name}/api/../../../hub/home",
    "/{hub}/user/{name}/api/..%2f..%2f..%2fhub/home",
    "/{hub}/hub/api/%2e%2e/%2e%2e/user/{name}/lab",
    "/{hub};a=b/hub/home",
    "/{hub}/hub;/../user/{name}/",
    "/./{hub}/./hub/./home",
)
INSIDE = (
    "/{hub}/hub/api/af/hello",
    "/{hub}/hub/api/af/exchange",
    "/{hub}/hub/api/af/notice",
    "/{hub}/hub/api/af/secrets",
    "/{hub}/hub/api/af/presence",
    "/{hub}/hub/api/af/limits",
    "/{hub}/hub/api/af/more-time",
    "/{hub}/hub/api/af/own-environments",
    "/{hub}/hub/api/af/live-help",
    "/{hub}/hub/api/af/live-help/people/alice",
    "/{hub}/hub/api/af/end-sessions",
    "/{hub}/hub/api//af/hello",
    "/{hub}/hub/api/./af/hello",
    "/{hub}/hub/api/af/%68ello",
    "/{hub}/hub/api/%61f/hello",
    "/{hub}/hub/api/af;/hello",
    "/{hub}/hub/api/af/hello/",
)


@pytest.mark.parametrize("trick", TRICKS)
def test_a_trick_with_a_path_opens_nothing(
    bed: Bed, site: Site, alice: Visitor, trick: str
) -> None:
    """No spelling of a path gets past the login, or with a token beyond the API."""
    client = alice.on("htcondor")
    hub = site.hub_for("htcondor")
    target = trick.format(hub=hub.name, name=alice.name)
    as_nobody = guests.say(site, bed.front_door_url, target)
    assert as_nobody.status in (301, 302, 303, 400, 401, 403, 404), as_nobody.status
    token = ("Authorization", f"token {client.token}")
    with_token = guests.say(site, client.url, target, [token])
    assert with_token.status in (400, 401, 403, 404), with_token.status


@pytest.mark.parametrize("path", INSIDE)
@pytest.mark.parametrize("name", ["hubs", "api"])
def test_what_jobs_say_to_hubs_is_said_inside_only(
    bed: Bed, site: Site, guest: Guest, alice: Visitor, path: str, name: str
) -> None:
    """The routes between jobs and hub are reached by no name of the front door."""
    client = alice.on("htcondor")
    target = path.format(hub=site.hub_for("htcondor").name)
    headers = [("Content-Type", "application/json"), ("Content-Length", "0")]
    if name == "api":
        headers.append(("Authorization", f"token {client.token}"))
    else:
        headers.append(_cookie_header(guest))
    answer = guests.say(site, bed.front_door(name), target, headers, method="POST")
    assert answer.status in (400, 401, 403, 404), f"{answer.status}: {answer.text[:200]}"
    if re.fullmatch(r"/\w+/hub/api/af/[a-z-]+", target):
        assert answer.status == 404


@pytest.mark.parametrize("host", ["127.0.0.1", "evil.example", "hubs.af.localhost.evil.example"])
def test_other_names_are_nobodys(bed: Bed, site: Site, host: str) -> None:
    """A request for a name that is not one of the four gets nothing."""
    parts = urlsplit(bed.front_door_url)
    with loopback.connect_tls(parts.hostname or "", parts.port or 443, verify=site.verify) as tls:
        tls.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = tls.recv(65536).decode(errors="replace")
    assert answer.split(" ", 2)[1] in ("400", "403", "404", "421"), answer[:200]


@pytest.mark.parametrize("name", ["hubs", "help", "login", "api"])
def test_every_name_has_the_security_headers(bed: Bed, site: Site, name: str) -> None:
    """HSTS and the usual headers stand once on each answer, on errors too."""
    for path in ("/", "/no/such/page"):
        answer = guests.say(site, bed.front_door(name), path)
        held = {header.lower(): value for header, value in answer.headers.items()}
        assert "max-age=" in held["strict-transport-security"]
        assert held["x-content-type-options"] == "nosniff"
        assert held["referrer-policy"]


# Web sockets


@pytest.fixture
def channels(alice: Visitor, spawn: Callable[..., Spawn]) -> Iterator[str]:
    """The path of a web socket to a kernel of alice's that runs."""
    client = alice.on("htcondor")
    spawn(client, "htcondor")
    with Kernel.start(client) as kernel:
        base = urlsplit(client.url).path + client.server_path()
        yield f"{base}/api/kernels/{kernel.kernel_id}/channels"


def _opens(bed: Bed, site: Site, path: str, header: dict[str, str], origin: str | None) -> int:
    """The status that a web socket's opening gets; 101 when it opens."""
    try:
        opened = loopback.web_socket(
            bed.front_door_url + path, header=header, verify=site.verify, origin=origin
        )
    except websocket.WebSocketBadStatusException as refusal:
        return int(refusal.status_code)
    opened.close()
    return 101


def test_a_web_socket_needs_a_session_and_its_own_origin(
    bed: Bed, site: Site, come_in: Enter, alice: Visitor, channels: str
) -> None:
    """A kernel's web socket opens to its owner's own pages: not without a cookie, not for a
    page of another site, not for somebody else."""
    own, foreign = bed.front_door_url, "https://evil.example"
    assert _opens(bed, site, channels, {}, own) in (401, 403)
    token = {"Authorization": f"token {alice.on('htcondor').token}"}
    assert _opens(bed, site, channels, token, own) in (401, 403)
    hers = come_in(person=alice.name)
    # Her server's own session begins with a page of it.
    assert hers.get(f"/user/{alice.name}/lab", follow=True).status_code == 200
    cookies = dict([_cookie_header(hers)])
    assert _opens(bed, site, channels, cookies, own) == 101
    for origin in (foreign, own + ".evil.example", "null", bed.front_door("login"),
                   bed.front_door("api"), own.replace("https", "http")):  # fmt: skip
        assert _opens(bed, site, channels, cookies, origin) == 403, origin
    other = come_in()
    other.get(f"/user/{alice.name}/lab", follow=True)
    assert _opens(bed, site, channels, dict([_cookie_header(other)]), own) in (401, 403, 404)


# Identity


def test_groups_of_the_directory_are_groups_at_every_hub(site: Site, alice: Visitor) -> None:
    """Who is in which group the directory says, and each hub knows it."""
    for hub in site.hubs:
        client = alice.at(hub)
        model = client.get_json(f"/hub/api/users/{client.user}")
        assert sorted(model["groups"]) == sorted(site.person(alice.name).groups), hub.name
