"""Checks what a person asked for against what the facility offers that person.

Called again at submit: what a form showed and what a browser or a script sends are two
things.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from afportal.catalogue import BackendName, Catalogue, Class, Environment, problems

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:@+-]{0,64}$")]


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
    gpus: Annotated[str, Field(pattern=r"^([A-Za-z0-9_-]+:)?[0-9]{1,2}$|^$")] = ""


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


def read_options(raw: Mapping[str, Any]) -> Options:
    """Turn whatever a browser or a script sent into options. Raises `Refusal`."""
    try:
        return Options.model_validate(dict(raw))
    except ValidationError as error:
        raise Refusal(problems(error)) from error


def grant(
    options: Options,
    catalogue: Catalogue,
    *,
    backends: tuple[BackendName, ...],
    groups: frozenset[str],
) -> Grant:
    """Check options against the catalogue for a member of these groups.

    Args:
        options: the request.
        catalogue: what the facility offers.
        backends: what this hub offers; the first is the default.
        groups: the person's groups.

    Raises:
        Refusal: everything that is wrong with the request, in one message.
    """
    errors: list[str] = []
    backend = options.backend or backends[0]
    if backend not in backends:
        raise Refusal(f"backend {backend} asked; this hub offers {', '.join(backends)}")
    offered = catalogue.classes_of(backend, groups)
    if not offered:
        raise Refusal(
            f"no class of {backend} is open to your groups ({', '.join(sorted(groups)) or 'none'})"
        )
    class_ = next(
        (c for c in offered if c.name == options.class_name),
        None if options.class_name else offered[0],
    )
    if class_ is None:
        names = ", ".join(c.name for c in offered)
        raise Refusal(f"class {options.class_name} asked; {backend} offers you {names}")
    environment = next(
        (e for e in catalogue.environments if options.environment in (None, "", e.name)), None
    )
    if environment is None:
        names = ", ".join(e.name for e in catalogue.environments)
        errors.append(f"environment {options.environment} asked; there are {names}")
    values: dict[str, int] = {}
    for field in ("cores", "memory_mib", "runtime_min"):
        asked = getattr(options, field)
        allowed, most = getattr(class_, field), getattr(catalogue.limits, field)
        value = values[field] = asked if asked is not None else allowed
        if value > allowed:
            errors.append(f"{value} {field} asked; class {class_.name} allows {allowed}")
        if value > most:
            errors.append(f"{value} {field} asked; the facility allows {most}")
    gpus = int(options.gpus.rpartition(":")[2]) if options.gpus else 0
    if gpus > catalogue.limits.gpus:
        errors.append(f"{gpus} GPUs asked; the facility allows {catalogue.limits.gpus}")
    if errors or environment is None:
        raise Refusal("; ".join(errors))
    return Grant(
        backend=backend,
        class_=class_,
        environment=environment,
        partition=options.partition,
        account=options.account,
        qos=options.qos,
        reservation=options.reservation,
        gpus=options.gpus if gpus else "",
        **values,
    )
