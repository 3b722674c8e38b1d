"""What the reconciler did, for those who run the facility: a page, and the same as JSON.

    GET /af/jobs            the page
    GET /api/af/reconciler  {"round", "deeds", "schedulers"}

Both are for whoever may read metrics and everybody's servers: a role of the facility's own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.scopes import needs_scope
from tornado import web

from afportal.portal import Portal

SCOPES = ("read:metrics", "list:users", "read:servers")


def for_operators(method: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Let in who has every scope; `needs_scope` is content with any of several."""
    for scope in SCOPES:
        method = needs_scope(scope)(method)
    return method


def told() -> dict[str, Any]:
    """Return the newest round, what was done, the newest first, and how the schedulers answer."""
    portal = Portal.instance()
    reconciler = portal.reconciler
    newest = reconciler.newest if reconciler is not None else None
    deeds = reversed(reconciler.deeds) if reconciler is not None else ()
    return {
        "round": asdict(newest) if newest is not None else None,
        "deeds": [asdict(deed) for deed in deeds],
        "schedulers": {name: monitor.error for name, monitor in portal.monitors.items()},
    }


class ReconcilerHandler(APIHandler):
    """The same as JSON."""

    @for_operators
    async def get(self) -> None:
        """Answer with all that is kept."""
        self.set_header("Cache-Control", "no-store")
        self.write(told())


class JobsHandler(BaseHandler):
    """The page."""

    @web.authenticated
    @for_operators
    async def get(self) -> None:
        """Show it as of now."""
        found = told()
        for entry in (*found["deeds"], *([found["round"]] if found["round"] else [])):
            entry["at"] = datetime.fromtimestamp(entry["at_s"], UTC).isoformat(timespec="seconds")
        page = await self.render_template(
            "af_jobs.html", user=self.current_user, cell=Portal.instance().settings.cell, **found
        )
        self.finish(page)


HANDLERS = [(r"/api/af/reconciler", ReconcilerHandler), (r"/af/jobs", JobsHandler)]
