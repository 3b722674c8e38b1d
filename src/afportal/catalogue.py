"""What a facility offers: environments, classes and limits, read from YAML."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from afportal.checked_yaml import Place, read
from afportal.containers import Container, Folder, Variables

# What portal.yaml calls a backend; it stands in front of a "/" in the form.
BackendName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]{0,30}$")]
# "k40:1", or "2" of any kind.
GPUS = r"^([A-Za-z0-9][A-Za-z0-9_.-]*:)?[0-9]{1,2}$|^$"
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
ICONS = frozenset(
    file.stem for file in (Path(__file__).parent / "form" / "static" / "icons").glob("*.svg")
)
# Names that begin so are of what people added for themselves (`afportal.own_environments`).
OWN = "own."


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Environment(_Frozen):
    """A software environment that a server can run in: a flavour of the spawn form.

    Args:
        prefix: folder that holds bin/python with JupyterLab, the same path on every node.
        container: what the whole server runs in, in place of a folder.
        section: heading that it stands under, as an experiment's name.
        icon: one of the form's own pictures (`form/static/icons`).
        groups: who may use it; empty means everybody.
        backends: where it can run; empty means everywhere.
        default_class: size that the form proposes with it, and that is taken where none is named.
        gpus: that it cannot do without, "k40:1".
        stand_in_for: what it stands for and cannot be had here, as "SL7"; shown with its title.
        stand_in: no server for people: jobs behave as one to the hub, for load tests alone
            (`afportal.session.stand_in`).
    """

    name: Word
    title: str = Field(max_length=100)
    prefix: Folder = ""
    container: Container | None = None
    description: str = Field(default="", max_length=500)
    section: str = Field(default="", max_length=100)
    icon: Word | None = None
    groups: tuple[str, ...] = ()
    backends: tuple[BackendName, ...] = ()
    default_class: Word | None = None
    gpus: Annotated[str, Field(pattern=GPUS)] = ""
    stand_in_for: str = Field(default="", max_length=60)
    stand_in: bool = False

    @field_validator("icon")
    @classmethod
    def _is_there(cls, icon: str | None) -> str | None:
        if icon is not None and icon not in ICONS:
            raise ValueError(f"there is no such icon; there are {', '.join(sorted(ICONS))}")
        return icon

    @property
    def shown(self) -> str:
        """Its title, with what it stands in for."""
        return (
            f"{self.title} (stand-in for {self.stand_in_for})" if self.stand_in_for else self.title
        )

    @property
    def own(self) -> bool:
        """Whether a person added it for themselves."""
        return self.name.startswith(OWN)

    @property
    def path(self) -> str:
        """What must be there on a node: the folder's Python, or the container."""
        return self.container.image if self.container is not None else f"{self.prefix}/bin/python"


class Kernel(_Frozen):
    """A kernel that the facility puts into people's servers beside those that an environment has.

    Args:
        argv: its command, where "{connection_file}" stands for the file that it reads; a program
            such as a `setup.sh` that gets an experiment's software ready and becomes the kernel.
        language: of its notebooks.
        environment: variables that it is started with.
        container: what it runs in; its `python` is not used then, `argv` is a command in there.
        environments: whose servers have it; empty: all that are folders. A server that is in a
            container itself has none in another container.
        groups: who may use it; empty means everybody.
    """

    name: Word
    title: str = Field(max_length=100)
    argv: tuple[str, ...] = Field(min_length=1)
    language: str = "python"
    environment: Variables = {}
    container: Container | None = None
    environments: tuple[Word, ...] = ()
    groups: tuple[str, ...] = ()

    @field_validator("argv")
    @classmethod
    def _can_be_reached(cls, argv: tuple[str, ...]) -> tuple[str, ...]:
        if not any("{connection_file}" in argument for argument in argv):
            raise ValueError("no argument is {connection_file}: nobody could reach the kernel")
        return argv


