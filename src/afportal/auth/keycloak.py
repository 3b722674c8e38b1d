"""A hub that asks Keycloak itself: OpenID Connect, one log-out both ways.

The browser is sent to Keycloak's public address; the hub asks for tokens and keys at the
inside one. Log Out ends the Keycloak session, and when that ends anywhere else Keycloak
tells the hub (back-channel), which ends the person's sessions here.

Source: OpenID Connect RP-Initiated Logout 1.0 and Back-Channel Logout 1.0; JupyterHub
6.1.1, oauthenticator 17.4.
"""

from __future__ import annotations

from typing import Any

import jwt
from jupyterhub import orm
from jupyterhub.handlers import BaseHandler
from oauthenticator.generic import GenericOAuthenticator
from oauthenticator.oauth2 import OAuthLogoutHandler
from tornado.httpclient import HTTPClientError
from tornado.httputil import url_concat
from traitlets import Unicode, default

from afportal.auth.groups import find_groups
from afportal.auth.logout_token import LogoutTokens, NotValid
from afportal.auth.sessions import end_sessions

ENDPOINTS = "/protocol/openid-connect"
# In auth_state, by the hub's name of the browser session: JupyterHub keeps one auth_state a
# person, but a log-out must name the session of the browser that it comes from.
ID_TOKENS = "id_tokens"
SESSIONS_KEPT = 20


class KeycloakLogoutHandler(OAuthLogoutHandler):
    """Ends the person's sessions here and the one at Keycloak, which tells the others."""

    _id_token = ""

    async def default_handle_logout(self) -> None:
        """Keep what tells Keycloak which session is meant, then log out."""
        user = self.current_user
        if user is not None:
            kept = (await user.get_auth_state() or {}).get(ID_TOKENS, {})
            self._id_token = kept.get(self.get_session_cookie(), "")
        await super().default_handle_logout()
        if user is not None:
            end_sessions(self.db, user.name)

    async def render_logout_page(self) -> None:
        """Go to Keycloak, and from there to the page that says that one is logged out."""
        self.redirect(self.authenticator.end_session_url(self._id_token))


class BackchannelLogoutHandler(BaseHandler):
    """Takes word from Keycloak that a session has ended."""

    _accept_cookie_auth = False

    def check_xsrf_cookie(self) -> None:
        """No cookie is involved: the token is signed."""

    async def post(self) -> None:
        """End the sessions of the person whom a valid logout token names."""
        self.set_header("Cache-Control", "no-store")
        authenticator: KeycloakAuthenticator = self.authenticator
        try:
            claims = await authenticator.logout_tokens.read(
                self.get_body_argument("logout_token", "")
            )
        except NotValid as error:
            self.log.warning("logout token refused: %s", error)
            self.set_status(400)
            self.finish({"error": "invalid_request", "error_description": str(error)})
            return
        for person in _people_of(self.db, claims):
            ended = end_sessions(self.db, person)
            self.log.info("Keycloak ended a session of %s: %s sessions here", person, ended)
        self.set_status(204)


def _people_of(db: Any, claims: dict[str, Any]) -> list[str]:
    """Return whose subject or session a logout token names."""
    wanted = {name: claims[name] for name in ("sub", "sid") if claims.get(name)}
    key = "sub" if "sub" in wanted else "sid"
    return [
        user.name
        for user in db.query(orm.User).all()
        if (user.user_info or {}).get(key) == wanted[key]
    ]


