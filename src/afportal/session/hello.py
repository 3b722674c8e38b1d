"""The first word of a server to its hub, once it listens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from tornado.httpclient import HTTPClientError

PAUSES_S = (0.5, 2.0, 5.0)


async def say(tell: Callable[..., Awaitable[Any]], port: int) -> None:
    """Tell the hub the port; again where no answer came, as from a hub that is in trouble.

    Raises:
        HTTPClientError: refused, or in trouble for too long.
        OSError: no answer.
    """
    for tries, pause_s in enumerate((*PAUSES_S, None)):
        try:
            await tell("hello", {"port": port})
            return
        except (OSError, HTTPClientError) as error:
            code = getattr(error, "code", 599)
            # The hub had taken the one before, whose answer was lost.
            if tries and code == HTTPStatus.CONFLICT:
                return
            if code < HTTPStatus.INTERNAL_SERVER_ERROR or pause_s is None:
                raise
        await asyncio.sleep(pause_s)  # nothing here can tell when the hub is well again
