"""Live help at a whole hub: who may let whom in, until when, and what the pages say."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from jupyterhub import orm
from jupyterhub.scopes import get_scopes_for
from traitlets.config import Config

from afportal.hub_api import SessionHandler
from afportal.live_help import door_pass, grants
from tests.afportal.fakes import NeverMatched
from tests.afportal.portal_in_process import RunningPortal, running_portal
from tests.afportal.test_form_in_hub import words
from tests.afportal.test_share_in_hub import CATALOGUE, Session, running

FRONT = "https://hubs.example/-/help"
SECRET = "d" * 64
ROUTE = "/af/live-help"


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPortal]:
    """A hub with live help; a server is whoever has its token, wherever it runs."""
    folder = tmp_path_factory.mktemp("hub")
    (folder / "catalogue.yaml").write_text(CATALOGUE)
    (folder / "secret").write_text(SECRET + "\n")
    settings = folder / "portal.yaml"
    settings.write_text(
        "catalogue: catalogue.yaml\nbackends: {near: {}, far: {}}\n"
        f"shares:\n  database: 'sqlite:///{folder}/shares.sqlite'\n  folder: '{folder}/shares'\n"
        f"  live_help: {{url: '{FRONT}', secret_file: '{folder}/secret'}}\n"
    )
    config = Config()
    config.JupyterHub.allow_named_servers = True
    config.PortalSpawner.req_homedir = "/home/{username}"
    patch = pytest.MonkeyPatch()
    patch.setattr("afportal.portal.backend_of", lambda _: NeverMatched)
    patch.setattr(orm.Share, "scopes", orm.Share.scopes)

    async def check_host(*_: Any, **__: Any) -> str:
        return "127.0.0.1"

    patch.setattr(SessionHandler, "_check_host", check_host)
    # Behind the door a hub has a name before its paths.
    patch.setattr("afportal.live_help.page._name_of", lambda _: "htc")
    with running_portal(folder, settings, config) as running:
        yield running
    patch.undo()


@dataclass
class Helper:
    """Somebody with a browser."""

    portal: RunningPortal
    name: str
    browser: requests.Session

    def get(self, path: str, **more: Any) -> requests.Response:
        url = f"{self.portal.hub.url}/hub/{path}"
        return self.browser.get(url, timeout=60, allow_redirects=False, **more)

    def accept(self, code: str, **fields: str) -> requests.Response:
        sent = {"code": code, "_xsrf": self.browser.cookies.get("_xsrf", ""), **fields}
        url = f"{self.portal.hub.url}/hub/accept-share"
        return self.browser.post(url, sent, timeout=60, allow_redirects=False)

    def enter(self, owner: str, **fields: str) -> requests.Response:
        """Click on a page's button for the way in."""
        sent = {"_xsrf": self.browser.cookies.get("_xsrf", ""), **fields}
        url = f"{self.portal.hub.url}/hub/af/help/{owner}"
        return self.browser.post(url, sent, timeout=60, allow_redirects=False)

    def may_enter(self, owner: str) -> bool:
        """Whether JupyterHub would let this person into that server."""

        def look(database: Any) -> bool:
            scopes = get_scopes_for(orm.User.find(database, self.name))
            return f"access:servers!server={owner}/" in scopes

        return self.portal.hub.database(look)


def person(portal: RunningPortal, name: str) -> Helper:
    portal.person(name)
    return Helper(portal, name, portal.browser(name))


@pytest.fixture(scope="module")
def alice(portal: RunningPortal) -> Session:
    return running(portal, "alice", "cms", environment="theirs")


@pytest.fixture(scope="module")
def bob(portal: RunningPortal) -> Helper:
    return person(portal, "bob")


@pytest.fixture(scope="module")
def carol(portal: RunningPortal) -> Helper:
    return person(portal, "carol")


@pytest.fixture(autouse=True)
def nobody_is_in(alice: Session) -> Iterator[None]:
    yield
    assert alice.ask("DELETE", ROUTE).status_code == 204


def make(alice: Session, minutes: int = 15) -> tuple[str, dict[str, Any]]:
    """Make a link; returns its code, and what was told of it."""
    answer = alice.ask("POST", ROUTE, json={"lifetime_min": minutes})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    return parse_qs(urlsplit(told["url"]).query)["code"][0], told


def problem(page: requests.Response) -> tuple[int, str]:
    assert f'data-af-help-problem="{page.status_code}"' in page.text, words(page.text)
    return page.status_code, words(page.text)


def look(helper: Helper, code: str) -> requests.Response:
    return helper.get("accept-share", params={"code": code})


