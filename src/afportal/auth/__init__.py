"""Who a person is: named by the front door in a header, or asked of Keycloak by the hub."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from afportal.auth.groups import groups_of

__all__ = ["KeycloakAuthenticator", "RemoteUserAuthenticator", "groups_of"]

_HOMES = {"RemoteUserAuthenticator": "header", "KeycloakAuthenticator": "keycloak"}


def __getattr__(name: str) -> Any:
    """Import an authenticator where it is used: a hub has one of the two."""
    if name in _HOMES:
        return getattr(import_module(f"afportal.auth.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
