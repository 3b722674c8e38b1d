"""The front door names the person: nothing but its own header counts, at every request."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from jupyterhub import orm
from traitlets.config import Config
from traitlets.traitlets import TraitError

from afportal.auth import RemoteUserAuthenticator, header
from afportal.configure import _mark_tokens
from afportal.hub_api import CUSTOM_SCOPES, END_SESSIONS, EndSessionsHandler
from tests.afportal.hub_in_process import Loop, RunningHub, running_hub

SECRET = "s" * 64
FRONT_TOKEN = "f" * 64
GROUPS: dict[str, list[str] | None] = {"alice": ["people", "gpu"], "bob": ["people"]}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A hub of a header's people, with the portal's end-sessions route."""

    async def groups(person: str) -> list[str] | None:
        return GROUPS.get(person)

    config = Config()
    config.JupyterHub.bind_url = "http://:8000/htc/"
    config.JupyterHub.authenticator_class = RemoteUserAuthenticator
    config.RemoteUserAuthenticator.proxy_secret = SECRET
    config.Authenticator.allow_all = True
    config.JupyterHub.custom_scopes = CUSTOM_SCOPES
    config.JupyterHub.extra_handlers = [(r"/api/af/end-sessions", EndSessionsHandler)]
    config.JupyterHub.services = [{"name": "front", "api_token": FRONT_TOKEN}]
    config.JupyterHub.load_roles = [
        {"name": "front", "scopes": [END_SESSIONS], "services": ["front"]},
        {"name": "user", "scopes": ["self"]},
    ]
    patch = pytest.MonkeyPatch()
    patch.setattr(header, "find_groups", groups)
    patch.setattr(orm, "new_token", orm.new_token)
    _mark_tokens("htc-1")
    loop = Loop()
    with running_hub(tmp_path_factory.mktemp("hub"), config, loop) as running:
        yield running
    loop.close()
    patch.undo()


def door(person: str, token: str = "", **changed: str) -> dict[str, str]:
    """The headers that the front door writes."""
    written = {"X-Remote-User": person, "X-Proxy-Secret": SECRET}
    return {**written, **({"X-Access-Token": token} if token else {}), **changed}


def page(
    hub: RunningHub, browser: requests.Session, person: str, path: str = "/hub/token"
) -> requests.Response:
    """Open a page as a browser behind the front door does, redirects included."""
    return browser.get(hub.url + path, headers=door(person), timeout=10)


def who(answer: requests.Response) -> str:
    """Whom a page of the hub is drawn for."""
    return answer.text.partition('user: "')[2].partition('"')[0]


def logged_in(hub: RunningHub, person: str) -> requests.Session:
    browser = hub.browser()
    assert who(page(hub, browser, person)) == person
    return browser


def api_token(hub: RunningHub, browser: requests.Session, person: str) -> str:
    answer = browser.post(
        f"{hub.url}/hub/api/users/{person}/tokens",
        headers=door(person, **{"X-XSRFToken": browser.cookies["_xsrf"]}),
        timeout=10,
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def me(hub: RunningHub, headers: dict[str, str], browser: Any = requests) -> int:
    answer = browser.get(f"{hub.url}/hub/api/user", headers=headers, timeout=10)
    return int(answer.status_code)


def test_the_named_person_is_logged_in(hub: RunningHub) -> None:
    """One header with the door's secret is a login, with the groups of the directory."""
    logged_in(hub, "alice")
    groups = hub.database(lambda db: {group.name for group in orm.User.find(db, "alice").groups})
    assert groups == {"people", "gpu"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Remote-User": "alice"},
        {"X-Proxy-Secret": SECRET},
        door("alice", **{"X-Proxy-Secret": "x" * 64}),
        door("alice", **{"X-Proxy-Secret": ""}),
        door("alice", **{"X-Proxy-Secret": SECRET + "é"}),
        door(""),
        door("alice, bob"),
        door("alice,alice"),
        door("Alice"),
        door("../alice"),
        door("alice bob"),
        {"X_Remote_User": "alice", "X-Proxy-Secret": SECRET},
        {"Remote-User": "alice", "X-Proxy-Secret": SECRET},
    ],
    ids=str,
)
def test_nobody_is_logged_in_by_anything_else(hub: RunningHub, headers: dict[str, str]) -> None:
    """No secret, a wrong one, no name, two names, another spelling: no login."""
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = requests.get(f"{hub.url}/hub/login", headers=encoded, timeout=10)
    assert answer.status_code == 403
    assert "jupyterhub-hub-login" not in answer.cookies


@pytest.mark.parametrize("twice", ["X-Remote-User", "X-Proxy-Secret"])
def test_a_header_that_comes_twice_counts_for_nothing(hub: RunningHub, twice: str) -> None:
    """Of two headers of a name neither is believed, even if they agree."""
    connection = http.client.HTTPConnection(hub.url.split("/")[2])
    connection.putrequest("GET", "/htc/hub/login")
    for name, value in [*door("alice").items(), (twice, door("alice")[twice])]:
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == 403
    connection.close()


def test_anothers_cookie_gives_nothing_of_the_other(hub: RunningHub) -> None:
    """With alice's cookie and bob's header one is bob, and alice's session there is over."""
    browser = logged_in(hub, "alice")
    hers = dict(browser.cookies)
    assert who(page(hub, browser, "bob")) == "bob"
    for name in ("jupyterhub-hub-login", "jupyterhub-session-id"):
        assert browser.cookies[name] != hers[name]


def test_anothers_cookie_at_the_api_is_refused(hub: RunningHub) -> None:
    """A request that cannot log in anew is refused, not answered as either."""
    browser = logged_in(hub, "alice")
    assert me(hub, door("bob"), browser) == 403


