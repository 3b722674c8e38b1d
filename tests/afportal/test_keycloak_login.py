"""A hub that asks Keycloak itself; Keycloak is a stand-in that signs as Keycloak does."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa
from jupyterhub import orm
from jwt.algorithms import RSAAlgorithm
from tornado import web
from traitlets.config import Config

from afportal.auth import KeycloakAuthenticator, keycloak
from afportal.auth.logout_token import EVENT
from tests.afportal.hub_in_process import Loop, RunningHub, running_hub

ISSUER = "https://login.af.localhost:8443/realms/af"
LOGGED_OUT = "https://hubs.af.localhost:8443/-/logged-out"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Realm:
    """What the stand-in answers now."""

    asked_for_token: dict[str, str]

    def begin(self, person: str) -> None:
        """Be well, with this person before the browser."""
        self.person = person
        self.again = ""
        self.session_lives = True
        self.away = False
        self.asked_for_token = {}

    def claims(self) -> dict[str, Any]:
        return {
            "sub": f"sub-of-{self.person}",
            "sid": f"session-of-{self.person}{self.again}",
            "preferred_username": self.person,
            "groups": ["people", "cms"],
        }


REALM = Realm()


class _Answer(web.RequestHandler):
    def prepare(self) -> None:
        if REALM.away:
            raise web.HTTPError(503)

    def post(self) -> None:
        REALM.asked_for_token = {
            name: self.get_body_argument(name) for name in self.request.body_arguments
        }
        if not REALM.session_lives:
            raise web.HTTPError(400)
        identity = {**REALM.claims(), "iss": ISSUER, "aud": "oauth-hub"}
        self.write(
            {
                "access_token": uuid4().hex,
                "refresh_token": "refresh",
                "token_type": "Bearer",
                "id_token": jwt.encode(identity, KEY, algorithm="RS256"),
            }
        )

    def get(self) -> None:
        if self.request.path.endswith("/certs"):
            key = json.loads(RSAAlgorithm.to_jwk(KEY.public_key()))
            self.write({"keys": [key | {"kid": "k1", "use": "sig", "alg": "RS256"}]})
        elif not REALM.session_lives:
            raise web.HTTPError(401)
        else:
            self.write(REALM.claims())


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A hub of Keycloak's people that asks at every request, as no cache would let it."""

    async def nothing_known(_: str) -> None:
        return None

    loop = Loop()
    provider = loop.listen(web.Application([(r"/realms/af/.*", _Answer)]))
    config = Config()
    config.JupyterHub.bind_url = "http://:8000/oauth/"
    config.JupyterHub.authenticator_class = KeycloakAuthenticator
    config.Authenticator.allow_all = True
    config.Authenticator.auth_refresh_age = -1
    config.KeycloakAuthenticator.issuer = ISSUER
    config.KeycloakAuthenticator.inside_url = f"{provider}/realms/af"
    config.KeycloakAuthenticator.client_id = "oauth-hub"
    config.KeycloakAuthenticator.client_secret = "secret"
    config.KeycloakAuthenticator.oauth_callback_url = "https://hubs/oauth/hub/oauth_callback"
    config.KeycloakAuthenticator.logged_out_url = LOGGED_OUT
    patch = pytest.MonkeyPatch()
    patch.setattr(keycloak, "find_groups", nothing_known)
    with running_hub(tmp_path_factory.mktemp("hub"), config, loop) as running:
        yield running
    loop.close()
    patch.undo()


def logged_in(hub: RunningHub, person: str, again: str = "") -> requests.Session:
    """Walk from the hub's login to Keycloak's address and back with a code."""
    REALM.begin(person)
    REALM.again = again
    browser = hub.browser()
    away = browser.get(f"{hub.url}/hub/oauth_login", allow_redirects=False, timeout=10)
    asked = parse_qs(urlsplit(away.headers["Location"]).query)
    back = browser.get(
        f"{hub.url}/hub/oauth_callback",
        params={"code": "a-code", "state": asked["state"][0]},
        allow_redirects=False,
        timeout=10,
    )
    assert back.status_code == 302, back.text
    return browser


def is_in(hub: RunningHub, browser: requests.Session) -> bool:
    answer = browser.get(f"{hub.url}/hub/api/user", timeout=10)
    assert answer.status_code in (200, 403)
    return answer.status_code == 200


def logout_token(*, key: Any = KEY, kid: str = "k1", **changed: Any) -> str:
    """A logout token as Keycloak makes it, with what a test changes; None takes a claim away."""
    claims = {
        "iss": ISSUER,
        "aud": "oauth-hub",
        "iat": int(time.time()),
        "exp": int(time.time()) + 120,
        "jti": uuid4().hex,
        "sub": "sub-of-alice",
        "sid": "session-of-alice",
        "events": {EVENT: {}},
        **changed,
    }
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(kept, key, algorithm="RS256", headers={"kid": kid, "typ": "logout+jwt"})


def tell(hub: RunningHub, token: str) -> int:
    answer = requests.post(
        f"{hub.url}/hub/backchannel-logout", data={"logout_token": token}, timeout=10
    )
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.status_code


