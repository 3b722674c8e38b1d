"""What people add to the catalogue for themselves: the data, on both sides of the wire.

A person's file says it (`afportal.own_catalogue`), the hub keeps it (`afportal.own_register`) and
offers it to nobody else. It may name whatever it likes: it runs as that person and no other.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from afportal.catalogue import OWN, BackendName, Catalogue, Environment
from afportal.containers import Container, Folder

MOST = 20
MOST_BYTES = 64 * 1024
SECTION = "Yours"
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,30}$")]
Title = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{0,80}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OwnEnvironment(_Frozen):
    """One thing that a person added.

    Args:
        prefix: a folder with bin/python.
        container: what takes the place of a folder.
        kernel: it is no server, but a kernel in one of the facility's.
    """

    name: Name
    title: Title = ""
    prefix: Folder = ""
    container: Container | None = None
    kernel: bool = False

    @model_validator(mode="after")
    def _is_somewhere(self) -> OwnEnvironment:
        if bool(self.prefix) == bool(self.container):
            raise ValueError("either prefix or container says where it is")
        return self

    @property
    def place(self) -> str:
        """Where it is, for its owner to read."""
        return self.container.image if self.container is not None else self.prefix


class OwnCatalogue(_Frozen):
    """All that a person added."""

    environments: tuple[OwnEnvironment, ...] = Field(default=(), max_length=MOST)

    @model_validator(mode="after")
    def _names_differ(self) -> OwnCatalogue:
        names = [e.name for e in self.environments]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"these names stand there more than once: {', '.join(twice)}")
        return self

    def offered(self, facility: Catalogue, groups: frozenset[str]) -> tuple[Environment, ...]:
        """Return it as environments beside the facility's own.

        A container is offered where the facility has containers itself; nowhere, if it has none. A
        kernel comes with the first folder that its owner may use.
        """
        found = []
        folders = (e for e in facility.environments if e.prefix and not (e.stand_in or e.gpus))
        usual = next((e for e in folders if not e.groups or groups & {*e.groups}), None)
        for own in self.environments:
            container = None if own.kernel else own.container
            prefix = usual.prefix if own.kernel and usual is not None else own.prefix
            backends = containers_on(facility) if container is not None else ()
            if own.kernel and usual is not None:
                backends = usual.backends
            if (container is None and not prefix) or (container is not None and backends is None):
                continue
            kind = f"Your kernel {own.place}" if own.kernel else f"Added by you: {own.place}"
            where = f", in {usual.title}" if own.kernel and usual is not None else ""
            found.append(
                Environment(
                    name=f"{OWN}{own.name}",
                    title=own.title or own.name,
                    prefix=prefix if container is None else "",
                    container=container,
                    section=SECTION,
                    icon="own",
                    description=f"{kind}{where}"[:500],
                    backends=backends or (),
                )
            )
        return tuple(found)


def containers_on(facility: Catalogue) -> tuple[BackendName, ...] | None:
    """Return where the facility starts containers; empty: everywhere, None: nowhere."""
    its = [e.backends for e in facility.environments if e.container is not None]
    if not its:
        return None
    return () if () in its else tuple(dict.fromkeys(name for names in its for name in names))
