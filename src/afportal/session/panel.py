"""What the owner's browser is told of this session, and may do: the back end of its panel.

    GET  api/af/session            what it is, its limits and what threatens it now
    POST api/af/session/more-time  {"minutes"}: asks the hub for more time
    POST api/af/session/used       it is used, though nothing else shows that

Whatever begins to threaten it is an event of Jupyter's event stream (`SCHEMA`), which every open
page listens to: nothing is polled.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web
from tornado.httpclient import HTTPClientError

from afportal.session.hub_fetch import words_of
from afportal.session.limits import Limits

SCHEMA = "urn:afportal:session:v1"
_SCHEMA = {
    "$id": SCHEMA,
    "version": "1",
    "title": "What threatens a session",
    "personal-data": True,
    "type": "object",
    "required": ["time", "memory", "warnings"],
    "properties": {
        "time": {"type": "object", "title": "When it ends"},
        "memory": {"type": "object", "title": "What it uses"},
        "warnings": {"type": "array", "title": "What threatens it now"},
    },
}

# What of that is for its owner.
_ABOUT = (
    "backend", "backend_title", "job", "node", "class", "environment", "cores", "continue_path"
)  # fmt: skip

Ask = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]


def put_in(server: Any, about: dict[str, Any], ask: Ask) -> Limits:
    """Add the panel's routes and events to a `ServerApp`, and return the limits behind them.

    Args:
        about: what the hub told of this session at the exchange.
        ask: sends word to the hub with the server's own token.
    """
    server.event_logger.register_event_schema(_SCHEMA)
    limits = Limits(about)

    def tell() -> None:
        server.log.info("warnings: %s", limits.warnings)
        server.event_logger.emit(schema_id=SCHEMA, data=limits.as_dict())

    limits.changed = tell
    base = server.web_app.settings["base_url"]
    given = {"limits": limits, "ask": ask, "used": server.af_line.say_used}
    server.web_app.add_handlers(
        ".*$",
        [
            (url_path_join(base, route), handler, given)
            for route, handler in (
                ("api/af/session", SessionHandler),
                ("api/af/session/more-time", MoreTimeHandler),
                ("api/af/session/used", UsedHandler),
            )
        ],
    )
    return limits


class SessionHandler(APIHandler):
    """What this session is, its limits, its machine's load."""

    def initialize(self, limits: Limits, ask: Ask, used: Callable[[float], bool]) -> None:
        self.limits, self.ask_hub, self.say_used = limits, ask, used

    @web.authenticated
    async def get(self) -> None:
        """Tell, as of now."""
        self.tell()

    def tell(self) -> None:
        """Answer with all that there is."""
        about = {name: self.limits.about.get(name) for name in _ABOUT}
        try:
            load = {"one_min": os.getloadavg()[0], "cores": os.cpu_count()}
        except OSError:
            load = None
        self.finish({**about, "load": load, **self.limits.as_dict()})


class MoreTimeHandler(SessionHandler):
    """More time, where class and scheduler allow it."""

    @web.authenticated
    async def post(self) -> None:
        """Ask the hub; its refusal is the answer."""
        body = self.get_json_body()
        minutes = body.get("minutes") if isinstance(body, dict) else None
        if not isinstance(minutes, int) or isinstance(minutes, bool) or minutes < 1:
            self._refuse(400, 'how many minutes more? {"minutes": 60}')
            return
        try:
            self.limits.time_is(await self.ask_hub("more-time", {"minutes": minutes}))
        except HTTPClientError as error:
            self._refuse(400 if error.code == 400 else 502, words_of(error))
        except OSError as error:
            self._refuse(502, f"the hub does not answer: {error}")
        else:
            self.tell()

    def _refuse(self, status: int, words: str) -> None:
        # JupyterLab shows a refusal's "message", which an HTTPError would not put there.
        self.set_status(status)
        self.finish({"message": words})


class UsedHandler(SessionHandler):
    """A person is there."""

    @web.authenticated
    async def post(self) -> None:
        """Tell the hub at once, so that it does not end this server for want of use."""
        self.say_used(self.limits.now())
        self.limits.is_used()
        self.tell()
