"""The compose files as docker compose reads them, and the command line to act on them."""

import functools
import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from testbed import settings as settings_module
from testbed.errors import TestbedError, UsageError
from testbed.settings import Settings

FAR_ORIGIN_RATE = "20m"  # bytes a second of all readers together, as XRootD's throttle takes it


class Compose:
    """docker compose for one project.

    Services that belong to a profile are there only where it is among `profiles`.
    """

    def __init__(
        self, settings: Settings, *, cgroup_version: str = "2", profiles: Sequence[str] = ()
    ) -> None:
        self.settings = settings
        self.cgroup_version = cgroup_version
        self.profiles = tuple(profiles)

    def argv(self, *arguments: str) -> list[str]:
        file = self.settings.compose_file
        if not file.is_file():
            raise TestbedError(
                "this testbed has no compose file",
                seen=f"no {file}",
                cure="run from the repository, or reinstall af-testbed",
            )
        profiles = [word for name in self.profiles for word in ("--profile", name)]
        project = ["-p", self.settings.project]
        return ["docker", "compose", *project, "-f", str(file), *profiles, *arguments]

    def environ(self) -> dict[str, str]:
        """What the compose files are filled in with, over this process's own environment."""
        return {
            **self.settings.environ,
            **settings_module.versions(self.settings),
            "AF_IMAGES": self.settings.images,
            "AF_PORT": str(self.settings.port),
            "AF_ORIGIN_RATE": FAR_ORIGIN_RATE if self.settings.far else "",
            "AF_CGROUP_VERSION": self.cgroup_version,
        }

    def ask(self, *arguments: str) -> str:
        """The output of a compose command that only looks.

        Raises:
            TestbedError: The command failed, with its own words.
        """
        done = subprocess.run(
            self.argv(*arguments),
            env=self.environ(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise TestbedError(
                f"docker compose {arguments[0]} failed",
                seen=done.stderr.strip()[-2000:],
                cure=f"mend {self.settings.compose_file} or what it includes",
            )
        return done.stdout

    @functools.cached_property
    def model(self) -> Mapping[str, Any]:
        """All compose files merged and filled in."""
        model: Mapping[str, Any] = json.loads(self.ask("config", "--format", "json"))
        return model

    @property
    def services(self) -> tuple[str, ...]:
        """Every service, those that others depend on first."""
        found: dict[str, Mapping[str, Any]] = self.model["services"]
        ordered: dict[str, None] = {}

        def visit(name: str) -> None:
            for dependency in sorted(found[name].get("depends_on") or {}):
                if dependency in found:
                    visit(dependency)
            ordered.setdefault(name)

        for name in sorted(found):
            visit(name)
        return tuple(ordered)

    @property
    def one_shots(self) -> frozenset[str]:
        """Services that do their work and end: others wait for them to complete."""
        return frozenset(
            name
            for service in self.model["services"].values()
            for name, condition in (service.get("depends_on") or {}).items()
            if condition.get("condition") == "service_completed_successfully"
        )

    def with_dependencies(self, services: tuple[str, ...]) -> tuple[str, ...]:
        """`services` and all that they depend on, in order of dependency."""
        wanted: set[str] = set()
        left = list(services)
        while left:
            name = left.pop()
            if name not in wanted:
                wanted.add(name)
                left.extend(self.model["services"][name].get("depends_on") or {})
        return tuple(name for name in self.services if name in wanted)

    def images(self, services: tuple[str, ...]) -> frozenset[str]:
        return frozenset(self.model["services"][name]["image"] for name in services)

    def scale(self, service: str) -> int:
        """How many containers of a service the compose files ask for."""
        model = self.model["services"][service]
        replicas = (model.get("deploy") or {}).get("replicas")
        return int(model.get("scale") or replicas or 1)

    def config_hashes(self) -> dict[str, str]:
        """What compose would write on each service's containers as its configuration's hash."""
        lines = self.ask("config", "--hash", "*").splitlines()
        return dict(line.split(maxsplit=1) for line in lines if line.strip())

    def require(self, *names: str) -> None:
        """Raise UsageError for names that are no services, with those that are near."""
        unknown = [name for name in names if name not in self.model["services"]]
        if unknown:
            raise UsageError(
                f"no service named {', '.join(unknown)}",
                cure="one of " + ", ".join(self.services),
            )
