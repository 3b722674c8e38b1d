"""What a facility offers: environments, classes and limits, read from YAML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from afportal.checked_yaml import Place, read

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
    def _hangs_together(self) -> Catalogue:
        faults = [what for _, what in across(self.model_dump(mode="json"))]
        if faults:
            raise ValueError("; ".join(faults))
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


def across(raw: Any) -> Iterator[tuple[Place, str]]:
    """Tell what of a catalogue does not fit together, each with its place.

    Args:
        raw: the catalogue as YAML has it; what is wrong by itself is passed over.
    """
    lists = {kind: _entries(raw, kind) for kind in ("environments", "classes")}
    for kind, entries in lists.items():
        first: dict[Any, int] = {}
        for number, entry in entries:
            name = entry.get("name")
            if name in first:
                yield (kind, number, "name"), f"{name} is the name of {kind}.{first[name]} too"
            elif isinstance(name, str):
                first[name] = number
    classes = {entry.get("name"): entry for _, entry in lists["classes"]}
    for number, entry in lists["environments"]:
        wanted = entry.get("default_class")
        if isinstance(wanted, str) and wanted not in classes:
            yield ("environments", number, "default_class"), f"there is no class {wanted}"
    limits = raw.get("limits") if isinstance(raw, Mapping) else None
    limits = {**Limits().model_dump(), **(limits if isinstance(limits, Mapping) else {})}
    for number, entry in lists["classes"]:
        for name in ("cores", "memory_mib", "runtime_min"):
            asked, most = entry.get(name), limits[name]
            if isinstance(asked, int) and isinstance(most, int) and asked > most:
                yield ("classes", number, name), f"{asked} is more than limits.{name}, {most}"
        soft, hard = entry.get("memory_mib"), entry.get("memory_limit_mib")
        if isinstance(soft, int) and isinstance(hard, int) and hard < soft:
            yield (
                ("classes", number, "memory_limit_mib"),
                f"a server is stopped at {hard}, below the {soft} that it asks for (memory_mib)",
            )


def _entries(raw: Any, kind: str) -> list[tuple[int, Mapping[str, Any]]]:
    found = raw.get(kind) if isinstance(raw, Mapping) else None
    return [
        (number, entry)
        for number, entry in enumerate(found if isinstance(found, Sequence) else ())
        if isinstance(entry, Mapping)
    ]


def load(path: str | Path) -> Catalogue:
    """Read a catalogue. Raises ValueError with every error it holds, each with its line."""
    return read(Path(path), Catalogue, across)
