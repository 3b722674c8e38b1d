"""What people added for themselves, in a table of the hub's own database."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from jupyterhub import orm
from pydantic import ValidationError
from sqlalchemy import Column, Unicode, UnicodeText, event

from afportal.catalogue import problems
from afportal.own_environments import OwnCatalogue

log = logging.getLogger(__name__)


class OwnCatalogueRow(orm.Base):
    """One person's; the hub makes the table at start."""

    __tablename__ = "af_own_catalogues"
    person = Column(Unicode(255), primary_key=True)
    definitions = Column(UnicodeText, nullable=False)


@event.listens_for(orm.User, "after_delete")
def _forget(_mapper: Any, connection: Any, user: Any) -> None:
    """Whoever gets the name later gets nothing of it."""
    table = OwnCatalogueRow.__table__
    connection.execute(table.delete().where(table.c.person == user.name))


class OwnRegister:
    """What this hub knows.

    Args:
        database: returns the hub's session with its database.
    """

    def __init__(self, database: Callable[[], Any]) -> None:
        self._database = database

    def keep(self, person: str, own: OwnCatalogue) -> None:
        """Keep it in place of what was there."""
        if own == self.of(person):
            return  # as at nearly every session's start: a commit costs the hub
        row = OwnCatalogueRow(person=person, definitions=own.model_dump_json(exclude_defaults=True))
        self._database().merge(row)
        self._database().commit()

    def of(self, person: str) -> OwnCatalogue:
        """Return a person's; what is right no more, after an update of the hub, is left out."""
        row = self._database().get(OwnCatalogueRow, person)
        if row is None:
            return OwnCatalogue()
        try:
            return OwnCatalogue.model_validate_json(row.definitions)
        except ValidationError as error:
            log.warning("what %s added is not offered: %s", person, problems(error))
            return OwnCatalogue()
