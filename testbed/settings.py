"""Where things are and how much is needed: the only place that reads the environment.

Precedence: flag, environment, what the last `testbed up` remembered, default. Standard
library only, since the bootstrap reads it before anything is installed.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from testbed.errors import UsageError

DEFAULT_PROJECT = "af-testbed"
DEFAULT_PORT = 8443
DOMAIN = "af.localhost"  # browsers take all below localhost to the loopback
PACKAGE = Path(__file__).resolve().parent

CA_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # macOS
)


@dataclass(frozen=True)
class Settings:
    """One testbed's settings, after flag, environment, memory and default."""

    project: str
    home: Path  # the folder that holds compose/ and src/: the repository, or the installed package
    compose_file: Path
    work: Path  # where .testbed/ and reports/ go
    port: int
    port_is_asked: bool  # by flag or environment, not by default
    far: bool  # the origin gives its files at the rate of a distant one
    docker_host: str | None
    docker_config: Path
    ca_bundle: Path | None
    images: str  # first part of the images' names; another tree's builds need another one
    ci: bool
    min_memory_mib: int
    min_disk_mib: int
    environ: Mapping[str, str]  # handed to child processes, never printed

    @property
    def bake_file(self) -> Path:
        return self.home / "compose" / "docker-bake.hcl"

    @property
    def versions_file(self) -> Path:
        return self.home / "compose" / "versions.env"

    @property
    def shared_state_dir(self) -> Path:
        """What all testbeds of this folder share: build stamp, build log, CA bundle."""
        return self.work / ".testbed"

    @property
    def state_dir(self) -> Path:
        """What one testbed keeps; the default project's lies at the top."""
        if self.project == DEFAULT_PROJECT:
            return self.shared_state_dir
        return self.shared_state_dir / self.project

    @property
    def site_file(self) -> Path:
        return self.state_dir / "site.toml"

    def front_door(self, name: str, port: int | None = None) -> str:
        """The address of one of the front door's names, without a slash at the end.

        Args:
            name: `hubs`, `help`, `login` or `api`.
            port: Where it is published; default what was asked for.
        """
        return f"https://{name}.{DOMAIN}:{port or self.port}"

    @property
    def reports_dir(self) -> Path:
        return self.work / "reports"


def load(
    project: str | None = None,
    port: int | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    far: bool | None = None,
) -> Settings:
    """Settings for one testbed.

    Args:
        project: Name of the compose project; default `AF_PROJECT` or `af-testbed`.
        port: Front door; default `AF_PORT`, the port of the last `up`, 8443.
        environ: Read instead of the process's own environment.
        far: Whether the origin is slow; default as in the last `up`, no.

    Raises:
        UsageError: A name or a number that cannot be one.
    """
    environ = os.environ if environ is None else environ
    name = project or environ.get("AF_PROJECT") or DEFAULT_PROJECT
    if not _is_project_name(name):
        raise UsageError(
            f"project {name!r} cannot be a compose project",
            cure="lower-case letters, digits, - and _, a letter or digit first",
        )
    in_repository = (PACKAGE.parent / "pyproject.toml").is_file()
    home = PACKAGE.parent if in_repository else PACKAGE
    work = PACKAGE.parent if in_repository else Path.cwd()
    asked_port = port if port is not None else _number(environ, "AF_PORT")
    settings = Settings(
        project=name,
        home=home,
        compose_file=Path(
            environ.get("AF_COMPOSE_FILE") or home / "compose" / "compose.yaml"
        ).absolute(),
        work=work,
        port=asked_port or DEFAULT_PORT,
        port_is_asked=asked_port is not None,
        far=bool(far),
        docker_host=environ.get("DOCKER_HOST") or None,
        docker_config=Path(environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json",
        ca_bundle=_ca_bundle(environ),
        images=environ.get("AF_IMAGES") or "af-testbed",
        ci=environ.get("CI", "").lower() in ("1", "true", "yes"),
        min_memory_mib=_number(environ, "AF_MIN_MEMORY_MIB") or 4096,
        min_disk_mib=_number(environ, "AF_MIN_DISK_MIB") or 20480,
        environ=dict(environ),
    )
    known = remembered(settings)
    if asked_port is None and (port := known.get("port")):
        settings = replace(settings, port=int(port))
    if far is None:
        settings = replace(settings, far=bool(known.get("far")))
    if not 1 <= settings.port <= 65535:
        raise UsageError(f"port {settings.port} is not between 1 and 65535")
    return settings


def remembered(settings: Settings) -> dict[str, Any]:
    """What the last `up` of this project was asked for: port, scales and a far origin."""
    try:
        known = json.loads((settings.state_dir / "up.json").read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def remember(settings: Settings, **asked: Any) -> None:
    """Keep what `up` was asked for, so that the next `up` asks for the same."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    known = remembered(settings) | asked
    (settings.state_dir / "up.json").write_text(json.dumps(known, indent=1) + "\n")


def versions(settings: Settings) -> dict[str, str]:
    """The pins of `compose/versions.env`."""
    pins = {}
    for line in settings.versions_file.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not name.lstrip().startswith("#"):
            pins[name.strip()] = value.strip()
    return pins


def _is_project_name(name: str) -> bool:
    return (
        name[0].isalnum()
        and name == name.lower()
        and name.isascii()
        and all(c.isalnum() or c in "-_" for c in name)
    )


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "").strip()
    if not text:
        return None
    if not text.isdecimal():
        raise UsageError(f"{name} must be a whole number", seen=repr(text))
    return int(text)


def _ca_bundle(environ: Mapping[str, str]) -> Path | None:
    for candidate in (environ.get("SSL_CERT_FILE", ""), *CA_BUNDLES):
        if candidate and Path(candidate).is_file():
            return Path(candidate)
    return None
