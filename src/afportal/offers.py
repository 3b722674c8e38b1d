"""Checks what a person asked for against what the facility offers that person.

Called again at submit: what a form showed and what a browser or a script sends are two
things.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from afportal.backends import Traits
from afportal.catalogue import GPUS, BackendName, Catalogue, Class, Environment
from afportal.pool import ANY_KIND, Ask, Room
from afportal.pool.access import Access, NoWay, Way, access_of
from afportal.pool.forecast import UNKNOWN, Forecast, Outlook

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:@+-]{0,64}$")]
# Words of a scheduler that has people choose where a job runs, and in whose name.
_PLACES = ("partition", "qos", "reservation")
_PLAIN = Traits()
_A_NAME = "a name of at most 64 letters, digits and _ . : @ + - is taken"
_A_NUMBER = "a whole number is taken"
# What may stand in a field that is no name.
_TAKEN = {
    "backend": "the name of a backend is taken",
    "gpus": "a number is taken, or a kind, a colon and a number",
    "cores": _A_NUMBER,
    "memory_mib": _A_NUMBER,
    "runtime_min": _A_NUMBER,
}
MOST_QUOTED = 60


class Refusal(ValueError):
    """The request cannot be granted; the message names the request, the limit and the cure."""


class Options(BaseModel):
    """What a form, a link or a script may ask for; None and empty mean 'as the class has it'."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    backend: BackendName | None = None
    class_name: Name | None = Field(default=None, alias="class")
    environment: Name | None = None
    cores: int | None = Field(default=None, ge=1)
    memory_mib: int | None = Field(default=None, ge=256)
    runtime_min: int | None = Field(default=None, ge=1)
    partition: Name = ""
    account: Name = ""
    qos: Name = ""
    reservation: Name = ""
    gpus: Annotated[str, Field(pattern=GPUS)] = ""

    @property
    def chooses(self) -> bool:
        """Whether it names something that only the scheduler knows this person may have."""
        return bool(self.gpus or self.account or any(getattr(self, name) for name in _PLACES))


@dataclass(frozen=True)
class Place:
    """One backend as one person has it.

    Args:
        outlook: what is known of it; None: nothing, and the scheduler itself is the judge.
        traits: how its scheduler takes jobs.
        defaults: options that the facility sets where a person does not.
        label: what people call it; empty: its name.
    """

    name: BackendName
    outlook: Outlook | None = None
    access: Access | None = None
    traits: Traits = _PLAIN
    defaults: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""

    @property
    def title(self) -> str:
        """What people call it."""
        return self.label or self.name

    def with_defaults(self, options: Options) -> Options:
        """Fill in the facility's own settings where the person named nothing."""
        unasked = {
            name: value
            for name, value in self.defaults.items()
            if not getattr(options, name) and (self.traits.has_accounts or name not in _PLACES)
        }
        return options.model_copy(update=unasked)

    @property
    def gpus(self) -> dict[str, int]:
        """Kind → most on one machine, of all that this person could be given."""
        if self.outlook is None:
            return {}
        if self.access is not None:
            rooms = [
                self.access.most(partition, qos)
                for partition in self.access.partitions
                for qos in self.access.all_qos_for(partition)
            ]
        else:
            rooms = [machine.whole for machine in self.outlook.pool.machines]
        kinds = {kind for room in rooms for kind in room.gpus}
        most = {kind: max(room.gpus.get(kind, 0) for room in rooms) for kind in sorted(kinds)}
        return {kind: count for kind, count in most.items() if count}


@dataclass(frozen=True)
class Person:
    """Who asks, and what is known of the places that they may ask for.

    Args:
        own: environments that they added for themselves.
    """

    name: str
    groups: frozenset[str] = frozenset()
    places: Mapping[str, Place] = field(default_factory=dict)
    own: tuple[Environment, ...] = ()

    def at(self, backend: BackendName) -> Place:
        """Return a backend as this person has it."""
        return self.places.get(backend) or Place(backend)

    def environments(self, catalogue: Catalogue, backend: str) -> tuple[Environment, ...]:
        """Return what they may use on a backend: the facility's environments, then their own.

        Whom a group binds to containers has none of their own: who brings the image could
        leave it.
        """
        own = () if catalogue.bound(self.groups) else self.own
        return (
            *catalogue.environments_of(backend, self.groups),
            *(e for e in own if backend in (e.backends or (backend,))),
        )


def place_of(
    name: BackendName,
    outlook: Outlook | None,
    person: str,
    groups: frozenset[str],
    traits: Traits = _PLAIN,
    defaults: Mapping[str, Any] | None = None,
    label: str = "",
) -> Place:
    """Return a backend as one person has it, by what its scheduler said."""
    access = (
        access_of(outlook.pool, person, groups, usual_partition=traits.usual_partition)
        if outlook is not None
        else None
    )
    return Place(name, outlook, access, traits, defaults or {}, label)


