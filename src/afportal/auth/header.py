"""The front door names the person in a header; the hub believes it with the door's secret.

    X-Remote-User   the person, exactly once
    X-Proxy-Secret  proves that the front door wrote the other two
    X-Access-Token  the person's access token, kept encrypted in auth_state

JupyterHub has a session of its own beside the front door's, so every request that comes
with a hub cookie is compared with the header: a browser in which another person has logged
in since must not go on as the first.

Source: `BaseHandler.refresh_auth` of JupyterHub 6.1.1. It keeps the time of the last
refresh per person, not per session; a negative `auth_refresh_age` asks at every request.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from jupyterhub.auth import Authenticator
from jupyterhub.handlers import LogoutHandler
from traitlets import Unicode, default, validate
from traitlets.traitlets import TraitError

from afportal.auth.groups import find_groups
from afportal.people import NAME

USER, SECRET, ACCESS_TOKEN = "X-Remote-User", "X-Proxy-Secret", "X-Access-Token"
MIN_SECRET = 32


class FrontDoorLogoutHandler(LogoutHandler):
    """Ends this hub's session, then goes to the front door's log-out, which ends the others."""

    async def render_logout_page(self) -> None:
        """Send the browser on."""
        self.redirect(self.authenticator.front_logout_url)


class RemoteUserAuthenticator(Authenticator):
    """Takes the person from the front door, and compares at every request.

    A token needs no header: jobs and the API door send none. With one, both must be of the
    same person.
    """

    proxy_secret = Unicode(config=True, help="Shared with the front door; 32 characters or more.")
    front_logout_url = Unicode(
        "/logout", config=True, help="Where the front door ends every session of a person."
    )

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.proxy_secret = self.proxy_secret  # checked even if it was never configured
        # The newest access token of each person, as a hash: the database is written only
        # when it changes.
        self._tokens: dict[str, bytes] = {}

    @validate("proxy_secret")
    def _secret_is_long(self, proposal: Any) -> str:
        secret: str = proposal["value"]
        if len(secret) < MIN_SECRET:
            raise TraitError(
                f"RemoteUserAuthenticator.proxy_secret holds {len(secret)} characters; "
                f"at least {MIN_SECRET} are needed"
            )
        return secret

    @default("auto_login")
    def _auto_login(self) -> bool:
        return True

    @default("manage_groups")
    def _manage_groups(self) -> bool:
        return True

    @default("enable_auth_state")
    def _enable_auth_state(self) -> bool:
        return True

    @default("auth_refresh_age")
    def _refresh_at_every_request(self) -> int:
        return -1

    @default("auth_refresh_strict")
    def _refuse_what_is_not_confirmed(self) -> bool:
        return True

    def get_handlers(self, app: Any) -> list[tuple[str, Any]]:  # noqa: ARG002 - JupyterHub's
        """Log Out of a server's page comes by the hub's own path."""
        return [(r"/logout", FrontDoorLogoutHandler)]

    def named(self, handler: Any) -> str | None:
        """Return whom the front door names in this request; None unless that is beyond doubt."""
        headers = handler.request.headers
        users, secrets = headers.get_list(USER), headers.get_list(SECRET)
        if not users and not secrets:
            return None
        if len(secrets) != 1 or not hmac.compare_digest(
            secrets[0].encode(), self.proxy_secret.encode()
        ):
            self.log.warning("%s without the front door's secret", USER)
            return None
        # A proxy between may have joined two headers into one with a comma.
        if len(users) != 1 or not NAME.fullmatch(users[0]):
            self.log.warning("not exactly one person in %s", USER)
            return None
        return str(users[0])

    async def authenticate(self, handler: Any, data: Any = None) -> dict[str, Any] | None:  # noqa: ARG002 - no form
        """Return the person whom the front door names."""
        person = self.named(handler)
        if person is None:
            return None
        return await self._model(handler, person)

    async def _model(self, handler: Any, person: str) -> dict[str, Any]:
        token = self._access_token(handler)
        self._tokens[person] = _digest(token)
        return {
            "name": person,
            "groups": await find_groups(person),
            "auth_state": {"access_token": token} if token else None,
        }

    def _access_token(self, handler: Any) -> str:
        tokens = handler.request.headers.get_list(ACCESS_TOKEN)
        return str(tokens[0]) if len(tokens) == 1 else ""

    async def refresh_user(self, user: Any, handler: Any = None) -> bool | dict[str, Any]:
        """Tell whether this request is the person's; anew with a fresh access token.

        False ends the request's login: a page leads to a login as whom the header names,
        anything else is refused.
        """
        if handler is None or handler._jupyterhub_user is not user:
            return True  # another's request about this person: nothing here to compare
        headers = handler.request.headers
        by_token = getattr(handler, "_token_authenticated", False)
        if by_token and USER not in headers and SECRET not in headers:
            return True
        person = self.named(handler)
        if person != user.name:
            if person is not None and not by_token:
                # Another has logged in in this browser: the session there was ends, with the
                # cookies of its servers.
                handler.clear_login_cookie()
                handler.set_session_cookie()
            return False
        token = self._access_token(handler)
        if by_token or not token or self._tokens.get(user.name) == _digest(token):
            return True
        return await self._model(handler, user.name)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