def pass_of(gone: requests.Response) -> door_pass.Pass:
    """The pass that a browser is sent with to the front, which takes it on."""
    assert gone.status_code == 303, words(gone.text)
    goal = urlsplit(gone.headers["Location"])
    assert (goal.netloc, goal.path) == ("", "/-/help/in/htc")
    (value,) = parse_qs(goal.query)["key"]
    made = door_pass.read(SECRET, value, time.time())
    assert made is not None
    return made


def is_in(alice: Session, helper: Helper, minutes: int = 15) -> None:
    code, _ = make(alice, minutes)
    assert look(helper, code).status_code == 200
    gone = helper.accept(code)
    assert pass_of(gone).person == helper.name
    assert helper.may_enter("alice")


def test_a_link_lets_one_person_in(alice: Session, bob: Helper, carol: Helper) -> None:
    """The page says what it means; used, it is good for nobody else; the owner sees who is in."""
    code, told = make(alice)
    assert told["url"] == f"{FRONT}?on=test-1&owner=alice&server=&code={code}"
    assert 14 * 60 < told["ends_s"] - time.time() <= 15 * 60
    listed = alice.ask("GET", ROUTE).json()
    assert [link["id"] for link in listed["links"]] == [told["id"]]
    assert listed["people"] == []
    assert listed["lifetimes_min"] == [15, 30, 60]
    assert code not in alice.ask("GET", ROUTE).text
    said = words(look(bob, code).text)
    for part in ("alice lets you, bob, into their server", "There you are alice", "15 min more"):
        assert part in said, said
    assert not bob.may_enter("alice")
    assert pass_of(bob.accept(code)).owner == "alice"
    assert bob.may_enter("alice")
    assert not carol.may_enter("alice")
    status, said = problem(carol.accept(code))
    assert status == 404
    assert "for one person" in said
    assert not carol.may_enter("alice")
    # Whoever is in is told the way in by the same link.
    again = look(bob, code)
    assert 'data-af-open-now="alice/"' in again.text
    assert 'method="post" action="/hub/af/help/alice"' in again.text
    assert again.headers["Referrer-Policy"] == "strict-origin"
    (inside,) = alice.ask("GET", ROUTE).json()["people"]
    assert inside["name"] == "bob"
    assert abs(inside["ends_s"] - told["ends_s"]) < 1


def test_the_way_in_is_a_pass_for_that_person(alice: Session, bob: Helper, carol: Helper) -> None:
    """For that owner's servers at that instance, with an end."""
    is_in(alice, bob)
    assert bob.get("af/help/alice").status_code == 200
    made = pass_of(bob.enter("alice"))
    assert (made.hub, made.instance, made.owner, made.person) == ("htc", "test-1", "alice", "bob")
    assert 14 * 60 < made.until_s - time.time() <= 15 * 60 + 1
    for answer in (carol.get("af/help/alice"), carol.get("af/help/alice"), carol.enter("alice")):
        status, said = problem(answer)
        assert status == 403
        assert "alice's server is not open to you" in said
    for place in ("bob", "alice/other", "nobody"):
        assert problem(bob.get(f"af/help/{place}"))[0] == 403
        assert problem(bob.enter(place))[0] == 403


@pytest.mark.parametrize("site", [None, "none", "same-origin", "same-site", "cross-site"])
def test_no_navigation_gives_a_pass(alice: Session, bob: Helper, site: str | None) -> None:
    """Wherever it comes from, also by a redirect of ours; a form needs the page's own word."""
    is_in(alice, bob)
    headers = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    headers |= {"Sec-Fetch-Site": site} if site else {}
    page = bob.get("af/help/alice", headers=headers)
    assert page.status_code == 200
    assert 'data-af-help-enter="alice"' in page.text
    assert 'method="post" action="/hub/af/help/alice"' in page.text
    assert "Location" not in page.headers
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    refused = bob.enter("alice", _xsrf="")
    assert refused.status_code == 403
    assert "Location" not in refused.headers


def test_bad_links(alice: Session, bob: Helper) -> None:
    """A page for each that says what is wrong and what to do."""
    code, told = make(alice)
    for mangled in ("", code[:-3], code + "x", code[:-1] + "=", "../../etc/passwd"):
        status, said = problem(look(bob, mangled))
        assert status == 400
        assert "no whole link" in said
    own = Helper(alice.portal, "alice", alice.browser)
    status, said = problem(look(own, code))
    assert status == 403
    assert "into your own server" in said
    assert problem(own.accept(code))[0] == 403
    assert alice.ask("DELETE", f"{ROUTE}/links/{told['id']}").status_code == 204
    assert problem(look(bob, code))[0] == 404
    assert alice.ask("DELETE", f"{ROUTE}/links/{told['id']}").status_code == 404