@dataclass(frozen=True)
class Grant:
    """A request that this person may make, all values filled in."""

    backend: BackendName
    class_: Class
    environment: Environment
    cores: int
    memory_mib: int
    runtime_min: int
    partition: str
    account: str
    qos: str
    reservation: str
    gpus: str

    def ask(self, *, reserves_limit: bool) -> Ask:
        """Return what the job will ask of its scheduler."""
        memory = self.class_.memory_limit_mib if reserves_limit else None
        return Ask(
            Room(self.cores, memory or self.memory_mib, gpus_asked(self.gpus)),
            self.runtime_min, self.partition, self.account, self.qos, self.class_.reserved,
        )  # fmt: skip


def gpus_asked(text: str) -> dict[str, int]:
    """Read "k40:1" or "2" as kind → number; nothing, or none, is an empty mapping."""
    kind, _, count = text.rpartition(":")
    return {kind or ANY_KIND: int(count)} if text and int(count) else {}


def read_options(raw: Mapping[str, Any]) -> Options:
    """Turn whatever a browser or a script sent into options. Raises `Refusal`."""
    try:
        return Options.model_validate(dict(raw))
    except ValidationError as error:
        raise Refusal("; ".join(map(_malformed, error.errors()))) from error


def _malformed(error: Any) -> str:
    """Say of a value that is none of its field's: the field, what was asked, what is taken."""
    name = ".".join(str(part) for part in error["loc"])
    asked = f"{name} {quoted(error['input'])} asked"
    if error["type"] == "extra_forbidden":
        fields = ", ".join(field.alias or key for key, field in Options.model_fields.items())
        return f"{asked}; there is no such option, only {fields}"
    if error["type"] == "greater_than_equal":
        return f"{asked}; {error['ctx']['ge']} is the least"
    return f"{asked}; {_TAKEN.get(name, _A_NAME)}"


def quoted(value: Any) -> str:
    """Return what somebody sent, on one line and not all of it."""
    text = repr(value)
    return text if len(text) <= MOST_QUOTED else f"{text[: MOST_QUOTED - 1]}…"


def grant(
    options: Options,
    catalogue: Catalogue,
    *,
    backends: tuple[BackendName, ...],
    person: Person,
) -> Grant:
    """Check options against the catalogue, and against what the scheduler lets this person have.

    Args:
        options: the request.
        catalogue: what the facility offers.
        backends: what this hub offers; the first is the default.

    Raises:
        Refusal: everything that is wrong with the request, in one message.
    """
    return _judged(options, catalogue, backends, person)[0]


def foretold(
    options: Options,
    catalogue: Catalogue,
    *,
    backends: tuple[BackendName, ...],
    person: Person,
) -> Forecast:
    """Return when a server with these options would start; 'never', and why, if they are refused.

    Args: as for `grant`.
    """
    try:
        granted, ask = _judged(options, catalogue, backends, person)
    except Refusal as error:
        return Forecast("never", why=str(error))
    outlook = person.at(granted.backend).outlook
    return outlook.of(ask, person.name) if outlook is not None else UNKNOWN


def longest_min(
    options: Options,
    catalogue: Catalogue,
    *,
    backends: tuple[BackendName, ...],
    person: Person,
) -> int | None:
    """Return the longest run time with these options, in minutes; None if they are refused.

    Args: as for `grant`.
    """
    open_ended = options.model_copy(update={"runtime_min": None})
    try:
        return grant(open_ended, catalogue, backends=backends, person=person).runtime_min
    except Refusal:
        return None


def _judged(
    options: Options, catalogue: Catalogue, backends: tuple[BackendName, ...], person: Person
) -> tuple[Grant, Ask]:
    backend = options.backend or backends[0]
    if backend not in backends:
        raise Refusal(f"backend {backend} asked; this hub offers {', '.join(backends)}")
    place = person.at(backend)
    errors = [] if place.traits.has_accounts else _not_to_choose(options, backend, person)
    runtime_asked = options.runtime_min is not None
    options = place.with_defaults(options)
    environments = person.environments(catalogue, backend)
    environment = next((e for e in environments if options.environment in (None, "", e.name)), None)
    if environment is None:
        errors.append(_not_offered(options, catalogue, backend, person))
    class_ = _class(options, catalogue, backend, person.groups, environment)
    values: dict[str, int] = {}
    for name in ("cores", "memory_mib", "runtime_min"):
        asked = getattr(options, name)
        allowed, most = getattr(class_, name), getattr(catalogue.limits, name)
        value = values[name] = asked if asked is not None else allowed
        if value > allowed:
            errors.append(f"{value} {name} asked; class {class_.name} allows {allowed}")
        if value > most:
            errors.append(f"{value} {name} asked; the facility allows {most}")
    gpus = options.gpus or (environment.gpus if environment else "")
    count = sum(gpus_asked(gpus).values())
    if count > catalogue.limits.gpus:
        errors.append(f"{count} GPUs asked; the facility allows {catalogue.limits.gpus}")
    if errors or environment is None:
        raise Refusal("; ".join(errors))
    granted = Grant(
        backend=backend,
        class_=class_,
        environment=environment,
        partition=options.partition,
        account=options.account,
        qos=options.qos,
        reservation=options.reservation,
        gpus=gpus if count else "",
        **values,
    )
    return _placed(granted, place, runtime_asked=runtime_asked)