def test_the_browser_is_sent_to_the_public_address_with_pkce(hub: RunningHub) -> None:
    """The login begins at Keycloak's public name; the code is redeemed with its verifier."""
    answer = requests.get(f"{hub.url}/hub/oauth_login", allow_redirects=False, timeout=10)
    there = urlsplit(answer.headers["Location"])
    asked = parse_qs(there.query)
    assert answer.headers["Location"].startswith(f"{ISSUER}/protocol/openid-connect/auth?")
    assert asked["code_challenge_method"] == ["S256"]
    assert "openid" in asked["scope"][0].split()
    logged_in(hub, "alice")
    assert REALM.asked_for_token["code_verifier"]


def test_the_person_comes_with_groups(hub: RunningHub) -> None:
    """Where the directory says nothing, Keycloak's claim gives the groups."""
    assert is_in(hub, logged_in(hub, "alice"))
    groups = hub.database(lambda db: {group.name for group in orm.User.find(db, "alice").groups})
    assert groups == {"people", "cms"}


def test_a_callback_without_its_own_state_is_refused(hub: RunningHub) -> None:
    """A code that another browser was given logs nobody in."""
    answer = requests.get(
        f"{hub.url}/hub/oauth_callback", params={"code": "c", "state": "e30="}, timeout=10
    )
    assert answer.status_code == 400


def test_people_go_on_while_keycloak_is_away(hub: RunningHub) -> None:
    """An outage of Keycloak's logs nobody out; the end of the session there does."""
    browser = logged_in(hub, "alice")
    REALM.away = True
    assert is_in(hub, browser)
    REALM.away = False
    assert is_in(hub, browser)
    REALM.session_lives = False
    assert not is_in(hub, browser)


def test_log_out_ends_the_session_at_keycloak(hub: RunningHub) -> None:
    """Log Out ends the person's sessions here and names the one that Keycloak is to end.

    It is the one of that browser, also when the person logged in elsewhere since.
    """
    browser = logged_in(hub, "alice")
    elsewhere = logged_in(hub, "alice", again="-elsewhere")
    assert is_in(hub, browser)  # which also refreshes what is kept
    answer = browser.get(f"{hub.url}/hub/logout", allow_redirects=False, timeout=10)
    asked = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert answer.headers["Location"].startswith(f"{ISSUER}/protocol/openid-connect/logout?")
    assert asked["post_logout_redirect_uri"] == [LOGGED_OUT]
    hint = jwt.decode(asked["id_token_hint"][0], options={"verify_signature": False})
    assert hint["sid"] == "session-of-alice"
    assert not is_in(hub, browser)
    assert not is_in(hub, elsewhere)


def test_log_out_of_nobody_goes_to_the_last_page(hub: RunningHub) -> None:
    """Who is not logged in asks Keycloak for nothing."""
    answer = requests.get(f"{hub.url}/hub/logout", allow_redirects=False, timeout=10)
    assert answer.headers["Location"] == LOGGED_OUT


@pytest.mark.parametrize("named", [{}, {"sid": None}, {"sub": None}])
def test_keycloak_ends_the_sessions_of_one_person(hub: RunningHub, named: dict[str, None]) -> None:
    """A log-out at Keycloak, by person or session, ends that person's sessions and no other's."""
    bob, alice = logged_in(hub, "bob"), logged_in(hub, "alice")
    assert tell(hub, logout_token(**named)) == 204
    REALM.person = "bob"
    assert is_in(hub, bob)
    REALM.person = "alice"
    assert not is_in(hub, alice)


@pytest.mark.parametrize(
    "wrong",
    [
        {"iss": "https://elsewhere/realms/af"},
        {"aud": "front-door"},
        {"events": None},
        {"events": {"http://schemas.openid.net/event/other": {}}},
        {"events": "x"},
        {"nonce": "n"},
        {"sub": None, "sid": None},
        {"jti": None},
        {"iat": int(time.time()) - 3600, "exp": None},
        {"exp": int(time.time()) - 3600},
        {"key": OTHER_KEY},
        {"kid": "k2"},
    ],
    ids=str,
)
def test_a_wrong_logout_token_ends_nothing(hub: RunningHub, wrong: dict[str, Any]) -> None:
    """Issuer, audience, event, freshness, name and signature must all be right."""
    alice = logged_in(hub, "alice")
    assert tell(hub, logout_token(**wrong)) == 400
    assert is_in(hub, alice)


def test_an_unsigned_logout_token_ends_nothing(hub: RunningHub) -> None:
    """Neither no signature nor no token at all is taken."""
    alice = logged_in(hub, "alice")
    claims = jwt.decode(logout_token(), options={"verify_signature": False})
    unsigned = jwt.encode(claims, None, algorithm="none", headers={"kid": "k1"})  # type: ignore[arg-type]
    for token in (unsigned, "", "a.b.c"):
        assert tell(hub, token) == 400
    assert is_in(hub, alice)


def test_a_logout_token_counts_once(hub: RunningHub) -> None:
    """A token that was seen on its way cannot log the person out a second time."""
    logged_in(hub, "alice")
    token = logout_token()
    assert tell(hub, token) == 204
    again = logged_in(hub, "alice")
    assert tell(hub, token) == 400
    assert is_in(hub, again)