def test_who_guesses_is_stopped(alice: Session, portal: RunningPortal) -> None:
    mallory = person(portal, "mallory")
    code, _ = make(alice)
    answers = [look(mallory, f"{guess:043d}").status_code for guess in range(12)]
    assert answers == [404] * 10 + [429] * 2
    assert problem(look(mallory, code))[0] == 429
    assert problem(mallory.accept(code))[0] == 429
    assert not mallory.may_enter("alice")


def test_a_form_of_another_site_does_nothing(alice: Session, bob: Helper) -> None:
    code, _ = make(alice)
    assert bob.accept(code, _xsrf="").status_code == 403
    assert not bob.may_enter("alice")


def test_it_ends_when_its_owner_says(alice: Session, bob: Helper, carol: Helper) -> None:
    """One person, or everybody with all unused links."""
    is_in(alice, bob)
    is_in(alice, carol)
    code, _ = make(alice)
    assert alice.ask("DELETE", f"{ROUTE}/people/bob").status_code == 204
    assert not bob.may_enter("alice")
    assert carol.may_enter("alice")
    assert alice.ask("DELETE", ROUTE).status_code == 204
    assert not carol.may_enter("alice")
    assert problem(look(bob, code))[0] == 404


def test_it_ends_with_its_time(
    alice: Session, bob: Helper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the second: what is over grants nothing before it is swept away, and is not shown."""
    is_in(alice, bob)
    code, _ = make(alice)
    now = orm.Expiring.now
    for class_ in (orm.Share, orm.ShareCode):
        monkeypatch.setattr(class_, "now", staticmethod(lambda: now() + timedelta(minutes=16)))
    assert not bob.may_enter("alice")
    assert problem(bob.enter("alice"))[0] == 403
    assert problem(bob.accept(code))[0] == 404
    told = alice.ask("GET", ROUTE).json()
    assert (told["people"], told["links"]) == ([], [])


def test_a_second_link_lengthens_it(alice: Session, bob: Helper) -> None:
    is_in(alice, bob)
    is_in(alice, bob, 60)
    is_in(alice, bob)
    (inside,) = alice.ask("GET", ROUTE).json()["people"]
    assert inside["ends_s"] - time.time() > 59 * 60


def test_no_share_is_without_end(bob: Helper, portal: RunningPortal) -> None:
    """However it came to be, also by JupyterHub's own ways."""

    def grant(database: Any) -> float:
        server = orm.User.find(database, "alice").orm_spawners[""]
        made = orm.Share.grant(database, server, orm.User.find(database, "bob"))
        return grants.unix(made.expires_at)

    ends_s = portal.hub.database(grant)
    assert 59 * 60 < ends_s - time.time() <= 60 * 60
    assert bob.may_enter("alice")


def test_it_ends_with_the_server(alice: Session, bob: Helper, portal: RunningPortal) -> None:
    """A later one is open to nobody."""
    is_in(alice, bob)
    code, _ = make(alice)

    def end(_: Any) -> None:
        user = next(u for u in portal.hub.app.users.values() if u.name == "alice")
        spawner = user.spawners[""]
        token_id, backend = spawner.token_id, spawner.backend_name
        spawner.clear_state()
        spawner.token_id, spawner.backend_name = token_id, backend

    portal.hub.database(end)
    assert not bob.may_enter("alice")
    assert problem(look(bob, code))[0] == 404


@pytest.mark.usefixtures("bob")
def test_who_may_ask(alice: Session, portal: RunningPortal) -> None:
    """A server's own token alone; of what it asks for all is checked."""
    own = portal.person("dora")
    for method, path in (("GET", ""), ("POST", ""), ("DELETE", ""), ("DELETE", "/people/bob")):
        answer = portal.ask(method, ROUTE + path, own, json={"lifetime_min": 15})
        assert answer.status_code == 403, answer.text
    for body, status in (
        ({"lifetime_min": 61}, 400), ({"lifetime_min": 0}, 400), ({"lifetime_min": "15"}, 400),
        ({}, 400), ({"lifetime_min": 15, "server": "other"}, 400),
    ):  # fmt: skip
        assert alice.ask("POST", ROUTE, json=body).status_code == status, body
    told = alice.ask("POST", ROUTE, json={"lifetime_min": 61}).json()["message"]
    assert told == "61 minutes asked; live help lasts 60 at most"
    for _ in range(grants.MOST_CODES):
        make(alice)
    assert alice.ask("POST", ROUTE, json={"lifetime_min": 15}).status_code == 409
    # JupyterHub's own routes give a person nothing.
    token = portal.ask("POST", "/users/bob/tokens").json()["token"]
    for path in ("/share-codes/bob/", "/shares/bob/", "/share-codes/alice/"):
        assert portal.ask("POST", path, token, json={}).status_code in (403, 404)


def test_a_server_that_ends_while_it_asks_opens_nothing(
    alice: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler is asked where it runs; what is there afterwards may be the next server."""

    async def ends_meanwhile(_: Any, spawner: Any, **__: Any) -> str:
        monkeypatch.setattr(spawner, "token_id", None)
        return "127.0.0.1"

    with monkeypatch.context() as patched:
        patched.setattr(SessionHandler, "_check_host", ends_meanwhile)
        assert alice.ask("POST", ROUTE, json={"lifetime_min": 15}).status_code == 403
    monkeypatch.undo()
    assert alice.ask("GET", ROUTE).json()["links"] == []


def test_the_end_of_a_server_that_is_forgotten_is_none() -> None:
    """Its row is gone from the database with all that opened it; the rest of its end goes on."""
    database = orm.new_session_factory("sqlite:///:memory:")()
    user = orm.User(name="alice")
    server = orm.Spawner(name="", user=user)
    database.add_all([user, server])
    database.commit()
    database.expunge_all()
    assert grants.end_all(server, "the server has ended") == 0
    assert grants.end(server, "the server has ended", [orm.Share()]) == 0
    grants.end_expired(server)
    database.close()


def test_a_pass_is_read_by_who_has_the_secret() -> None:
    made = door_pass.Pass(1_900_000_000, "htc", "htc-1", "alice", "bob")
    value = made.written(SECRET)
    assert value.startswith("1900000000:htc:htc-1:alice:bob:")
    assert door_pass.read(SECRET, value, 1_800_000_000) == made
    assert door_pass.read(SECRET, value, 1_900_000_000) is None
    assert door_pass.read("e" * 64, value, 1_800_000_000) is None
    for changed in (
        value.replace("bob", "eve"), value.replace("alice", "carol"),
        value.replace("htc-1", "htc-2"), value.replace("1900000000", "1900000001"),
        value[:-1], value + "0", "", value.upper(),
    ):  # fmt: skip
        assert door_pass.read(SECRET, changed, 1_800_000_000) is None
    for strange in ("a:b", "", "A", "../x"):
        with pytest.raises(ValueError, match="no pass can be written"):
            door_pass.Pass(1, "htc", "htc-1", strange, "bob").written(SECRET)


def test_a_helpers_login_to_the_server_ends_at_the_helpers_name(
    alice: Session, bob: Helper, carol: Helper, portal: RunningPortal
) -> None:
    """It is not asked for twice; others are refused as ever."""
    back = "/user/alice/oauth_callback"

    def register(database: Any) -> None:
        made = portal.hub.app.oauth_provider.add_client("jupyterhub-user-alice", "s" * 32, back)
        made.spawner = orm.User.find(database, "alice").orm_spawners[""]
        database.commit()

    portal.hub.database(register)
    query = {"client_id": "jupyterhub-user-alice", "redirect_uri": back, "response_type": "code"}
    asked = {"params": {**query, "state": "a=b"}}
    assert bob.get("api/oauth2/authorize", **asked).status_code == 403
    is_in(alice, bob)
    gone = bob.get("api/oauth2/authorize", **asked)
    assert gone.status_code == 302
    goal = urlsplit(gone.headers["Location"])
    assert (goal.netloc, goal.path) == ("", "/-/help/on/htc")
    told = parse_qs(goal.query)
    assert set(told) == {"path", "code", "state"}
    assert (told["path"], told["state"]) == ([back], ["a=b"])
    # Nothing beside the way into that server is given unasked: the page of JupyterHub asks.

    def allow(database: Any) -> None:
        client = portal.hub.app.oauth_provider.fetch_by_client_id("jupyterhub-user-alice")
        client.allowed_scopes = ["access:servers!server=alice/", "read:users:shares!user"]
        database.commit()

    portal.hub.database(allow)
    more = bob.get("api/oauth2/authorize", **asked)
    assert more.status_code == 200, more.headers
    assert 'value="read:users:shares!user"' in more.text
    own = Helper(portal, "alice", alice.browser).get("api/oauth2/authorize", **asked)
    assert urlsplit(own.headers["Location"]).path == back
    assert carol.get("api/oauth2/authorize", **asked).status_code == 403