def _not_offered(
    options: Options, catalogue: Catalogue, backend: BackendName, person: Person
) -> str:
    """Say why an environment cannot be had, and which can."""
    names = ", ".join(e.name for e in person.environments(catalogue, backend)) or "none"
    asked = f"environment {options.environment or 'of any kind'} asked"
    if bound := catalogue.bound(person.groups):
        return f"{asked}; people of the group {bound} may use containers only: {names}"
    return f"{asked}; {backend} offers you {names}"


def _class(
    options: Options,
    catalogue: Catalogue,
    backend: BackendName,
    groups: frozenset[str],
    environment: Environment | None,
) -> Class:
    """Return the class that was named, else the one that goes with the environment."""
    offered = catalogue.classes_of(backend, groups)
    if not offered:
        raise Refusal(
            f"no class of {backend} is open to your groups ({', '.join(sorted(groups)) or 'none'})"
        )
    proposed = environment.default_class if environment is not None else None
    wanted = options.class_name or proposed
    class_ = next(
        (c for c in offered if c.name == wanted), None if options.class_name else offered[0]
    )
    if class_ is None:
        names = ", ".join(c.name for c in offered)
        raise Refusal(f"class {options.class_name} asked; {backend} offers you {names}")
    return class_


def _not_to_choose(options: Options, backend: BackendName, person: Person) -> list[str]:
    """Say what a person may not name where the hub submits by its own right, a line each."""
    errors = [
        f"{name} {getattr(options, name)} asked; {backend} has none to choose"
        for name in _PLACES
        if getattr(options, name)
    ]
    if options.account and options.account not in person.groups:
        groups = ", ".join(sorted(person.groups)) or "no group"
        errors.append(f"account {options.account} asked; you are in {groups}")
    return errors


def _placed(granted: Grant, place: Place, *, runtime_asked: bool) -> tuple[Grant, Ask]:
    """Check a grant against what its scheduler lets the person have, and say what it will ask.

    Where nothing was chosen, and the scheduler's own defaults would do, they are left to it. A
    run time that nobody asked for is the class's, or the longest there if that is shorter.
    """
    ask = granted.ask(reserves_limit=place.traits.reserves_limit)
    if place.outlook is None:
        return granted, ask
    if place.access is None:
        _check_gpus(granted, ask, place)
        return granted, ask
    try:
        way, runtime_min = _way(place.access, ask, runtime_asked=runtime_asked)
    except NoWay as error:
        raise Refusal(str(error)) from error
    usual = way.partition.name == place.traits.usual_partition
    mine = next((a for a in place.access.accounts if a.default), None)
    ask = replace(
        ask, runtime_min=runtime_min, partition=way.partition.name, account=way.account.name,
        qos=way.qos,
    )  # fmt: skip
    return replace(
        granted,
        runtime_min=runtime_min,
        partition="" if usual and not granted.partition else way.partition.name,
        account="" if way.account == mine and not granted.account else way.account.name,
        qos="" if way.qos == way.account.default_qos and not granted.qos else way.qos,
    ), ask


def _way(access: Access, ask: Ask, *, runtime_asked: bool) -> tuple[Way, int]:
    """Return a way for an ask, and the run time that it may have there. Raises `NoWay`."""
    try:
        return access.way(ask), ask.runtime_min
    except NoWay:
        if runtime_asked:
            raise
    way = access.way(replace(ask, runtime_min=1))
    return way, min(ask.runtime_min, way.runtime_min or ask.runtime_min)


def _check_gpus(granted: Grant, ask: Ask, place: Place) -> None:
    there = place.gpus
    for kind, count in ask.room.gpus.items():
        most = max(there.values(), default=0) if kind == ANY_KIND else there.get(kind, 0)
        if count > most:
            names = ", ".join(f"{name}:{n}" for name, n in there.items()) or "none"
            raise Refusal(f"GPUs {granted.gpus} asked; {granted.backend} has {names} on a machine")
