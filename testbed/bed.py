"""A running testbed: its services, and what can be done to them through the engine."""

import concurrent.futures
import dataclasses
import datetime
import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed import health, settings
from testbed.errors import TestbedError, UsageError
from testbed.health import Health
from testbed.settings import Settings
from testbed.waiting import wait_until

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

    from testbed.compose import Compose

PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
NUMBER_LABEL = "com.docker.compose.container-number"
TIMED_OUT = 124  # coreutils' timeout


@dataclass(frozen=True)
class Completed:
    """What a command in a container gave."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        return self.exit_code == 0


class Bed:
    """One testbed on this machine, up or not.

    Args:
        profiles: Of the compose files, whose services count too.
    """

    def __init__(self, settings: Settings, *, profiles: Sequence[str] = ()) -> None:
        self.settings = settings
        self.profiles = tuple(profiles)

    @classmethod
    def open(
        cls, project: str | None = None, *, port: int | None = None, far: bool | None = None
    ) -> "Bed":
        """The testbed of that compose project; nothing is started or asked yet.

        Args:
            port: The front door's, where it is to be booted; see `settings.load`.
            far: Whether the origin then is slow.

        Raises:
            UsageError: A project or port that cannot be one.
        """
        return cls(settings.load(project, port, far=far))

    @property
    def project(self) -> str:
        return self.settings.project

    def command(self, *words: str) -> str:
        """A command line for this testbed, to be named in a message."""
        mine = [] if self.project == settings.DEFAULT_PROJECT else ["--project", self.project]
        return " ".join(["testbed", *words, *mine])

    @functools.cached_property
    def client(self) -> "DockerClient":
        """The engine, by Docker's SDK.

        Raises:
            TestbedError: No engine answers.
        """
        from testbed import engine

        return engine.connect(self.settings)

    @functools.cached_property
    def compose(self) -> "Compose":
        from testbed.compose import Compose

        return Compose(
            self.settings,
            cgroup_version=str(self.client.info()["CgroupVersion"]),
            profiles=self.profiles,
        )

    def services(self) -> tuple[str, ...]:
        """Every service of the compose files, those that others depend on first."""
        return self.compose.services

    def summaries(self) -> dict[str, list[Mapping[str, Any]]]:
        """One entry a container, by service, in one question to the engine."""
        found: dict[str, list[Mapping[str, Any]]] = {}
        entries = self.client.api.containers(
            all=True, filters={"label": f"{PROJECT_LABEL}={self.project}"}
        )
        for entry in sorted(entries, key=lambda e: int(e["Labels"].get(NUMBER_LABEL, 0))):
            found.setdefault(entry["Labels"][SERVICE_LABEL], []).append(entry)
        return found

    def containers(self, service: str) -> list["Container"]:
        """The containers of a service, in order of their number; empty when it is not up.

        Raises:
            UsageError: There is no such service.
        """
        entries = self.summaries().get(service, [])
        if not entries:
            self.compose.require(service)
        return [self.client.containers.get(entry["Id"]) for entry in entries]

    def container(self, service: str, index: int = 1) -> "Container":
        """One container of a service.

        Raises:
            TestbedError: It is not there or does not run.
        """
        containers = self.containers(service)
        if index > len(containers):
            raise TestbedError(
                f"{service} number {index} is not there",
                seen=f"{len(containers)} containers",
                cure=self.command("up"),
            )
        return containers[index - 1]

    def health(self, service: str) -> Health:
        """How a service is.

        Raises:
            UsageError: There is no such service.
        """
        entries = self.summaries().get(service, [])
        if not entries:
            self.compose.require(service)
        return health.of_service(service, entries, one_shot=service in self.compose.one_shots)

    def healths(self) -> dict[str, Health]:
        """How every service is, at one moment."""
        found = self.summaries()
        return {
            name: health.of_service(
                name, found.get(name, []), one_shot=name in self.compose.one_shots
            )
            for name in self.services()
        }

    def exec(
        self,
        service: str,
        argv: Sequence[str],
        *,
        user: str | None = None,
        index: int = 1,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 60,
    ) -> Completed:
        """Run a command in a service's container and wait for its end.

        Args:
            user: A name or uid that the container knows; default the image's own.
            index: Which of the service's containers, from 1.
            timeout_s: The command is ended after that, and the call raises.

        Raises:
            TestbedError: The container does not run, or the command took too long.
        """
        container = self.container(service, index)
        if container.status != "running":
            raise TestbedError(
                f"{service} is {container.status}, so nothing can run in it",
                cure=f"{self.command('logs', service)}; {self.command('up')}",
            )
        api = self.client.api
        # `timeout` ends it inside the container: the engine cannot end an exec.
        bounded = ["timeout", "-k", "5", f"{timeout_s:g}", *argv]
        started = time.monotonic()
        handle = api.exec_create(
            container.id, bounded, user=user or "", environment=dict(environment or {})
        )["Id"]
        pool = concurrent.futures.ThreadPoolExecutor(max_workers=1)
        future = pool.submit(api.exec_start, handle, demux=True)
        pool.shutdown(wait=False)
        stdout: bytes | None
        stderr: bytes | None
        try:
            stdout, stderr = future.result(timeout=timeout_s + 30)  # type: ignore[assignment]
            code = int(api.exec_inspect(handle)["ExitCode"] or 0)
        except concurrent.futures.TimeoutError:
            stdout, stderr, code = b"", b"", TIMED_OUT
        if code == TIMED_OUT and time.monotonic() - started >= timeout_s:
            raise TestbedError(
                f"{service}: {' '.join(argv[:6])} did not end within {timeout_s:g} s",
                seen=_text(stderr)[-500:].strip(),
                cure=self.command("logs", service),
            )
        return Completed(code, _text(stdout), _text(stderr))

    def logs(self, service: str, tail: int | None = None) -> str:
        """What a service's containers wrote, one after the other."""
        containers = self.containers(service)
        parts = []
        for container in containers:
            text = _text(container.logs(tail=tail or "all"))
            parts.append(f"== {container.name}\n{text}" if len(containers) > 1 else text)
        return "\n".join(parts)

    def memory_mib(self) -> dict[str, float]:
        """What each running service holds now, without the page cache that can be dropped."""
        running = [
            (name, entry["Id"])
            for name, entries in self.summaries().items()
            for entry in entries
            if entry["State"] == "running"
        ]

        def used(pair: tuple[str, str]) -> tuple[str, float]:
            stats = self.client.api.stats(pair[1], stream=False, one_shot=True)
            memory = stats.get("memory_stats", {})
            detail = memory.get("stats", {})
            # Source: `docker stats` subtracts the same (v1, v2).
            cache = detail.get("total_inactive_file", detail.get("inactive_file", 0))
            return pair[0], max(0, memory.get("usage", 0) - cache) / 2**20

        total: dict[str, float] = {}
        with concurrent.futures.ThreadPoolExecutor(max_workers=8) as pool:
            for name, mib in pool.map(used, running):
                total[name] = total.get(name, 0.0) + mib
        return total

    def restart(self, service: str, *, timeout_s: float = 120) -> Health:
        """Stop and start a service's containers; returns once it is well."""
        containers = self.containers(service)
        if not containers:
            raise TestbedError(f"{service} is not up", cure=self.command("up"))
        for container in containers:
            container.restart(timeout=10)
        return self.wait_healthy(service, timeout_s=timeout_s)

    def wait_healthy(self, service: str, *, timeout_s: float = 120) -> Health:
        """Wait until a service's healthcheck says well.

        The check is also run here, since the engine may look again only much later.

        Raises:
            TestbedError: It did not in time; the message has its last log lines.
        """

        def well() -> Health | None:
            now = self.health(service)
            if now.state in health.UNPROVEN and self.probe(service):
                return dataclasses.replace(now, state="healthy", detail="")
            return now if now.ok else None

        return wait_until(
            well,
            timeout_s,
            what=f"{service} healthy",
            hint=self.command("logs", service),
            last_seen=lambda: f"{self.health(service)}\n{self.logs(service, tail=10)}",
        )

    def probe(self, service: str) -> bool:
        """Run the healthcheck of each container now; true if there is one and all pass."""
        for index, container in enumerate(self.containers(service), start=1):
            kind, *words = (container.attrs["Config"].get("Healthcheck") or {}).get("Test") or [""]
            argv = ["/bin/sh", "-c", *words] if kind == "CMD-SHELL" else words
            if not argv or not self.exec(service, argv, index=index, timeout_s=15).ok:
                return False
        return True

    def up(
        self,
        *,
        only: Sequence[str] = (),
        scale: Mapping[str, int] | None = None,
        wait_s: float = 300,
        build: bool = True,
    ) -> bool:
        """Boot what is not up, and return whether anything had to be done.

        Args:
            only: These services and what they depend on; default all.
            scale: Containers of a service; default what the last `up` was asked for.
            wait_s: Longest wait for all to be healthy, images not counted.
            build: Bring the images up to date first.

        Raises:
            UsageError: An unknown service.
            TestbedError: What stood in the way, or which service failed and why.
        """
        from testbed import boot

        return boot.up(self, only=tuple(only), scale=scale or {}, wait_s=wait_s, build=build)

    def down(self, *, volumes: bool = False) -> None:
        """End it, whatever state it is in; with `volumes` forget all that it kept."""
        from testbed import teardown

        teardown.down(self, volumes=volumes)

    @property
    def front_door_url(self) -> str:
        """Where a browser enters: the port that a running container publishes, else the set one."""
        return self.front_door("hubs")

    def front_door(self, name: str) -> str:
        """The same for each of the front door's names: `hubs`, `help`, `login`, `api`."""
        return self.settings.front_door(name, self.published_port())

    def published_port(self) -> int | None:
        """The host's port of the front door, when it is up."""
        return self.loopback_port("proxy")

    def loopback_port(self, service: str) -> int | None:
        """The port of this machine's loopback at which a service can be reached, if any."""
        for entry in self.summaries().get(service, []):
            for port in entry.get("Ports", []):
                if port.get("PublicPort") and port.get("IP") == "127.0.0.1":
                    return int(port["PublicPort"])
        return None

    @functools.cached_property
    def report_dir(self) -> Path:
        """`reports/<run>/` of this process, made on first use; `reports/latest` links to it."""
        reports = self.settings.reports_dir
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
        folder = reports / f"{stamp}-{self.project}"
        folder.mkdir(parents=True, exist_ok=True)
        latest = reports / "latest"
        fresh = reports / f".latest-{stamp}-{self.project}"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(folder.name)
        fresh.replace(latest)
        return folder


def require_index(index: int | None, count: int, service: str) -> None:
    if index is not None and not 1 <= index <= count:
        raise UsageError(f"{service} has no number {index}", cure=f"1 to {count}")


def _text(data: bytes | None) -> str:
    return (data or b"").decode(errors="replace")
