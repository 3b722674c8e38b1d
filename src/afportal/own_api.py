"""What a session may tell the hub of its person's own environments.

    POST /api/af/own-environments  an `OwnCatalogue` with the server's own token -> {"offered"}

It takes the place of what was there before. It is believed nothing but that its person wants it:
what it names is started as that person, by a job that the scheduler takes.
"""

from __future__ import annotations

from tornado import web

from afportal.hub_api import SessionHandler
from afportal.own_environments import MOST_BYTES, OwnCatalogue
from afportal.portal import Portal


class OwnEnvironmentsHandler(SessionHandler):
    """Takes what a person added."""

    async def post(self) -> None:
        """Keep it for the next form, and answer what will be offered there."""
        spawner = self._spawner()
        size = len(self.request.body)
        if size > MOST_BYTES:
            raise web.HTTPError(413, f"{size} bytes sent; {MOST_BYTES} are taken")
        await self._check_host(spawner)
        own: OwnCatalogue = self._body(OwnCatalogue)
        portal = Portal.instance()
        bound = portal.catalogue.bound(spawner.groups())
        if bound and own.environments:
            raise web.HTTPError(
                403,
                f"{len(own.environments)} own environments asked; people of the group {bound} may "
                "use the facility's containers only",
            )
        if portal.own is None:
            raise web.HTTPError(404, "this hub keeps none")
        portal.own.keep(spawner.user.name, own)
        self._answer({"offered": [e.name for e in own.offered(portal.catalogue, spawner.groups())]})


HANDLERS = [(r"/api/af/own-environments", OwnEnvironmentsHandler)]