def test_a_cookie_alone_is_nothing(hub: RunningHub) -> None:
    """Page and API want the header beside the hub's cookie; with it the session goes on."""
    browser = logged_in(hub, "alice")
    assert me(hub, {}, browser) == 403
    assert who(browser.get(f"{hub.url}/hub/token", timeout=10)) == ""
    assert me(hub, door("alice", **{"X-Proxy-Secret": "x" * 64}), browser) == 403
    assert me(hub, door("alice"), browser) == 200


def test_a_token_needs_no_header_and_bears_no_others(hub: RunningHub) -> None:
    """Jobs and programs have tokens only; a token beside another person's header is refused."""
    token = {"Authorization": f"token {api_token(hub, logged_in(hub, 'alice'), 'alice')}"}
    assert me(hub, token) == 200
    assert me(hub, token | door("alice")) == 200
    assert me(hub, token | door("bob")) == 403
    assert me(hub, token | {"X-Remote-User": "alice"}) == 403
    assert me(hub, token | {"X-Remote-User": "bob"}) == 403


def test_a_token_says_which_instance_made_it(hub: RunningHub) -> None:
    """The API door picks the instance by the token's end."""
    token = api_token(hub, logged_in(hub, "alice"), "alice")
    assert len(token) == 32 + len(".htc-1")
    assert token.endswith(".htc-1")


def test_the_newest_access_token_is_kept_encrypted(hub: RunningHub) -> None:
    """The front door refreshes a person's token; the hub has the newest, and none in clear."""

    def state() -> dict[str, Any] | None:
        async def read() -> dict[str, Any] | None:
            user = hub.app.users["alice"]
            kept: dict[str, Any] | None = await user.get_auth_state()
            return kept

        return hub.loop.call(read)

    browser = hub.browser()
    for token in ("first", "first", "second"):
        browser.get(f"{hub.url}/hub/token", headers=door("alice", token), timeout=10)
        assert state() == {"access_token": token}
    page(hub, browser, "alice")
    assert state() == {"access_token": "second"}
    raw = hub.database(lambda db: orm.User.find(db, "alice").encrypted_auth_state)
    assert b"second" not in raw


def test_groups_stay_while_the_directory_is_away(hub: RunningHub) -> None:
    """A directory that does not answer takes nobody's groups."""
    logged_in(hub, "bob")
    GROUPS["bob"] = None
    try:
        logged_in(hub, "bob")
    finally:
        GROUPS["bob"] = ["people"]
    assert hub.database(lambda db: [g.name for g in orm.User.find(db, "bob").groups]) == ["people"]


def test_log_out_leads_to_the_front_door(hub: RunningHub) -> None:
    """Log Out of a server's page ends the hub's session and goes where the others end."""
    browser = logged_in(hub, "alice")
    answer = browser.get(
        f"{hub.url}/hub/logout", headers=door("alice"), allow_redirects=False, timeout=10
    )
    assert (answer.status_code, answer.headers["Location"]) == (302, "/logout")
    assert "jupyterhub-hub-login" not in browser.cookies


def test_ended_sessions_are_over_and_tokens_stay(hub: RunningHub) -> None:
    """One Log Out ends a person's browsers here, not their API tokens, and nobody else's."""
    alice, bob = logged_in(hub, "alice"), logged_in(hub, "bob")
    token = api_token(hub, alice, "alice")

    def open_server_session(db: Any) -> None:
        db.add(orm.OAuthClient(identifier="jupyterhub-user-alice", redirect_uri="", secret=""))
        db.commit()
        orm.APIToken.new(
            user=orm.User.find(db, "alice"), session_id="s1", client_id="jupyterhub-user-alice"
        )

    hub.database(open_server_session)
    front = {"Authorization": f"token {FRONT_TOKEN}"}
    where = f"{hub.url}/hub/api/af/end-sessions"
    answer = requests.post(where, headers=front, json={"user": "alice"}, timeout=10)
    assert answer.json() == {"known": True, "ended": 1}
    assert me(hub, door("alice"), alice) == 403
    assert me(hub, {"Authorization": f"token {token}"}) == 200
    assert me(hub, door("bob"), bob) == 200
    unknown = requests.post(where, headers=front, json={"user": "nobody"}, timeout=10)
    assert unknown.json() == {"known": False, "ended": 0}


def test_only_the_front_door_ends_sessions(hub: RunningHub) -> None:
    """A person's own token, a cookie and nothing at all are refused."""
    browser = logged_in(hub, "alice")
    where = f"{hub.url}/hub/api/af/end-sessions"
    token = api_token(hub, browser, "alice")
    for headers in (
        {"Authorization": f"token {token}"},
        door("alice", **{"X-XSRFToken": browser.cookies["_xsrf"]}),
        {},
    ):
        answer = browser.post(where, headers=headers, json={"user": "bob"}, timeout=10)
        assert answer.status_code == 403


def test_a_short_secret_stops_the_hub() -> None:
    """A hub that would believe an empty secret does not start."""
    for secret in ("", "short"):
        with pytest.raises(TraitError, match="at least 32"):
            RemoteUserAuthenticator(proxy_secret=secret)


def test_the_module_names_both_authenticators() -> None:
    """`afportal.auth` has each by name, and imports only what is asked for."""
    import afportal.auth as auth

    assert auth.RemoteUserAuthenticator is RemoteUserAuthenticator
    assert auth.KeycloakAuthenticator.__name__ == "KeycloakAuthenticator"
    with pytest.raises(AttributeError):
        auth.DirectoryAuthenticator  # noqa: B018


def test_groups_of_a_stranger_are_none(tmp_path: Path) -> None:
    """An account that does not exist has no groups, and a name is no path."""
    from afportal.auth import groups_of

    assert groups_of(str(tmp_path)) == []
