"""What a facility offers: environments, classes and limits, read from YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

BackendName = Literal["htcondor", "slurm", "local"]
# "k40:1", or "2" of any kind.
GPUS = r"^([A-Za-z0-9][A-Za-z0-9_.-]*:)?[0-9]{1,2}$|^$"
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Environment(_Frozen):
    """A software environment that a server can run in.

    Args:
        prefix: folder that holds bin/python with JupyterLab, the same path on every node.
        section: heading that it stands under, as an experiment's name.
        groups: who may use it; empty means everybody.
        backends: where it can run; empty means everywhere.
        default_class: size that the form proposes with it.
        gpus: that it cannot do without, "k40:1".
        stand_in: no server for people: jobs behave as one to the hub, for load tests alone
            (`afportal.session.stand_in`).
    """

    name: Word
    title: str
    prefix: str
    description: str = ""
    section: str = ""
    groups: tuple[str, ...] = ()
    backends: tuple[BackendName, ...] = ()
    default_class: Word | None = None
    gpus: Annotated[str, Field(pattern=GPUS)] = ""
    stand_in: bool = False


class Class(_Frozen):
    """A size of server.

    Args:
        memory_mib: what is asked of the scheduler (soft).
        memory_limit_mib: where the server is stopped (hard); None: at what was asked.
        reserved: uses slots that are kept free for notebooks (HTCondor).
        groups: who may use it; empty means everybody.
    """

    name: Word
    title: str
    backends: tuple[BackendName, ...]
    cores: int = Field(ge=1)
    memory_mib: int = Field(ge=256)
    memory_limit_mib: int | None = Field(default=None, ge=256)
    runtime_min: int = Field(ge=1)
    reserved: bool = False
    groups: tuple[str, ...] = ()


class Limits(_Frozen):
    """The most that one server may ask for, whatever its class says."""

    cores: int = Field(default=16, ge=1)
    memory_mib: int = Field(default=65536, ge=256)
    runtime_min: int = Field(default=24 * 60, ge=1)
    gpus: int = Field(default=2, ge=0)


class Catalogue(_Frozen):
    """Everything a facility offers."""

    environments: tuple[Environment, ...] = Field(min_length=1)
    classes: tuple[Class, ...] = Field(min_length=1)
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Catalogue:
        for kind, items in (("environment", self.environments), ("class", self.classes)):
            names = [item.name for item in items]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{kind} named twice: {', '.join(twice)}")
        classes = {item.name for item in self.classes}
        for environment in self.environments:
            if environment.default_class not in (None, *classes):
                raise ValueError(
                    f"environment {environment.name}: no class {environment.default_class}"
                )
        return self

    def environments_of(self, backend: str, groups: frozenset[str]) -> tuple[Environment, ...]:
        """Return the environments that a member of these groups may use on a backend."""
        return tuple(
            e
            for e in self.environments
            if backend in (e.backends or (backend,))
            and (not e.groups or groups.intersection(e.groups))
        )

    def classes_of(self, backend: str, groups: frozenset[str]) -> tuple[Class, ...]:
        """Return the classes that a member of these groups may use on a backend."""
        return tuple(
            c
            for c in self.classes
            if backend in c.backends and (not c.groups or groups.intersection(c.groups))
        )


def problems(error: ValidationError) -> str:
    """Put all of a validation's errors in one line, each with its place."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'options'}: {item['msg']}"
        for item in error.errors()
    )


def load(path: str | Path) -> Catalogue:
    """Read a catalogue. Raises ValueError with every error it holds."""
    raw: Any = yaml.safe_load(Path(path).read_text())
    try:
        return Catalogue.model_validate(raw)
    except ValidationError as error:
        raise ValueError(f"{path}: {problems(error)}") from error
