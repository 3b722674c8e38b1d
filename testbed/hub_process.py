"""What a hub's process costs: CPU time, with that of the commands it ran, and memory."""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from testbed.bed import Bed
from testbed.errors import TestbedError

# Source: proc_pid_stat(5), fields 14 to 17 (utime, stime, and those of children waited for) and
# 24 (rss). Runs in the hub's container, whose kernel gives a tick's and a page's size.
_READ = """
import glob, json, os
for folder in glob.glob("/proc/[0-9]*"):
    try:
        argv = open(folder + "/cmdline").read().split("\\0")
        stat = open(folder + "/stat").read().rpartition(")")[2].split()
    except OSError:
        continue
    if any(word.endswith("/jupyterhub") for word in argv[:3]):
        print(json.dumps({
            "pid": int(folder.rpartition("/")[2]),
            "cpu_s": sum(map(int, stat[11:15])) / os.sysconf("SC_CLK_TCK"),
            "memory_mib": int(stat[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20,
        }))
"""


@dataclass(frozen=True)
class HubCost:
    """A hub process at a moment.

    Args:
        cpu_s: since it started, with all ended processes that it waited for.
        memory_mib: resident.
    """

    pid: int
    cpu_s: float
    memory_mib: float


def read(bed: Bed, service: str) -> HubCost:
    """The cost of the hub in a service's container so far.

    Raises:
        TestbedError: No such process, or more than one.
    """
    done = bed.exec(service, ["/opt/hub/bin/python", "-I", "-c", _READ], user="root")
    lines = done.stdout.splitlines()
    if not done.ok or len(lines) != 1:
        raise TestbedError(
            f"{service}: {len(lines)} hub processes, one is wanted",
            seen=done.stderr.strip()[-500:],
            cure=bed.command("logs", service),
        )
    return HubCost(**json.loads(lines[0]))


@dataclass(frozen=True)
class Meter:
    """What is read of one hub.

    Args:
        service: its compose service.
        asked: its queries to each scheduler so far.
    """

    bed: Bed
    service: str
    asked: Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class Window:
    """What one hub used in a window of time.

    Args:
        memory_mib: at its end.
        queries: to each scheduler.
    """

    window_s: float
    cpu_s: float
    memory_mib: float
    queries: dict[str, float]


def together(windows: Sequence[Window]) -> Window:
    """What several hubs used in windows beside each other, as if they were one."""
    names = {name for window in windows for name in window.queries}
    return Window(
        window_s=windows[0].window_s,
        cpu_s=round(sum(window.cpu_s for window in windows), 2),
        memory_mib=round(sum(window.memory_mib for window in windows), 1),
        queries={n: sum(window.queries.get(n, 0.0) for window in windows) for n in sorted(names)},
    )


def watch(meters: Sequence[Meter], window_s: float) -> list[Window]:
    """Watch hubs beside each other while time goes by.

    Each is read in the same order at both ends, so that what reading costs is in no window.

    Raises:
        TestbedError: A hub is gone, or was restarted meanwhile.
    """

    def look() -> list[tuple[HubCost, Mapping[str, float], float]]:
        return [(read(m.bed, m.service), m.asked(), time.monotonic()) for m in meters]

    before = look()
    threading.Event().wait(window_s)
    found = []
    for meter, (cost, asked, began), (cost_now, asked_now, now) in zip(
        meters, before, look(), strict=True
    ):
        if cost.pid != cost_now.pid:
            raise TestbedError(
                f"{meter.service}: its hub was restarted while it was measured",
                seen=f"process {cost.pid}, then {cost_now.pid}",
                cure=meter.bed.command("logs", meter.service),
            )
        found.append(
            Window(
                window_s=round(now - began, 2),
                cpu_s=round(cost_now.cpu_s - cost.cpu_s, 2),
                memory_mib=round(cost_now.memory_mib, 1),
                queries={name: asked_now[name] - asked[name] for name in asked},
            )
        )
    return found
