"""The container engine: find it, or as root on Debian install and start it, saying so."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from testbed import apt
from testbed.errors import TestbedError
from testbed.settings import Settings
from testbed.waiting import wait_until

if TYPE_CHECKING:
    from docker import DockerClient

Say = Callable[[str], None]

DEFAULT_HOST = "unix:///var/run/docker.sock"
DAEMON_LOG = Path("/var/log/af-testbed-dockerd.log")
PID_FILES = {
    Path("/var/run/docker.pid"): "dockerd",
    Path("/var/run/docker/containerd/containerd.pid"): "containerd",
}
OLDEST_COMPOSE = (2, 20)
OLDEST_API = (1, 44)  # start_interval of healthchecks
BY_HAND = (
    "install Docker Engine 25 or newer with its compose plugin (2.20 or newer) and buildx plugin "
    "(Docker Desktop has all three; Debian 13: docker.io docker-cli docker-compose docker-buildx; "
    "Ubuntu: docker.io docker-compose-v2 docker-buildx), start it, and see that `docker version` "
    "answers for this user"
)


@dataclass(frozen=True)
class Tools:
    """What the command line brings; None where it is missing."""

    client: str | None
    compose: tuple[int, ...] | None
    buildx: tuple[int, ...] | None

    @property
    def complete(self) -> bool:
        return bool(self.client and self.buildx and (self.compose or (0,)) >= OLDEST_COMPOSE)

    def lacking(self) -> str:
        if not self.client:
            return "no docker command on PATH"
        lacks = []
        if not self.compose:
            lacks.append("no compose plugin")
        elif self.compose < OLDEST_COMPOSE:
            lacks.append(f"compose {dotted(self.compose)} is older than {dotted(OLDEST_COMPOSE)}")
        if not self.buildx:
            lacks.append("no buildx plugin")
        return ", ".join(lacks)


def host(settings: Settings) -> str:
    """The engine's address as the docker command would choose it: environment, context, default."""
    if settings.docker_host:
        return settings.docker_host
    context = current_context(settings)
    if context != "default":
        done = _run(["docker", "context", "inspect", context])
        if done.returncode == 0:
            address: str = json.loads(done.stdout)[0]["Endpoints"]["docker"]["Host"]
            return address
    return DEFAULT_HOST


def current_context(settings: Settings) -> str:
    """The docker context in use; 'default' unless somebody chose another."""
    if settings.docker_host:
        return "default"
    chosen = settings.environ.get("DOCKER_CONTEXT")
    if chosen:
        return chosen
    try:
        configured = json.loads(settings.docker_config.read_text())
    except (OSError, ValueError):
        return "default"
    return str(configured.get("currentContext") or "default")


def answers(settings: Settings) -> bool:
    """True when an engine answers now."""
    try:
        connect(settings).close()
    except TestbedError:
        return False
    return True


def connect(settings: Settings) -> "DockerClient":
    """A client of the running engine.

    Raises:
        TestbedError: None answers, or it is too old.
    """
    import docker
    import docker.errors
    import requests.exceptions

    address = host(settings)
    try:
        client = docker.DockerClient(base_url=address, timeout=120)
        api_version = client.api.version()["ApiVersion"]
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as error:
        raise TestbedError(
            f"no container engine answers at {address}",
            seen=_root_cause(error),
            cure=_cure_for_silence(address, error),
        ) from error
    if version_tuple(api_version) < OLDEST_API:
        raise TestbedError(
            f"the container engine is too old: API {api_version}, {dotted(OLDEST_API)} is needed",
            cure=BY_HAND,
        )
    return client


def tools() -> Tools:
    """Which docker command and plugins there are."""
    client = shutil.which("docker")
    if not client:
        return Tools(None, None, None)
    return Tools(
        client,
        _plugin_version(["docker", "compose", "version", "--short"]),
        _plugin_version(["docker", "buildx", "version"]),
    )


def ensure(settings: Settings, say: Say) -> None:
    """See that an engine runs and the plugins are there; install and start what is missing.

    Raises:
        TestbedError: It cannot be done here, with what to do by hand.
    """
    running = answers(settings)
    found = tools()
    if running and found.complete:
        return
    lacking = "no engine answers at " + host(settings) if not running else found.lacking()
    remote = bool(settings.docker_host) or current_context(settings) != "default"
    if not running and remote:
        raise TestbedError(
            f"no container engine answers at {host(settings)}",
            seen="that address comes from DOCKER_HOST or the docker context in use",
            cure="start that engine, or unset DOCKER_HOST and `docker context use default`",
        )
    if not found.complete or not shutil.which("dockerd"):
        if not (apt.is_debian() and os.geteuid() == 0):
            raise TestbedError("the container engine is not ready", seen=lacking, cure=BY_HAND)
        say(f"{lacking or 'no engine installed'}: installing Debian's packages")
        install(say, engine_too=not running)
    if not running:
        start(say)
    if not (found := tools()).complete:
        raise TestbedError(
            "the docker plugins are still not found", seen=found.lacking(), cure=BY_HAND
        )
    connect(settings).close()


