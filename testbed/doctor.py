"""Is this machine fit for a testbed? Each problem with its cure."""

import os
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from testbed import apt, chromium, engine
from testbed.bed import PROJECT_LABEL, Bed
from testbed.errors import ExplainedError, TestbedError

ROOM_TO_RUN_MIB = 2048  # disk that a day's logs and homes take, images built
MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True)
class Check:
    """One thing looked at. A check that is not `ok` has a cure."""

    name: str
    ok: bool
    seen: str
    cure: str = ""


def examine(bed: Bed) -> list[Check]:
    """Look at everything that `testbed up` stands on; asks nothing of the network."""
    checks = [python(), engine_answers(bed)]
    if checks[-1].ok:
        checks += [plugins(), cgroup(bed), memory(bed), disk(bed, bed.settings.min_disk_mib),
                   port(bed)]  # fmt: skip
    return [*checks, ca_bundle(bed), browser()]


def require_room(bed: Bed, *, building: bool, whole: bool) -> None:
    """Raise for all that stands in the way of a boot, before anything is touched.

    Args:
        building: Images are to be built, which takes disk.
        whole: All services are wanted, which takes the full memory.

    Raises:
        TestbedError: Memory, disk or the port, with cures.
    """
    checks = [
        disk(bed, bed.settings.min_disk_mib if building else ROOM_TO_RUN_MIB),
        port(bed),
    ]
    if whole and not bed.summaries():
        checks.append(memory(bed))
    bad = [check for check in checks if not check.ok]
    if bad:
        raise TestbedError(
            "; ".join(f"{check.name}: {check.seen}" for check in bad),
            cure="; ".join(check.cure for check in bad),
        )


def python() -> Check:
    version = sys.version.split()[0]
    return Check("python", sys.version_info >= (3, 11), version, "Python 3.11 or newer")


def engine_answers(bed: Bed) -> Check:
    try:
        version = bed.client.version()
    except ExplainedError as error:
        return Check("engine", False, f"{error.what}: {error.seen}", error.cure)
    return Check(
        "engine", True, f"{version['Version']} (API {version['ApiVersion']}) at "
        f"{engine.host(bed.settings)}",
    )  # fmt: skip


def plugins() -> Check:
    tools = engine.tools()
    if not tools.complete:
        return Check("plugins", False, tools.lacking(), engine.BY_HAND)
    compose, buildx = engine.dotted(tools.compose or ()), engine.dotted(tools.buildx or ())
    return Check("plugins", True, f"compose {compose}, buildx {buildx}")


def cgroup(bed: Bed) -> Check:
    info = bed.client.info()
    version = str(info["CgroupVersion"])
    limited = bool(info.get("MemoryLimit"))
    return Check(
        "cgroup",
        limited,
        f"version {version}" + ("" if limited else ", but no memory controller"),
        "boot Linux with the memory cgroup controller (cgroup_enable=memory)",
    )


def memory(bed: Bed) -> Check:
    """Memory that can be had now, where the engine runs on this machine; else the engine's own."""
    available = available_mib(MEMINFO.read_text()) if MEMINFO.is_file() else None
    total = int(bed.client.info()["MemTotal"]) // 2**20
    have = min(available, total) if available is not None else total
    needed = bed.settings.min_memory_mib
    return Check(
        "memory",
        have >= needed,
        f"{have} MiB available, {needed} MiB needed",
        "end other programs, give the engine's machine more memory, or testbed up --only SERVICE",
    )


def available_mib(meminfo: str) -> int | None:
    """`MemAvailable` of /proc/meminfo in MiB."""
    for line in meminfo.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return None


def disk(bed: Bed, needed_mib: int) -> Check:
    """Free disk where the engine keeps images, or here where its folder cannot be seen."""
    root = Path(str(bed.client.info()["DockerRootDir"]))
    place = root if root.is_dir() else bed.settings.work
    free = shutil.disk_usage(place).free // 2**20
    return Check(
        "disk",
        free >= needed_mib,
        f"{free} MiB free at {place}, {needed_mib} MiB needed",
        "docker builder prune, docker image prune, or make room otherwise",
    )


def port(bed: Bed) -> Check:
    """Whether the front door's port is free, or this testbed's own."""
    wanted = bed.settings.port
    if bed.published_port() == wanted:
        return Check("port", True, f"{wanted} is this testbed's own")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except PermissionError:
            return Check("port", False, f"{wanted} is for root only", "testbed up --port 8444")
        except OSError:
            return Check(
                "port",
                False,
                f"127.0.0.1:{wanted} is taken by {_holder(bed, wanted)}",
                f"testbed up --port {_free_port()} (or AF_PORT), or end what holds it",
            )
    return Check("port", True, f"{wanted} is free")


def ca_bundle(bed: Bed) -> Check:
    bundle = bed.settings.ca_bundle
    return Check("ca bundle", True, str(bundle) if bundle else "none found: certifi's will do")


def browser() -> Check:
    """Whether browser scenarios can run; without it everything else still does."""
    found = chromium.find()
    if found:
        return Check("browser", True, f"{found.version()} at {found.browser}")
    installs = apt.is_debian() and os.geteuid() == 0
    return Check(
        "browser",
        True,
        "no Chromium with its driver: "
        + ("installed when a browser scenario asks for it" if installs else chromium.BY_HAND),
    )


def _holder(bed: Bed, port: int) -> str:
    for entry in bed.client.api.containers():
        if any(published.get("PublicPort") == port for published in entry.get("Ports", [])):
            project = entry["Labels"].get(PROJECT_LABEL)
            name = entry["Names"][0].lstrip("/")
            return f"container {name}" + (f" of project {project}" if project else "")
    return f"another program (ss -ltnp 'sport = :{port}' names it)"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
