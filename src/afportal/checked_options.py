"""What a person asks of a server, checked wherever it comes from: form, link or API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from afportal import form, offers
from afportal.batch_settings import BatchSpawnerBase

if TYPE_CHECKING:
    from jupyterhub.spawner import Spawner, SpawnException

    from afportal.portal import Portal


class CheckedOptions(BatchSpawnerBase):
    """The part of the spawner that reads options, and grants or refuses them."""

    portal: Portal
    user: Any

    def _failure(self, cause: str, message: str, status: int = 400) -> SpawnException:
        raise NotImplementedError  # the spawner's

    def options_form(self, _: Spawner) -> str:
        """Render the form for this person."""
        return form.render(
            self.portal.catalogue, backends=self.portal.backend_names, groups=self._groups()
        )

    def options_from_form(self, formdata: Mapping[str, list[str]]) -> dict[str, Any]:
        """Read the form, and refuse there what would be refused at the start."""
        options = form.options_from_form(formdata)
        self.check_options(options)
        return options

    def _groups(self) -> frozenset[str]:
        return frozenset(group.name for group in self.user.groups)

    def granted(self, raw: Mapping[str, Any]) -> offers.Grant:
        """Check what was asked, whoever sent it. Raises ValueError that names all errors."""
        options = offers.read_options(raw)
        defaults = self.defaults_for(options.backend or self.portal.backend_names[0])
        unasked = {name: value for name, value in defaults.items() if not getattr(options, name)}
        return offers.grant(
            options.model_copy(update=unasked),
            self.portal.catalogue,
            backends=self.portal.backend_names,
            groups=self._groups(),
        )

    def check_options(self, raw: Mapping[str, Any]) -> offers.Grant:
        """Check what was asked for the spawn that begins.

        Raises:
            SpawnException: HTTP 400 that names everything that is wrong.
        """
        try:
            return self.granted(raw)
        except ValueError as error:
            raise self._failure("options", str(error)) from error
