"""Data tokens that are wrong in one way each, as far as can be signed by Keycloak itself.

Clients and scopes for them are made in Keycloak by its administration, and removed at the end:
a realm has nothing that gives out wrong tokens while nobody judges it.
"""

import base64
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jwt
import requests
from cryptography.hazmat.primitives.asymmetric import rsa

from testbed import data_tokens
from testbed.bed import Bed
from testbed.data_tokens import Client
from testbed.errors import TestbedError
from testbed.secret import Secret
from testbed.waiting import wait_until

# What the tokens would open if they were right.
PATH = "/data/cms/met/manifest.json"
_RIGHT_SCOPE = "storage.read:/cms"
_SHORT_S = 2
_MINUTE_S = 60

# Run where Keycloak's administration can be reached. Answers with each client's secret.
_ADMINISTER = r"""
import importlib.machinery, json, sys, urllib.error, urllib.request
deed, wanted = sys.argv[1], json.loads(sys.argv[2])
ctl = importlib.machinery.SourceFileLoader("ctl", "/usr/local/sbin/keycloak-ctl").load_module()
token = ctl.administrator()

def send(method, path, content=None):
    request = urllib.request.Request(
        f"{ctl.REALM}/{path}", method=method, data=json.dumps(content).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=30).read()

for kind, key in (("clients", "clientId"), ("client-scopes", "name")):
    there = {entry[key]: entry["id"] for entry in ctl.ask("GET", f"{ctl.REALM}/{kind}", token)}
    for entry in wanted[kind]:
        if entry[key] in there:
            send("DELETE", f"{kind}/{there[entry[key]]}")
made = {}
if deed == "make":
    for kind in ("client-scopes", "clients"):
        for entry in wanted[kind]:
            send("POST", kind, entry)
    for entry in ctl.ask("GET", f"{ctl.REALM}/clients", token):
        made[entry["clientId"]] = entry.get("secret")
    made = {entry["clientId"]: made[entry["clientId"]] for entry in wanted["clients"]}
print(json.dumps(made))
"""


def _mapper(name: str, kind: str, **config: str) -> dict[str, Any]:
    return {
        "name": name,
        "protocol": "openid-connect",
        "protocolMapper": kind,
        "config": {"access.token.claim": "true", **config},
    }


def _audience(name: str) -> dict[str, Any]:
    return _mapper(f"audience {name}", "oidc-audience-mapper", **{"included.custom.audience": name})


def _claim(name: str, value: str) -> dict[str, Any]:
    return _mapper(
        f"claim {name}",
        "oidc-hardcoded-claim-mapper",
        **{"claim.name": name, "claim.value": value, "jsonType.label": "String"},
    )


_XROOTD, _VERSION = _audience("xrootd"), _claim(r"wlcg\.ver", "1.0")

# Scopes of different names that all lead to PATH: what is wrong is what comes with them.
_SCOPES = {
    "storage.read:/": [_VERSION],
    "storage.read:/cms/met": [_VERSION, _audience("elsewhere")],
    f"storage.read:{PATH.removeprefix('/data')}": [_XROOTD],
}
_NO_AUDIENCE, _OTHER_AUDIENCE, _NO_VERSION = _SCOPES


def _client(name: str, redirect_url: str, **more: Any) -> dict[str, Any]:
    return {
        "clientId": f"judge-{name}",
        "redirectUris": [redirect_url],
        "standardFlowEnabled": True,
        "fullScopeAllowed": False,
        "defaultClientScopes": ["basic"],
        "optionalClientScopes": [_RIGHT_SCOPE],
        **more,
    }


@contextlib.contextmanager
def minter(
    bed: Bed, browser: requests.Session, right: Client
) -> Iterator[dict[str, Callable[[], Secret | None]]]:
    """By name of the flaw, what makes such a token for whoever is logged in in `browser`.

    Args:
        right: The client that gives good tokens.

    Raises:
        TestbedError: Keycloak does not take the clients.
    """
    wanted = {
        "client-scopes": [
            {
                "name": name,
                "protocol": "openid-connect",
                "attributes": {"include.in.token.scope": "true"},
                "protocolMappers": mappers,
            }
            for name, mappers in _SCOPES.items()
        ],
        "clients": [
            _client("flaws", right.redirect_url, optionalClientScopes=[*_SCOPES, _RIGHT_SCOPE]),
            _client("short", right.redirect_url, attributes={"access.token.lifespan": _SHORT_S}),
            _client("minute", right.redirect_url, attributes={"access.token.lifespan": _MINUTE_S}),
            _client("no-sub", right.redirect_url, defaultClientScopes=[]),
            _client("no-scope", right.redirect_url, protocolMappers=[_XROOTD, _VERSION]),
            _client(
                "more",
                right.redirect_url,
                protocolMappers=[_audience("elsewhere"), _claim("favourite", "blue")],
            ),
        ],
    }
    secrets = _administer(bed, "make", wanted)

    def of(client: str, *scopes: str) -> Callable[[], Secret]:
        name = f"judge-{client}"
        known = replace(right, name=name, secret=Secret(secrets[name]))
        return lambda: data_tokens.fetch(browser, known, *scopes).access

    def good() -> Secret:
        return data_tokens.fetch(browser, right, _RIGHT_SCOPE).access

    try:
        yield {
            "none": lambda: None,
            "expired": lambda: _grown_old(of("short", _RIGHT_SCOPE)()),
            "unknown issuer": lambda: _signed_by_nobody(good(), iss="https://issuer.invalid"),
            "wrong key": lambda: _signed_by_nobody(good()),
            "no audience": of("flaws", _NO_AUDIENCE),
            "another audience": of("flaws", _OTHER_AUDIENCE),
            "no version": of("flaws", _NO_VERSION),
            "no scope": of("no-scope"),
            "no subject": of("no-sub", _RIGHT_SCOPE),
            "another path": lambda: data_tokens.fetch(browser, right, "storage.read:/open").access,
            "none: good": good,
            "none: audiences, claims": of("more", _RIGHT_SCOPE),
            "none: a minute": of("minute", _RIGHT_SCOPE),
        }
    finally:
        _administer(bed, "remove", wanted)


def claims(token: Secret) -> dict[str, Any]:
    """What a token says; nothing is checked."""
    body = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return found


def _administer(bed: Bed, deed: str, wanted: dict[str, Any]) -> dict[str, str]:
    done = bed.exec(
        "keycloak", ["python3", "-W", "ignore", "-c", _ADMINISTER, deed, json.dumps(wanted)],
        user="root",
    )  # fmt: skip
    if not done.ok:
        raise TestbedError(f"keycloak: {deed} the judges' clients", seen=done.stderr[-800:])
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


def _grown_old(token: Secret) -> Secret:
    ends = claims(token)["exp"]
    # A second more: stamps are whole seconds.
    wait_until(lambda: time.time() > ends + 1, 30, what="a token's end")
    return token


def _signed_by_nobody(token: Secret, **changed: str) -> Secret:
    """The same claims under the same key's name, signed with a key of one's own."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    header = jwt.get_unverified_header(token)
    return Secret(
        jwt.encode({**claims(token), **changed}, key, "RS256", headers={"kid": header["kid"]})
    )
