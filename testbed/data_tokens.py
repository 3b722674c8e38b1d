"""A person's data token from Keycloak, by the login and the way that the hubs go for it."""

import base64
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode, urlsplit

import requests

from testbed import entry, loopback
from testbed.bed import Bed
from testbed.errors import LoginRefused, TestbedError
from testbed.keycloak_login import log_in
from testbed.secret import Secret
from testbed.site import Person, Site

# Each hub instance has one; none of its own sessions is disturbed by another browser's.
CLIENT = "data-htc-1"
# One a folder of the data set; Keycloak leaves out what a person has no right to.
ALL_SCOPES = tuple(f"storage.read:/{name}" for name in ("cms", "atlas", "open"))
_KEY_FILE = "/run/keys/keycloak/data_client_secret"
_TIMEOUT_S = 60


@dataclass(frozen=True)
class Client:
    """A client of realm `af` that asks for tokens with a code, and its secret."""

    name: str
    secret: Secret
    realm_url: str  # the issuer
    redirect_url: str

    def endpoint(self, name: str) -> str:
        return f"{self.realm_url}/protocol/openid-connect/{name}"


@dataclass(frozen=True)
class Tokens:
    """What Keycloak gave; `scope` is what it granted, which may be less than was asked for."""

    access: Secret
    refresh: Secret | None
    scope: frozenset[str]


def hubs_client(bed: Bed) -> Client:
    """The client that a hub instance gets data tokens with.

    Raises:
        TestbedError: Keycloak's volume holds no secret of it.
    """
    done = bed.exec("keycloak", ["cat", _KEY_FILE], user="root")
    if not done.ok:
        raise TestbedError(f"keycloak has no {_KEY_FILE}", seen=done.stderr, cure="testbed up")
    return Client(
        CLIENT,
        Secret(done.stdout.strip()),
        f"{bed.front_door('login')}/realms/af",
        f"{bed.front_door('hubs')}/htc/hub/data-token",
    )


def session(
    site: Site, person: Person, client: Client, environ: Mapping[str, str]
) -> requests.Session:
    """A browser session in which a person is logged in at Keycloak.

    Raises:
        LoginRefused: Name, password or code were not taken.
    """
    browser = loopback.session(site.verify)
    log_in(
        browser,
        _question(client, "openid", secrets.token_urlsafe(48)),
        person.name,
        site.secret(person, environ),
        site.totp(person, environ),
        entry.used_codes(site),
        provider=person.provider,
    )
    return browser


def fetch(browser: requests.Session, client: Client, *scopes: str) -> Tokens:
    """Tokens of whoever is logged in in this session, without a page being shown.

    Raises:
        LoginRefused: Keycloak shows a page, or refuses the client.
    """
    verifier = secrets.token_urlsafe(48)
    question = _question(client, " ".join(("openid", *scopes)), verifier)
    answer = browser.get(question, allow_redirects=False, timeout=_TIMEOUT_S)
    target = answer.headers.get("Location", "")
    code = parse_qs(urlsplit(target).query).get("code", [""])[0]
    if not (code and target.startswith(client.redirect_url)):
        raise LoginRefused(
            f"Keycloak gives client {client.name} no code",
            seen=f"HTTP {answer.status_code}, to {target.split('?')[0] or 'a page'}",
            cure="testbed logs keycloak",
        )
    return _ask(
        client,
        browser,
        grant_type="authorization_code",
        code=code,
        redirect_uri=client.redirect_url,
        code_verifier=verifier,
    )


def refresh(site: Site, client: Client, token: Secret) -> Tokens:
    """Fresh tokens for a refresh or offline token, with the scopes that it has.

    Raises:
        LoginRefused: It is no longer good.
    """
    with loopback.session(site.verify) as browser:
        return _ask(client, browser, grant_type="refresh_token", refresh_token=token)


def _question(client: Client, scope: str, verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return client.endpoint("auth") + "?" + urlencode({
        "client_id": client.name,
        "response_type": "code",
        "scope": scope,
        "redirect_uri": client.redirect_url,
        "code_challenge_method": "S256",
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
    })  # fmt: skip


def _ask(client: Client, browser: requests.Session, **form: str) -> Tokens:
    answer = browser.post(
        client.endpoint("token"),
        data={"client_id": client.name, "client_secret": client.secret, **form},
        timeout=_TIMEOUT_S,
    )
    if answer.status_code != 200:
        raise LoginRefused(
            f"Keycloak gives client {client.name} no token",
            seen=f"HTTP {answer.status_code}: {_words(answer)}",
            cure="testbed logs keycloak",
        )
    given = answer.json()
    renewal = given.get("refresh_token")
    return Tokens(
        Secret(given["access_token"]),
        Secret(renewal) if renewal else None,
        frozenset(given.get("scope", "").split()),
    )


def _words(answer: requests.Response) -> str:
    try:
        return str(answer.json().get("error_description", ""))
    except ValueError:
        return answer.reason
