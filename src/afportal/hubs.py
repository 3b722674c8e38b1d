"""The facility's hubs and their instances, read from hubs.yaml."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from afportal.catalogue import BackendName, problems

# Each is part of a path under a hub's own name, or of the front door.
RESERVED = frozenset({"hub", "user", "logout", "api", "static"})
MOST_INSTANCES = 16


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Hub(_Frozen):
    """One hub as people know it: a name in the address, one or more instances behind it.

    Args:
        name: first part of the hub's paths, "htc" for /htc/.
        title: what the landing page calls it.
        backends: where its servers may run, the default first.
        login: "header", the front door names the person, or "keycloak", the hub asks itself.
        instances: how many processes; each is a cell of its own.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{0,15}$")]
    title: Annotated[str, Field(min_length=1, max_length=60)]
    description: Annotated[str, Field(max_length=300)] = ""
    backends: tuple[BackendName, ...]
    login: Literal["header", "keycloak"]
    instances: Annotated[int, Field(ge=1, le=MOST_INSTANCES)]

    @field_validator("name")
    @classmethod
    def _name_is_free(cls, name: str) -> str:
        if name in RESERVED:
            raise ValueError(f"{name} is reserved ({', '.join(sorted(RESERVED))}); choose another")
        return name

    @field_validator("backends")
    @classmethod
    def _backends_differ(cls, backends: tuple[BackendName, ...]) -> tuple[BackendName, ...]:
        if not backends:
            raise ValueError("at least one is needed")
        if len(set(backends)) < len(backends):
            raise ValueError("a backend is named twice")
        return backends

    @field_validator("instances")
    @classmethod
    def _no_more_than_login_allows(cls, instances: int, info: ValidationInfo) -> int:
        if instances > 1 and info.data.get("login") == "keycloak":
            raise ValueError("a hub with login: keycloak has exactly one instance")
        return instances

    @property
    def instance_names(self) -> tuple[str, ...]:
        """Names of the instances, ("htc-1", "htc-2"): each is its cell's tag too."""
        return tuple(f"{self.name}-{number}" for number in range(1, self.instances + 1))


class Hubs(_Frozen):
    """All hubs, in the order of the file."""

    hubs: Annotated[tuple[Hub, ...], Field(min_length=1)]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the hubs."""
        return tuple(hub.name for hub in self.hubs)

    def hub(self, name: str) -> Hub:
        """Return the hub of that name. Raises KeyError when there is none."""
        for hub in self.hubs:
            if hub.name == name:
                return hub
        raise KeyError(name)

    def instances(self) -> Iterator[tuple[Hub, str]]:
        """Each instance's name with its hub."""
        for hub in self.hubs:
            for instance in hub.instance_names:
                yield hub, instance

    def hub_of(self, instance: str) -> Hub:
        """Return the hub that an instance belongs to. Raises KeyError when there is none."""
        for hub, name in self.instances():
            if name == instance:
                return hub
        raise KeyError(instance)


class _Loader(yaml.SafeLoader):
    """Keeps what is named twice: YAML itself would take the last one silently."""

    twice: list[str]

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        self.twice += sorted({str(name) for name in names if names.count(name) > 1})
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


def read_hubs(path: str | Path) -> Hubs:
    """Read hubs.yaml. Raises ValueError with every error it holds."""
    loader = _Loader(Path(path).read_text())
    loader.twice = []
    try:
        raw: Any = loader.get_single_data()
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error
    finally:
        loader.dispose()
    if not isinstance(raw, dict) or not isinstance(raw.get("hubs"), dict) or not raw["hubs"]:
        raise ValueError(f"{path}: hubs: a mapping of hub names is needed")
    errors = [f"{name}: this name is taken already" for name in loader.twice]
    errors += [f"{name}: not known here; only hubs is" for name in raw if name != "hubs"]
    hubs = []
    for name, fields in raw["hubs"].items():
        given = fields if isinstance(fields, dict) else {}
        try:
            hubs.append(Hub.model_validate({**given, "name": str(name)}))
        except ValidationError as error:
            errors.append(f"hub {name}: {problems(error)}")
    if errors:
        raise ValueError(f"{path}: {'; '.join(errors)}")
    return Hubs(hubs=tuple(hubs))
