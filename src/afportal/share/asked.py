"""How a hub's handlers ask for share links: in a thread, with refusals as HTTP's."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from jupyterhub import orm
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from tornado import web

from afportal.portal import Portal
from afportal.share.store import Shares

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

SWEPT_EVERY_S = 60.0
AWAY = "share links cannot be reached at this moment; nothing was changed: try again in a minute"


def shares() -> Shares:
    """Return this facility's links. Raises HTTP 404: it has none."""
    found = Portal.instance().shares
    if found is None:
        raise web.HTTPError(404, "this facility has no share links")
    return found


async def asked(work: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
    """Do what waits for the links' database or files.

    Raises:
        ShareRefused: as `work`.
        HTTPError: 503, database or files cannot be reached.
    """
    try:
        return await asyncio.to_thread(functools.partial(work, *args, **more))
    except (SQLAlchemyError, OSError) as error:
        log.error("share links: %s", error)
        raise web.HTTPError(503, AWAY) from error


async def sweep_for_ever(found: Shares) -> None:
    """Delete what has ended, again and again."""
    while True:
        try:
            swept: Any = await asyncio.to_thread(found.sweep)
            if swept:
                log.info("share links: %d snapshots deleted", swept)
        except (SQLAlchemyError, OSError) as error:
            log.error("share links are not swept: %s", error)
        await asyncio.sleep(SWEPT_EVERY_S)  # nothing tells of an end but the clock


@event.listens_for(orm.User, "after_delete")
def _end_links(_mapper: Any, _connection: Any, user: Any) -> None:
    """Whoever gets the name later has no links of this person's."""
    portal = Portal._instance  # a hub's database is also looked at without one
    if portal is None or portal.shares is None:
        return
    try:
        portal.shares.revoke_all(user.name)
    except (SQLAlchemyError, OSError) as error:
        log.error("share links of %s, who is deleted, go on to their end: %s", user.name, error)
