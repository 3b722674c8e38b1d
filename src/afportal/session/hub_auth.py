"""Asks the hub often whether a browser's session lives, and bears with a hub that is away.

JupyterHub's own server keeps an answer for five minutes: too long after a log-out, too short
for a hub that is down for longer.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from jupyterhub.services.auth import HubOAuth
from tornado.web import HTTPError
from traitlets import default

from afportal.session import hub_tls

# A session that the hub has ended is over after this time at the latest.
ASKED_EVERY_S = 15
# While the hub does not answer, what it said last holds for this long.
PATIENCE_S = 3600.0
ANSWER_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_WHILE_AWAY_S = 0.5


class SessionHubAuth(HubOAuth):
    """HubOAuth whose answers are kept shortly, and longer only while the hub is away."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cache_max_age = ASKED_EVERY_S
        self._known: dict[str, tuple[float, Any]] = {}
        self._away = False

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
        return answer

    def _remember(self, key: str, answer: Any) -> None:
        now = time.monotonic()
        self._known = {k: v for k, v in self._known.items() if now - v[0] <= PATIENCE_S}
        self._known.pop(key, None)
        if answer is not None:
            self._known[key] = (now, answer)


def _is_away(error: Exception) -> bool:
    """Tell a hub that does not answer from one that refuses.

    JupyterHub's client makes both HTTP 500; only the first has a cause of its own.
    """
    if not isinstance(error, HTTPError):
        return True
    return error.status_code == 502 or error.__context__ is not None
