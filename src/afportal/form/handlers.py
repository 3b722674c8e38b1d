"""What the spawn page asks of the hub while somebody chooses, and what it may be sent."""

from __future__ import annotations

from typing import Any

from jupyterhub import handlers
from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.handlers import pages
from tornado import web

from afportal import form, offers
from afportal.checked_options import CheckedOptions
from afportal.portal import Portal


class _OfPerson(APIHandler):
    async def _person(self, options: offers.Options | None = None) -> offers.Person:
        """Return who asks, with the place of these options or all places."""
        user = self.current_user
        if user is None or not hasattr(user, "spawners"):
            raise web.HTTPError(403, "this is for a person, by browser or token")
        if not self.get_scope_filter("read:servers")(user.orm_user, kind="user"):
            raise web.HTTPError(403, "the token may not see this person's servers (read:servers)")
        spawner: CheckedOptions = user.spawners[""]
        return await spawner.person(options)

    def _answer(self, told: dict[str, Any]) -> None:
        self.set_header("Cache-Control", "no-store")
        self.write(told)


class ForecastHandler(_OfPerson):
    """When a server with the options of the query would start, for whoever asks."""

    async def get(self) -> None:
        """Answer a forecast as JSON; refused options are a forecast of 'never' that says why."""
        portal = Portal.instance()
        fields = {name: self.get_query_arguments(name) for name in self.request.query_arguments}
        try:
            options = offers.read_options(form.options_from_form(fields))
        except offers.Refusal as error:
            raise web.HTTPError(400, str(error)) from error
        person = await self._person(options)
        offered = portal.catalogue_for(person.name, person.groups)
        about: dict[str, Any] = {"backends": portal.backend_names, "person": person}
        found = form.told(offers.foretold(options, offered, **about))
        found["longest_min"] = offers.longest_min(options, offered, **about)
        self._answer(found)


class OfferHandler(_OfPerson):
    """All that whoever asks may choose, with what is foretold of each class."""

    async def get(self) -> None:
        """Answer as the page's script has it."""
        person = await self._person()
        portal = Portal.instance()
        offered = portal.catalogue_for(person.name, person.groups)
        self._answer(form.offer(offered, backends=portal.backend_names, person=person))


class SpawnPage(pages.SpawnHandler):
    """JupyterHub's own spawn page; fields and links that are no text are refused by name.

    JupyterHub 6.1 decodes them where nothing is refused any more, and answers with HTTP 500.
    """

    async def prepare(self) -> None:
        """Refuse with HTTP 400 what could not be read as UTF-8."""
        await super().prepare()
        try:
            form.text_of(self.request.arguments)
        except offers.Refusal as error:
            raise web.HTTPError(400, str(error)) from error


def check_spawn_page() -> None:
    """Have this process's hub show its spawn page by `SpawnPage`."""
    handlers.default_handlers[:] = [
        (route, SpawnPage if handler is pages.SpawnHandler else handler, *more)
        for route, handler, *more in handlers.default_handlers
    ]


class ScriptHandler(web.StaticFileHandler):
    """The page's own files; their names carry a version, so a browser may keep them."""

    def set_extra_headers(self, path: str) -> None:  # noqa: ARG002 - tornado's signature
        """Let a browser keep a file that was asked for by its version."""
        self.set_header("X-Content-Type-Options", "nosniff")
        if self.get_query_argument("v", ""):
            self.set_header("Cache-Control", "public, max-age=31536000, immutable")


HANDLERS: list[tuple[Any, ...]] = [
    (r"/api/af/forecast", ForecastHandler),
    (r"/api/af/offer", OfferHandler),
    (r"/af/static/(.*)", ScriptHandler, {"path": str(form.STATIC)}),
]
