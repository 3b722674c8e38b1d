"""What a server runs in, and what another person may run the same in."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from afportal import offers
from afportal.catalogue import BackendName, Catalogue, Class, Environment
from afportal.offers import Person
from afportal.share.bodies import RanIn, Snapshot

if TYPE_CHECKING:
    from afportal.spawner import PortalSpawner

# So much two names must have in common to be called alike; 1: they are the same.
ALIKE = 0.5


@dataclass(frozen=True)
class Match:
    """The environment that is proposed to somebody.

    Args:
        same: it is what the notebook ran in.
        how: how it was chosen, for a person; empty where it is the same.
    """

    environment: Environment
    same: bool
    how: str = ""


@dataclass(frozen=True)
class Place:
    """One size of server that a copy may be opened in."""

    backend: BackendName
    backend_title: str
    class_: Class

    @property
    def choice(self) -> str:
        """As the spawn form has it."""
        return f"{self.backend}/{self.class_.name}"


def ran_in(environment: Environment) -> RanIn:
    """Return what is told of an environment to those who open a link."""
    return RanIn(
        environment=environment.name,
        title=environment.shown,
        section=environment.section,
        image=environment.container.image if environment.container is not None else "",
        own=environment.own,
    )


async def environment_of(spawner: PortalSpawner) -> Environment:
    """Return what a server runs in, by the hub's own record of it.

    Raises:
        LookupError: it is offered no more.
    """
    if spawner._grant is not None:
        return spawner._grant.environment
    # This hub has been restarted since: what was asked is kept, and is read as it was then.
    options = offers.read_options(spawner.orm_spawner.user_options or {})
    person = await spawner.person(options, wait=False)
    offered = person.environments(spawner.offered(), spawner.backend_name)
    for environment in offered:
        if options.environment in (None, "", environment.name):
            return environment
    raise LookupError(f"environment {options.environment} is offered no more")


def offered_to(
    catalogue: Catalogue, person: Person, backends: Sequence[BackendName]
) -> tuple[Environment, ...]:
    """Return the environments that somebody may start a server in, at any of the backends."""
    found: dict[str, Environment] = {}
    for backend in backends:
        if catalogue.classes_of(backend, person.groups):
            for environment in person.environments(catalogue, backend):
                found.setdefault(environment.name, environment)
    return tuple(found.values())


def places_of(
    environment: Environment, catalogue: Catalogue, person: Person, backends: Sequence[BackendName]
) -> list[Place]:
    """Return where somebody may start it, what is proposed with it first."""
    found = [
        Place(backend, person.at(backend).title, class_)
        for backend in backends
        if environment in person.environments(catalogue, backend)
        for class_ in catalogue.classes_of(backend, person.groups)
    ]
    return sorted(found, key=lambda place: place.class_.name != environment.default_class)


def nearest(
    wanted: RanIn, snapshot: Snapshot, offered: Sequence[Environment], catalogue: Catalogue,
    groups: frozenset[str],
) -> Match | None:  # fmt: skip
    """Return the environment to open a snapshot in; None: this person is offered none.

    What is the same is taken; else what has the same container image; else what has the
    notebook's kernel from the facility; else the same section's, and there, or among all, that
    whose name is most like it. Where no name is like it, the facility's first.
    """
    # What somebody added for themselves has a name of theirs: another's is another thing.
    if not wanted.own:
        for environment in offered:
            if environment.name == wanted.environment:
                return Match(environment, same=True)
    for environment in offered:
        container = environment.container
        if wanted.image and container is not None and container.image == wanted.image:
            return Match(environment, same=False, how=f"it has the same container {wanted.image}")
    ours = [environment for environment in offered if not environment.own]
    with_kernel = [
        environment
        for environment in ours
        if any(k.name == snapshot.kernel for k in catalogue.kernels_of(environment, groups))
    ]
    in_section = [e for e in ours if wanted.section and e.section == wanted.section]
    for those, why in (
        (with_kernel, f"it has the notebook's kernel {snapshot.kernel_title or snapshot.kernel}"),
        (in_section, f"it is of the same section, {wanted.section}"),
    ):
        if those:
            return Match(_most_like(wanted, those)[1], same=False, how=why)
    if not ours:
        return None
    likeness, found = _most_like(wanted, ours)
    if likeness >= ALIKE:
        return Match(found, same=False, how="its name is most like that")
    return Match(ours[0], same=False, how="none is like that; it is the facility's first")


def _most_like(wanted: RanIn, those: Iterable[Environment]) -> tuple[float, Environment]:
    def likeness(environment: Environment) -> float:
        return difflib.SequenceMatcher(None, wanted.environment, environment.name).ratio()

    # One that cannot do without a GPU is no stand-in for one that can.
    best = max(those, key=lambda e: (not e.gpus, likeness(e)))
    return likeness(best), best