class Class(_Frozen):
    """A size of server.

    Args:
        memory_mib: what is asked of the scheduler (soft).
        memory_limit_mib: where the server is stopped (hard); None: at what was asked.
        runtime_limit_min: how long a running server may be made to run, where its scheduler
            lets the hub; None: no longer than `runtime_min`.
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
    runtime_limit_min: int | None = Field(default=None, ge=1)
    reserved: bool = False
    groups: tuple[str, ...] = ()


class Limits(_Frozen):
    """The most that one server may ask for, whatever its class says."""

    cores: int = Field(default=16, ge=1)
    memory_mib: int = Field(default=65536, ge=256)
    runtime_min: int = Field(default=24 * 60, ge=1)
    gpus: int = Field(default=2, ge=0)


class Catalogue(_Frozen):
    """Everything a facility offers.

    Args:
        kernels: what people find in their servers beside the environment's own.
        containers_only: groups whose members get environments in containers and no others, as
            people from outside.
        launcher: Python on every node that enters containers and people's own folders; default
            that of the first environment that is a folder.
    """

    environments: tuple[Environment, ...] = Field(min_length=1)
    classes: tuple[Class, ...] = Field(min_length=1)
    kernels: tuple[Kernel, ...] = ()
    containers_only: tuple[str, ...] = ()
    launcher: Folder = ""
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _hangs_together(self) -> Catalogue:
        faults = [what for _, what in across(self.model_dump(mode="json"))]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def launching(self) -> str:
        """The Python that starts what is not an environment of the facility's nodes."""
        return self.launcher or next((e.path for e in self.environments if e.prefix), "")

    def bound(self, groups: frozenset[str]) -> str:
        """Return the group that binds its members to containers; empty: there is none."""
        return next((name for name in self.containers_only if name in groups), "")

    def environments_of(self, backend: str, groups: frozenset[str]) -> tuple[Environment, ...]:
        """Return the environments that a member of these groups may use on a backend."""
        found = self.environments_for(groups)
        return tuple(e for e in found if backend in (e.backends or (backend,)))

    def environments_for(self, groups: frozenset[str]) -> tuple[Environment, ...]:
        """Return the environments that a member of these groups may use somewhere."""
        bound = self.bound(groups)
        return tuple(
            e
            for e in self.environments
            if (not e.groups or groups.intersection(e.groups))
            and (not bound or e.container is not None)
        )

    def kernels_of(self, environment: Environment, groups: frozenset[str]) -> tuple[Kernel, ...]:
        """Return the kernels that a member of these groups finds in an environment."""
        inside = environment.container is not None
        return tuple(
            k
            for k in self.kernels
            if (environment.name in k.environments if k.environments else not inside)
            and (not k.groups or groups.intersection(k.groups))
            and not (inside and k.container is not None)
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
        f"{'.'.join(str(part) for part in item['loc']) or 'options'}: "
        f"{item['msg'].removeprefix('Value error, ')}"
        for item in error.errors()
    )


def across(raw: Any, backends: Collection[str] | None = None) -> Iterator[tuple[Place, str]]:
    """Tell what of a catalogue does not fit together, each with its place.

    Args:
        raw: the catalogue as YAML has it; what is wrong by itself is passed over.
        backends: those that portal.yaml describes; None: not known.
    """
    lists = {kind: _entries(raw, kind) for kind in ("environments", "classes", "kernels")}
    for kind, entries in lists.items():
        first: dict[Any, int] = {}
        for number, entry in entries:
            name = entry.get("name")
            if name in first:
                yield (kind, number, "name"), f"{name} is the name of {kind}.{first[name]} too"
            elif isinstance(name, str):
                first[name] = number
            named = entry.get("backends")
            for place, backend in enumerate(named if isinstance(named, list | tuple) else ()):
                if backends is not None and backend not in backends:
                    there = ", ".join(sorted(backends))
                    yield (kind, number, "backends", place), f"{backend} is none of {there}"
    classes = {entry.get("name"): entry for _, entry in lists["classes"]}
    for number, entry in lists["environments"]:
        wanted = entry.get("default_class")
        if isinstance(wanted, str) and wanted not in classes:
            yield ("environments", number, "default_class"), f"there is no class {wanted}"
        if bool(entry.get("prefix")) == bool(entry.get("container")):
            yield ("environments", number), "either prefix or container says where it is"
        if str(entry.get("name", "")).startswith(OWN):
            yield ("environments", number, "name"), f"names with {OWN} are people's own"
    known = {entry.get("name") for _, entry in lists["environments"]}
    for number, entry in lists["kernels"]:
        named = entry.get("environments")
        for name in named if isinstance(named, Sequence) and not isinstance(named, str) else ():
            if name not in known:
                yield ("kernels", number, "environments"), f"there is no environment {name}"
    launches = isinstance(raw, Mapping) and raw.get("launcher")
    if known and not launches and not any(e.get("prefix") for _, e in lists["environments"]):
        yield (
            ("environments",),
            "none is a folder: launcher must say which Python enters containers",
        )
    limits = raw.get("limits") if isinstance(raw, Mapping) else None
    limits = {**Limits().model_dump(), **(limits if isinstance(limits, Mapping) else {})}
    for number, entry in lists["classes"]:
        for name in ("cores", "memory_mib", "runtime_min", "runtime_limit_min"):
            limit = name.replace("_limit_", "_")
            asked, most = entry.get(name), limits[limit]
            if isinstance(asked, int) and isinstance(most, int) and asked > most:
                yield ("classes", number, name), f"{asked} is more than limits.{limit}, {most}"
        usual, longest = entry.get("runtime_min"), entry.get("runtime_limit_min")
        if isinstance(usual, int) and isinstance(longest, int) and longest < usual:
            yield (
                ("classes", number, "runtime_limit_min"),
                f"a server may run for {usual} at its start (runtime_min), and no longer later",
            )
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


def load(path: str | Path, backends: Collection[str] | None = None) -> Catalogue:
    """Read a catalogue.

    Args:
        backends: those that portal.yaml describes: others are errors; None: not known.

    Raises:
        ValueError: with every error it holds, each with its line.
    """
    return read(Path(path), Catalogue, partial(across, backends=backends))


def with_classes(catalogue: Catalogue, more: tuple[Class, ...]) -> Catalogue:
    """Return a catalogue with further classes, checked like its own. Raises ValueError."""
    parts = {name: getattr(catalogue, name) for name in Catalogue.model_fields}
    return Catalogue(**parts | {"classes": (*catalogue.classes, *more)})
