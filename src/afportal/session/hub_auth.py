"""Asks the hub often whether a browser's session lives, and bears with a hub that is away.

Whom the owner let in (`docs/share.md`, live help) is not: while the hub is away nobody could put
them out. What a web socket may is looked at once, when it opens; theirs again and again.

JupyterHub's own server keeps an answer for five minutes: too long after a log-out, too short
for a hub that is down for longer.
"""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from collections import defaultdict
from typing import Any

from jupyterhub.services.auth import HubOAuth
from tornado.web import HTTPError
from tornado.websocket import WebSocketHandler
from traitlets import default

from afportal.session import hub_tls

# A session that the hub has ended is over after this time at the latest.
ASKED_EVERY_S = 15
# While the hub does not answer, what it said last holds for this long.
PATIENCE_S = 3600.0
ANSWER_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_WHILE_AWAY_S = 0.5
# How often it is asked for helpers' open web sockets, and how long a hub may be away before these
# are closed. A restart of the hub is shorter.
HELPERS_ASKED_EVERY_S = 10.0
PATIENCE_WITH_HELPERS_S = 60.0
# "Policy violation", RFC 6455.
NOT_ALLOWED = 1008


class SessionHubAuth(HubOAuth):
    """HubOAuth whose answers are kept shortly, and longer only while the hub is away."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cache_max_age = ASKED_EVERY_S
        self._known: dict[str, tuple[float, Any]] = {}
        self._away = False
        # Web sockets of others than the owner with their tokens: open ones, ones that wait for
        # their kernel, and long answers of a handler that has both.
        self._helpers: weakref.WeakKeyDictionary[WebSocketHandler, str] = (
            weakref.WeakKeyDictionary()
        )
        self._watch: asyncio.Task[None] | None = None

    @default("base_url")
    def _base_url(self) -> str:
        # JupyterHub reads it at import, when the session does not know it yet; cookies of
        # every server would then be sent to all of them.
        return os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "/")

    async def _api_request(self, method: str, url: str, /, **kwargs: Any) -> Any:
        return await super()._api_request(method, url, ssl=hub_tls.context(), **kwargs)

    async def _check_hub_authorization(
        self, url: str, api_token: str, cache_key: str | None = None, use_cache: bool = True
    ) -> Any:
        said_s, said = self._known.get(cache_key or "", (0.0, None))
        if time.monotonic() - said_s > PATIENCE_S:
            said = None
        patience_s = ANSWER_TIMEOUT_WHILE_AWAY_S if self._away else ANSWER_TIMEOUT_S
        try:
            async with asyncio.timeout(patience_s if said is not None else None):
                answer = await super()._check_hub_authorization(
                    url, api_token, cache_key, use_cache
                )
        except (HTTPError, TimeoutError) as error:
            if said is None or not _is_away(error):
                raise
            self._away = True
            self.log.warning("the hub does not answer: what it said last holds")
            self.cache[cache_key] = said
            return said
        if cache_key is not None and answer is not said:
            self._away = False
            self._remember(cache_key, answer)
        if answer is not None and not self.check_scopes(self.access_scopes, answer):
            # Whom the owner lets in in this moment was perhaps refused in the last.
            self.cache.values.pop(cache_key, None)
            self.cache.timestamps.pop(cache_key, None)
        return answer

    def _remember(self, key: str, answer: Any) -> None:
        now = time.monotonic()
        self._known = {k: v for k, v in self._known.items() if now - v[0] <= PATIENCE_S}
        self._known.pop(key, None)
        if answer is not None and is_owner(answer):
            self._known[key] = (now, answer)

    async def _get_user(self, handler: Any) -> Any:
        user = await super()._get_user(handler)
        if user is not None and isinstance(handler, WebSocketHandler) and not is_owner(user):
            self._helpers[handler] = self.get_token(handler) or ""
            if self._watch is None or self._watch.done():
                self._watch = asyncio.create_task(self._watch_helpers(), name="helpers")
        return user

    async def _watch_helpers(self) -> None:
        """Close web sockets of those who may not be here any more, while there are any."""
        answered_s: dict[str, float] = {}
        while self._helpers:
            await asyncio.sleep(HELPERS_ASKED_EVERY_S)  # nothing tells of an end
            by_token: dict[str, list[WebSocketHandler]] = defaultdict(list)
            for handler, token in list(self._helpers.items()):
                by_token[token].append(handler)
            now = time.monotonic()
            answered_s = {token: answered_s.get(token, now) for token in by_token}
            for token, handlers in by_token.items():
                try:
                    allowed = await self._is_allowed(token)
                    answered_s[token] = time.monotonic()
                except Exception as error:
                    # Whatever it is: nobody stays for long by it.
                    allowed = time.monotonic() - answered_s[token] < PATIENCE_WITH_HELPERS_S
                    self.log.warning("it is not known whether a helper may stay: %r", error)
                if not allowed:
                    self._put_out(handlers)

    async def _is_allowed(self, token: str) -> bool:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            user = await self.user_for_token(token, use_cache=False, sync=False)
        return user is not None and bool(self.check_scopes(self.access_scopes, user))

    def _put_out(self, handlers: list[WebSocketHandler]) -> None:
        self.cache.clear()
        closed = 0
        for handler in handlers:
            try:
                _close(handler)
            except Exception:
                self.log.exception("a helper's web socket is not closed yet")
                continue  # it is there in the next round
            self._helpers.pop(handler, None)
            closed += 1
        self.log.info("live help is over: %d web sockets are closed", closed)


def _close(handler: WebSocketHandler) -> None:
    """Close a web socket, or the connection of what may still become one.

    A kernel's is no web socket before its kernel answers, and a page of a cluster, which may be
    an endless answer, is none ever: there is nothing to say a reason by.
    """
    if handler.ws_connection is not None:
        handler.close(NOT_ALLOWED, "the help is over")
    # One that has ended may have left its connection to somebody else's request.
    elif not handler._finished and handler.request.connection is not None:
        stream = getattr(handler.request.connection, "stream", None)
        # tornado would open it all the same, and nobody would close it.
        handler.get_websocket_protocol = lambda: None  # type: ignore[method-assign]
        if stream is not None:
            stream.close()


def is_owner(user: Any) -> bool:
    """Tell whether that is the person whose server this is, by the hub's answer."""
    return bool(user["name"] == os.environ.get("JUPYTERHUB_USER"))


def _is_away(error: Exception) -> bool:
    """Tell a hub that does not answer from one that refuses.

    JupyterHub's client makes both HTTP 500; only the first has a cause of its own.
    """
    if not isinstance(error, HTTPError):
        return True
    return error.status_code == 502 or error.__context__ is not None
