"""The way of a person's browser to a data token: one redirect to the provider and back.

    GET /data-token?next=PAGE       asks the provider; shows its login page only if the person
                                    came here on purpose
    GET /data-token?code=…&state=…  where the provider sends the browser back

The form that starts a server, and the page where scripts' tokens are made, lead here by
themselves when there is no token yet.
"""

from __future__ import annotations

import hmac
import json
import secrets
import time
from typing import Any

from jupyterhub import handlers
from jupyterhub.handlers import BaseHandler, pages
from tornado import web
from tornado.httputil import url_concat

from afportal.credentials.data_tokens import DataTokens
from afportal.credentials.token_client import ProviderAway, ProviderRefuses
from afportal.portal import Portal

COOKIE = "af-data-token"
ANSWER_WITHIN_S = 600
# After a failure pages go on without a token for so long.
TRY_AGAIN_S = 60.0
_failed: dict[str, float] = {}


def _tokens() -> DataTokens | None:
    return Portal.instance().credentials.data


class DataTokenHandler(BaseHandler):
    """Fetches the data token of whoever is logged in here."""

    @property
    def _redirect_uri(self) -> str:
        public = self.settings["public_url"]
        base = public.geturl() if public else f"{self.request.protocol}://{self.request.host}"
        return (
            f"{base.rstrip('/')}/hub/data-token"
            if public
            else f"{base}{self.hub.base_url}data-token"
        )

    @web.authenticated
    async def get(self) -> None:
        """Ask, or take the answer."""
        tokens = _tokens()
        if tokens is None:
            raise web.HTTPError(404, "this hub gives no data tokens")
        self.set_header("Cache-Control", "no-store")
        if self.get_argument("state", ""):
            await self._take_answer(tokens)
        else:
            await self._ask(tokens)

    async def _ask(self, tokens: DataTokens) -> None:
        on_the_way = self._validate_next_url(self.get_argument("next", ""))
        if not await tokens.client.knows_me():
            _failed[self.current_user.name] = time.monotonic()
            if on_the_way:
                self.redirect(on_the_way)
                return
            raise web.HTTPError(
                503, "the service that gives data tokens does not answer this hub; try again soon"
            )
        asked = {
            "state": secrets.token_urlsafe(24),
            "verifier": secrets.token_urlsafe(48),
            "next": on_the_way,
            "person": self.current_user.name,
            "until": time.time() + ANSWER_WITHIN_S,
        }
        self.set_secure_cookie(
            COOKIE,
            json.dumps(asked),
            expires_days=None,
            path=self.hub.base_url,
            httponly=True,
            **{"secure": True, "samesite": "Lax", **self.settings.get("cookie_options", {})},
        )
        self.redirect(
            tokens.client.question(
                self._redirect_uri, asked["state"], asked["verifier"], quiet=bool(on_the_way)
            )
        )

    async def _take_answer(self, tokens: DataTokens) -> None:
        asked = self._asked()
        person = self.current_user.name
        self.clear_cookie(COOKIE, path=self.hub.base_url)
        goal = asked["next"] or f"{self.hub.base_url}home"
        code = self.get_argument("code", "")
        try:
            if not code:
                raise ProviderRefuses(self.get_argument("error", "no code")[:100])
            given = await tokens.client.exchange(code, self._redirect_uri, asked["verifier"])
        except (ProviderAway, ProviderRefuses) as error:
            self.log.warning("%s: no data token: %s", person, error)
            _failed[person] = time.monotonic()
            if asked["next"]:
                self.redirect(goal)
                return
            raise web.HTTPError(503, f"no data token was given: {error}") from error
        if given.id_claims.get("preferred_username") != person:
            self.log.error(
                "%s: the browser is logged in as %r at the provider; its data token is not taken",
                person,
                given.id_claims.get("preferred_username"),
            )
            raise web.HTTPError(403, "log out first: another person is logged in in this browser")
        await tokens.keep(person, given)
        self.redirect(goal)

    def _asked(self) -> dict[str, Any]:
        """Return what this browser asked for; HTTP 400 if this is no answer to it."""
        raw = self.get_secure_cookie(COOKIE)
        asked: dict[str, Any] = json.loads(raw) if raw else {}
        if (
            not asked
            or asked["person"] != self.current_user.name
            or asked["until"] < time.time()
            or not hmac.compare_digest(asked["state"], self.get_argument("state"))
        ):
            raise web.HTTPError(
                400, "this is no answer to a question of this browser's; start anew"
            )
        return asked


class _ByWayOfToken:
    """A page that is left for a data token first, where there is none yet."""

    async def prepare(self: Any) -> None:
        await super().prepare()  # type: ignore[misc]
        user = self.current_user
        tokens = _tokens()
        if (
            tokens is None
            or user is None
            or self.request.method != "GET"
            or getattr(self, "_token_authenticated", False)
            or tokens.has(user.name)
            or time.monotonic() - _failed.get(user.name, -TRY_AGAIN_S) < TRY_AGAIN_S
        ):
            return
        self.redirect(url_concat(f"{self.hub.base_url}data-token", {"next": self.request.uri}))


class SpawnPage(_ByWayOfToken, pages.SpawnHandler):
    """JupyterHub's form that starts a server."""


class TokenPage(_ByWayOfToken, pages.TokenPageHandler):
    """JupyterHub's page where scripts' tokens are made."""


HANDLERS = [(r"/data-token", DataTokenHandler)]
_IN_PLACE_OF = {pages.SpawnHandler: SpawnPage, pages.TokenPageHandler: TokenPage}


def lead_by_the_token() -> None:
    """Have this process's hub fetch a data token on the way to these pages."""
    handlers.default_handlers[:] = [
        (route, _IN_PLACE_OF.get(handler, handler), *more)
        for route, handler, *more in handlers.default_handlers
    ]