def install(say: Say, *, engine_too: bool) -> None:
    """Debian's own packages of engine, compose and buildx, from a newer suite where need be."""
    apt.update(say)
    compose = apt.candidate("docker-compose")
    if not (compose and version_tuple(compose) >= OLDEST_COMPOSE):
        say(f"this Debian's docker-compose is {compose or 'missing'}: taking {apt.NEWER_SUITE}'s")
        apt.add_newer_suite(say)
        apt.update(say)
    plugins = [name for name in apt.NEWER_PACKAGES if name != "docker.io"]
    apt.install(["docker.io", *plugins, "iptables"] if engine_too else plugins, say)


def start(say: Say, extra: Sequence[str] = (), log: Path = DAEMON_LOG) -> int | None:
    """Start the engine and wait until it answers.

    Args:
        extra: Further arguments of dockerd, for an engine beside the machine's own.

    Returns:
        The process id where this started dockerd itself, None where an init system did.

    Raises:
        TestbedError: It ended or stayed silent; the message has the end of its log.
    """
    if Path("/run/systemd/system").is_dir() and not extra:
        say("systemctl start docker")
        done = _run(["systemctl", "start", "docker"])
        if done.returncode != 0:
            raise TestbedError(
                "systemd could not start docker",
                seen=done.stderr.strip(),
                cure="journalctl -u docker -n 50",
            )
        wait_until(lambda: _socket_answers(DEFAULT_HOST), 60, what="the container engine")
        return None
    if not extra:
        drop_stale_pid_files(PID_FILES, say)
    say(f"starting dockerd (no init system runs here); its log: {log}")
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["dockerd", *extra],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
        )
    address = next((a.partition("=")[2] for a in extra if a.startswith("--host=")), DEFAULT_HOST)

    def up() -> bool:
        if process.poll() is not None:
            raise TestbedError(
                f"dockerd ended with {process.returncode} as it started",
                seen=last_lines(log),
                cure=f"read {log}; a container may lack the rights to run an engine (--privileged)",
            )
        return _socket_answers(address)

    wait_until(
        up,
        60,
        what="dockerd answering",
        hint=f"read {log}",
        last_seen=lambda: "silence; its log ends:\n" + last_lines(log),
    )
    return process.pid


def drop_stale_pid_files(files: Mapping[Path, str], say: Say) -> None:
    """Remove pid files whose process is gone, or is by now another program.

    dockerd takes any process of that number for itself and gives up, as happens where a
    machine was restarted with its files kept.

    Args:
        files: Pid file → name of the program that should be behind it.
    """
    for file, program in files.items():
        try:
            pid = int(file.read_text())
            name = Path(f"/proc/{pid}/comm").read_text().strip()
        except FileNotFoundError:
            name = ""
        except ValueError:
            name = "not a number"
        if file.is_file() and name != program:
            say(f"removing {file}, left by a {program} that is gone")
            file.unlink()


def last_lines(file: Path, count: int = 12) -> str:
    try:
        return "\n".join(file.read_text(errors="replace").splitlines()[-count:])
    except OSError as error:
        return f"(no log: {error})"


def version_tuple(text: str) -> tuple[int, ...]:
    """(2, 26, 1) from 'v2.26.1', '2.26.1-4' or 'github.com/docker/buildx 0.13.1+ds1'."""
    found = re.search(r"(?:^|[\sv:])(\d+(?:\.\d+)+)", text)
    return tuple(int(part) for part in found[1].split(".")) if found else (0,)


def dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def _socket_answers(address: str) -> bool:
    import docker
    import docker.errors
    import requests.exceptions

    try:
        client = docker.DockerClient(base_url=address, timeout=5)
        client.close()
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError):
        return False
    return True


def _plugin_version(argv: list[str]) -> tuple[int, ...] | None:
    done = _run(argv)
    version = version_tuple(done.stdout)
    return version if done.returncode == 0 and version > (0,) else None


def _run(argv: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def _root_cause(error: BaseException) -> str:
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return f"{type(error).__name__}: {error}"


def _cure_for_silence(address: str, error: BaseException) -> str:
    if "Permission denied" in f"{error} {_root_cause(error)}":
        return "add this user to the group docker and log in again, or use sudo"
    if address == DEFAULT_HOST:
        return "testbed up (as root on Debian it installs and starts the engine), or testbed doctor"
    return f"start the engine behind {address}, or unset DOCKER_HOST"
