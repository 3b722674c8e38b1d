"""Live help for the owner's browser: who may come into this server, and their end.

GET    api/af/live-help              how long it may be, unused links, who is let in
POST   api/af/live-help              {"lifetime_min"} -> {"url", …}
DELETE api/af/live-help              ends all
DELETE api/af/live-help/links/ID     ends an unused link
DELETE api/af/live-help/people/NAME  puts somebody out

Whoever was let in is refused here. That is order and no wall: they have this server's files, and
so its token.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

from afportal.session.hub_auth import is_owner
from afportal.session.share_errors import NotDone

if TYPE_CHECKING:
    from afportal.session.sharing import HubShares

_ROUTES = (
    "api/af/live-help",
    "api/af/live-help/(?P<what>links/[0-9]{1,12})",
    r"api/af/live-help/(?P<what>people/[a-z_][a-z0-9_.-]{0,31})",
)


def put_in(server: Any, api: str, token: Callable[[], str]) -> None:
    """Add the routes to a `ServerApp`."""

    @functools.cache
    def hub() -> HubShares:
        # Loaded when somebody asks: most servers' people do not.
        from afportal.session.sharing import HubShares

        return HubShares(api, token)

    base = server.web_app.settings["base_url"]
    server.web_app.add_handlers(
        ".*$",
        [(url_path_join(base, route), LiveHelpHandler, {"hub": hub}) for route in _ROUTES],
    )


class LiveHelpHandler(APIHandler):
    """Who may come in."""

    def initialize(self, hub: Callable[[], HubShares]) -> None:
        self.make_hub = hub

    @web.authenticated
    async def get(self, what: str = "") -> None:
        """Tell."""
        if what:
            raise web.HTTPError(405)
        await self._ask("GET")

    @web.authenticated
    async def post(self, what: str = "") -> None:
        """Make a link."""
        if what:
            raise web.HTTPError(405)
        await self._ask("POST", body=self.get_json_body() or {})

    @web.authenticated
    async def delete(self, what: str = "") -> None:
        """End it."""
        await self._ask("DELETE", what)

    async def _ask(self, method: str, what: str = "", body: Any = None) -> None:
        # JupyterLab shows a refusal's "message", which an HTTPError would not put there.
        try:
            if not is_owner({"name": self.current_user.username}):
                raise NotDone("You were let into this server: only its owner lets others in.", 403)
            path = f"live-help/{what}" if what else "live-help"
            told = await self.make_hub().ask(method, path, body)
        except NotDone as error:
            self.set_status(error.status)
            self.finish({"message": str(error)})
        else:
            self.finish(told or {})
