"""From hubs.yaml: the hubs' compose services, keys, front door's routes and Prometheus' targets."""

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from testbed.errors import UsageError

HUBS_FILE = Path("compose/hub/config/hubs.yaml")
COMPOSE_FILE = Path("compose/hub/compose.yaml")
KEYS_FILE = Path("compose/keys/instances.yaml")
ROUTES_FILE = Path("compose/proxy/config/hubs.conf")
TARGETS_FILE = Path("compose/prometheus/config/targets/hubs.json")
PORTAL_FILE = Path("compose/hub/config/portal.yaml")
RESERVED = frozenset({"hub", "user", "logout", "api", "static"})
MOST_INSTANCES = 16


class Hub(BaseModel):
    """One hub of hubs.yaml; the portal reads the same file with a model of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{0,15}$")]
    title: Annotated[str, Field(min_length=1, max_length=60)]
    description: Annotated[str, Field(max_length=300)] = ""
    backends: tuple[str, ...]
    login: Literal["header", "keycloak"]
    instances: Annotated[int, Field(ge=1, le=MOST_INSTANCES)]

    @field_validator("name")
    @classmethod
    def _name_is_free(cls, name: str) -> str:
        if name in RESERVED:
            raise ValueError(f"{name} is reserved ({', '.join(sorted(RESERVED))})")
        return name

    @field_validator("backends")
    @classmethod
    def _backends_differ(cls, backends: tuple[str, ...]) -> tuple[str, ...]:
        if not backends:
            raise ValueError("at least one is needed")
        if len(set(backends)) < len(backends):
            raise ValueError("one is named twice")
        return backends

    @field_validator("instances")
    @classmethod
    def _no_more_than_login_allows(cls, instances: int, info: ValidationInfo) -> int:
        if instances > 1 and info.data.get("login") == "keycloak":
            raise ValueError("a hub with login: keycloak has exactly one instance")
        return instances

    @property
    def instance_names(self) -> tuple[str, ...]:
        return tuple(f"{self.name}-{number}" for number in range(1, self.instances + 1))


@dataclass(frozen=True)
class Change:
    """A file that does not say what hubs.yaml says.

    Args:
        path: Below the folder that holds compose/.
        words: How many services or lines come and go, for a person.
    """

    path: Path
    words: str
    text: str


class _Loader(yaml.SafeLoader):
    """Keeps what is named twice: YAML itself would take the last one silently."""

    twice: list[str]

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = [str(self.construct_object(key, deep=True)) for key, _ in node.value]
        self.twice += sorted({name for name in names if names.count(name) > 1})
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


def read(home: Path) -> tuple[Hub, ...]:
    """The facility's hubs, in the order of the file.

    Raises:
        UsageError: The file is not there or is wrong; all its errors and the cure.
    """
    path = home / HUBS_FILE
    try:
        loader = _Loader(path.read_text())
        loader.twice = []
        raw = loader.get_single_data()
    except (OSError, yaml.YAMLError) as error:
        raise _refused(path, [" ".join(str(error).split())]) from error
    if not isinstance(raw, dict) or not isinstance(raw.get("hubs"), dict) or not raw["hubs"]:
        raise _refused(path, ["hubs: a mapping of hub names is needed"])
    errors = [f"{name}: this name is taken already" for name in loader.twice]
    errors += [f"{name}: not known here; only hubs is" for name in raw if name != "hubs"]
    hubs = []
    described = _described(home)
    there = f"{', '.join(described)} (portal.yaml)"
    for name, fields in raw["hubs"].items():
        given = fields if isinstance(fields, dict) else {}
        asked = given.get("backends")
        errors += [
            f"hub {name}: backends.{place}: {backend} is none of {there}"
            for place, backend in enumerate(asked if isinstance(asked, list) else ())
            if backend not in described
        ]
        try:
            hubs.append(Hub.model_validate({**given, "name": str(name)}))
        except ValidationError as error:
            errors += [
                f"hub {name}: {'.'.join(map(str, item['loc']))}: "
                f"{item['msg'].removeprefix('Value error, ')}"
                for item in error.errors()
            ]
    if errors:
        raise _refused(path, errors)
    return tuple(hubs)


def _described(home: Path) -> list[str]:
    """The backends that the portal knows. Raises `UsageError`."""
    path = home / PORTAL_FILE
    try:
        return [*yaml.safe_load(path.read_text())["backends"]]
    except (OSError, yaml.YAMLError, LookupError, TypeError) as error:
        raise _refused(
            path, [f"its backends cannot be read: {' '.join(str(error).split())}"]
        ) from error


def _refused(path: Path, errors: list[str]) -> UsageError:
    return UsageError(
        f"{path} cannot be followed",
        seen="\n".join(f"  {error}" for error in errors),
        cure="mend every line named above, then testbed hubs; a hub needs a name of its own "
        "(a-z, 0-9, at most 16), title, backends that portal.yaml describes, instances and login",
    )


def changes(home: Path) -> list[Change]:
    """The files that must be made anew, with what changes in them. Raises `UsageError`."""
    hubs = read(home)
    found = []
    for path, text in (
        (COMPOSE_FILE, compose_text(hubs)),
        (KEYS_FILE, keys_text(hubs)),
        (ROUTES_FILE, routes_text(hubs)),
        (TARGETS_FILE, targets_text(hubs)),
    ):
        now = (home / path).read_text() if (home / path).is_file() else ""
        if now != text:
            found.append(Change(path, _difference(now, text), text))
    return found


def render(home: Path) -> list[Change]:
    """Make the files that are not current, and return what was changed.

    Raises:
        UsageError: hubs.yaml is wrong, or a file cannot be written.
    """
    made = changes(home)
    for change in made:
        path = home / change.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(change.text)
        except OSError as error:
            raise UsageError(
                f"{path} cannot be made from {HUBS_FILE.name}",
                seen=str(error),
                cure=f"make {path.parent} writable, or run from a copy of the repository",
            ) from error
    return made


def _difference(now: str, then: str) -> str:
    """Say which services come and go, or how many lines if none does."""
    before, after = _named(now), _named(then)
    parts = [f"+ {name}" for name in after if name not in before]
    parts += [f"- {name}" for name in before if name not in after]
    if parts:
        return ", ".join(parts)
    lines = difflib.unified_diff(now.splitlines(), then.splitlines(), n=0, lineterm="")
    count = sum(line[:1] in "+-" and line[:3] not in ("+++", "---") for line in lines)
    return f"{count} lines"


def _named(text: str) -> list[str]:
    """What a rendered file names: services of the compose file, macros of the routes."""
    if "\nservices:\n" in text:
        return list(yaml.safe_load(text)["services"])
    return [line.removeprefix("Use ") for line in text.splitlines() if line.startswith("Use ")]


def routes_text(hubs: tuple[Hub, ...]) -> str:
    """Lines for the front door; the macros are its own."""
    lines = [f"# made by testbed hubs from {HUBS_FILE.parent.name}/{HUBS_FILE.name}"]
    for hub in hubs:
        lines.append("")
        if hub.login == "keycloak":
            lines.append(f"Use OpenHub {hub.name} {hub.instance_names[0]}")
        else:
            lines += [f"Use Instance {hub.name} {instance}" for instance in hub.instance_names]
            lines.append(f"Use Hub {hub.name}")
    return "\n".join(lines) + "\n"


def targets_text(hubs: tuple[Hub, ...]) -> str:
    """Prometheus' targets: each instance's own page. Source: Prometheus, `file_sd_configs`."""
    groups = [
        {
            "targets": [f"hub-{instance}:8081"],
            "labels": {
                "hub": hub.name,
                "instance": instance,
                "__metrics_path__": f"/{hub.name}/hub/metrics",
            },
        }
        for hub in hubs
        for instance in hub.instance_names
    ]
    return json.dumps(groups, indent=1) + "\n"


def compose_text(hubs: tuple[Hub, ...]) -> str:
    """The compose file of all instances."""
    instances = [(hub, instance) for hub in hubs for instance in hub.instance_names]
    services = "\n".join(_SERVICES.format(hub=hub.name, instance=name) for hub, name in instances)
    volumes = "".join(f"  cell-{name}:\n  key-cell-{name}:\n" for _, name in instances)
    return f"{_HEAD}\nservices:\n{services}\n{_VOLUMES}{volumes}"


def keys_text(hubs: tuple[Hub, ...]) -> str:
    """What the service `keys` has beyond its own compose file: a volume for each cell's keys."""
    names = [instance for hub in hubs for instance in hub.instance_names]
    mounts = "".join(f"      - key-cell-{name}:/keys/cell-{name}\n" for name in names)
    volumes = "".join(f"  key-cell-{name}:\n" for name in names)
    return (
        f"# made by testbed hubs from {HUBS_FILE}\n\nservices:\n  keys:\n"
        f"    environment: {{AF_INSTANCES: {' '.join(names)}}}\n    volumes:\n{mounts}\n"
        f"volumes:\n{volumes}"
    )


