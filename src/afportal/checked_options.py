"""What a person asks of a server, checked wherever it comes from: form, link or API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tornado import web

from afportal import form, offers
from afportal.batch_settings import BatchSpawnerBase
from afportal.catalogue import Catalogue

if TYPE_CHECKING:
    from jupyterhub.spawner import Spawner, SpawnException

    from afportal.portal import Portal


class CheckedOptions(BatchSpawnerBase):
    """The part of the spawner that reads options, and grants or refuses them."""

    portal: Portal
    user: Any
    hub: Any
    orm_spawner: Any

    def failure(self, cause: str, message: str, status: int = 400) -> SpawnException:
        raise NotImplementedError  # the spawner's

    async def options_form(self, _: Spawner) -> str:
        """Render the form for this person, with the choices of the last server that started."""
        try:
            return form.render(
                self.offered(),
                backends=self.portal.backend_names,
                person=await self.person(),
                base_url=self.hub.base_url,
                chosen=self.orm_spawner.user_options or {},
            )
        except offers.Refusal as error:
            raise web.HTTPError(403, str(error)) from error

    async def options_from_form(self, formdata: Mapping[str, list[str]]) -> dict[str, Any]:
        """Read the form, and refuse there what would be refused at the start."""
        try:
            options = form.options_from_form(formdata)
            if options.pop("now", None):
                options = await self._would_start_now(offers.read_options(options))
        except ValueError as error:
            raise self.failure("options", str(error)) from error
        await self.check_options(options)
        return options

    async def _would_start_now(self, options: offers.Options) -> dict[str, Any]:
        found = form.would_start_now(
            self.offered(),
            backends=self.portal.backend_names,
            person=await self.person(),
            environment=options.environment,
        )
        return found.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True)

    async def person(
        self, options: offers.Options | None = None, *, wait: bool = True
    ) -> offers.Person:
        """Return what is known of the places that this person may ask for; see `Portal.person`.

        Args:
            options: only the place that they name; None: all of the hub.
        """
        names = self.portal.backend_names
        if options is not None:
            names = tuple(name for name in names if name == (options.backend or names[0]))
        return await self.portal.person(
            self.user.name,
            self.groups(),
            lambda name: self.defaults_for(self.portal.settings.backends[name].kind),
            names,
            wait=wait,
        )

    def groups(self) -> frozenset[str]:
        return frozenset(group.name for group in self.user.groups)

    def offered(self) -> Catalogue:
        """Return what the facility offers this person at this moment."""
        return self.portal.catalogue_for(self.user.name, self.groups())

    async def granted(self, raw: Mapping[str, Any]) -> offers.Grant:
        """Check what was asked, whoever sent it. Raises ValueError that names all errors.

        A scheduler is only waited for where something was chosen that it alone can judge.
        """
        options = offers.read_options(raw)
        return offers.grant(
            options,
            self.offered(),
            backends=self.portal.backend_names,
            person=await self.person(options, wait=options.chooses),
        )

    async def check_options(self, raw: Mapping[str, Any]) -> offers.Grant:
        """Check what was asked for the spawn that begins.

        Raises:
            SpawnException: HTTP 400 that names everything that is wrong.
        """
        try:
            return await self.granted(raw)
        except ValueError as error:
            raise self.failure("options", str(error)) from error