class KeycloakAuthenticator(GenericOAuthenticator):
    """GenericOAuthenticator with one realm's addresses, groups and log-out.

    Configure `issuer`, `inside_url`, `client_id`, `client_secret`, `oauth_callback_url`
    and `logged_out_url`.
    """

    logout_handler = KeycloakLogoutHandler

    issuer = Unicode(config=True, help="The realm as browsers reach it, https://…/realms/NAME.")
    inside_url = Unicode(config=True, help="The realm as this hub reaches it.")
    logged_out_url = Unicode(config=True, help="Where Keycloak sends a browser after log-out.")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.logout_tokens = LogoutTokens(
            issuer=self.issuer, client_id=self.client_id, fetch_keys=self._fetch_keys
        )

    @default("authorize_url")
    def _authorize_url(self) -> str:
        return f"{self.issuer}{ENDPOINTS}/auth"

    @default("token_url")
    def _token_url(self) -> str:
        return f"{self.inside_url}{ENDPOINTS}/token"

    @default("userdata_url")
    def _userdata_url(self) -> str:
        return f"{self.inside_url}{ENDPOINTS}/userinfo"

    @default("username_claim")
    def _username_claim(self) -> str:
        return "preferred_username"

    @default("scope")
    def _scope(self) -> list[str]:
        return ["openid", "profile", "email"]

    @default("login_service")
    def _login_service(self) -> str:
        return "Keycloak"

    @default("auto_login")
    def _auto_login(self) -> bool:
        return True

    @default("manage_groups")
    def _manage_groups(self) -> bool:
        return True

    @default("enable_auth_state")
    def _enable_auth_state(self) -> bool:
        return True

    async def _fetch_keys(self) -> dict[str, Any]:
        keys: dict[str, Any] = await self.httpfetch(f"{self.inside_url}{ENDPOINTS}/certs")
        return keys

    def end_session_url(self, id_token: str) -> str:
        """Return where a browser ends its session at Keycloak."""
        if not id_token:
            return str(self.logged_out_url)
        asked = {
            "id_token_hint": id_token,
            "client_id": self.client_id,
            "post_logout_redirect_uri": self.logged_out_url,
        }
        return str(url_concat(f"{self.issuer}{ENDPOINTS}/logout", asked))

    def get_handlers(self, app: Any) -> list[tuple[str, Any]]:
        """Add Keycloak's way to tell of a session's end."""
        return [*super().get_handlers(app), (r"/backchannel-logout", BackchannelLogoutHandler)]

    async def get_user_groups(self, auth_state: dict[str, Any]) -> set[str]:
        """Take the groups from the name service, as jobs have them; else Keycloak's claim."""
        claims = auth_state[self.user_auth_state_key]
        found = await find_groups(self.user_info_to_username(claims))
        return set(found if found is not None else claims.get("groups") or ())

    async def update_auth_model(self, auth_model: dict[str, Any]) -> dict[str, Any]:
        """Keep by which names Keycloak will tell of the session's end."""
        state = auth_model["auth_state"]
        known = {"sub": state[self.user_auth_state_key].get("sub")}
        if session := session_of(state.get("id_token") or ""):
            known["sid"] = session
        auth_model["user_info"] = known
        return auth_model

    async def authenticate(
        self, handler: Any, data: Any = None, **kwargs: Any
    ) -> dict[str, Any] | None:
        """Take the code, and keep which session of Keycloak's this browser's is."""
        model: dict[str, Any] | None = await super().authenticate(handler, data, **kwargs)
        if model is None:
            return None
        user = handler.find_user(model["name"])
        known = (await user.get_auth_state() or {} if user else {}).get(ID_TOKENS, {})
        session = handler.get_session_cookie() or handler.set_session_cookie()
        kept = {**known, session: model["auth_state"].get("id_token") or ""}
        model["auth_state"][ID_TOKENS] = dict([*kept.items()][-SESSIONS_KEPT:])
        return model

    async def refresh_user(
        self, user: Any, handler: Any = None, **kwargs: Any
    ) -> bool | dict[str, Any]:
        """Ask Keycloak whether the session lives; while it is away, people go on working."""
        try:
            answer: bool | dict[str, Any] = await super().refresh_user(user, handler, **kwargs)
        except (HTTPClientError, OSError) as error:
            self.log.warning("Keycloak does not answer, %s goes on: %s", user.name, error)
            return True
        if isinstance(answer, dict):
            state = await user.get_auth_state() or {}
            answer["auth_state"][ID_TOKENS] = state.get(ID_TOKENS, {})
        return answer


def session_of(id_token: str) -> str:
    """Return Keycloak's name of the session (`sid`); the token came from Keycloak itself."""
    try:
        return str(jwt.decode(id_token, options={"verify_signature": False}).get("sid") or "")
    except jwt.PyJWTError:
        return ""