_HEAD = """\
# made by testbed hubs from config/hubs.yaml
x-chp: &chp
  image: ${AF_IMAGES:-af-testbed}/hub
  command: [start-chp]
  labels: {org.af-testbed: "1"}
  restart: unless-stopped
  stop_grace_period: 3s
  healthcheck: &often
    test: [CMD-SHELL, "ask-inside https://chp-$$AF_INSTANCE:8000/_chp_healthz"]
    start_period: 120s
    start_interval: 1s
    interval: 15s
    timeout: 10s
    retries: 4

x-hub: &hub
  image: ${AF_IMAGES:-af-testbed}/hub
  labels: {org.af-testbed: "1"}
  restart: unless-stopped
  stop_grace_period: 10s
  healthcheck:
    <<: *often
    test: [CMD-SHELL, "ask-inside https://hub-$$AF_INSTANCE:8081/$$AF_HUB/hub/health"]

x-cell: &cell
  AF_NSS: "1"
  AF_DOMAIN: af.localhost
  AF_PORT: ${AF_PORT:-8443}
"""
_SERVICES = """\
  chp-{instance}:
    <<: *chp
    environment: {{AF_HUB: {hub}, AF_INSTANCE: {instance}}}
    depends_on:
      keys: {{condition: service_completed_successfully}}
    volumes:
      - key-cell-{instance}:/keys/cell:ro
      - key-inside-tls:/keys/inside-tls:ro
      - cell-{instance}:/srv/hub/data

  hub-{instance}:
    <<: *hub
    environment: {{<<: *cell, AF_HUB: {hub}, AF_INSTANCE: {instance}}}
    depends_on:
      keys: {{condition: service_completed_successfully}}
      ldap: {{condition: service_healthy}}
      chp-{instance}: {{condition: service_healthy}}
    volumes:
      - key-hub:/keys/hub:ro
      - key-door:/keys/door:ro
      - key-minter:/keys/minter:ro
      - key-login:/keys/login:ro
      - token-condor-hub:/keys/condor-hub:ro
      - key-cell-{instance}:/keys/cell:ro
      - key-inside-tls:/keys/inside-tls:ro
      - cell-{instance}:/srv/hub/data
      - shares:/srv/shares
      - ../../src:/srv/afportal/src:ro
      - ./config:/etc/afportal:ro
"""
_VOLUMES = """\
volumes:
  key-hub:
  key-door:
  key-minter:
  key-login:
  token-condor-hub:
  key-inside-tls:
  shares:
"""
