"""What a hub's process costs: CPU time, with that of the commands it ran, and memory."""

import json
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
    done = bed.exec(service, ["python3", "-I", "-c", _READ], user="root")
    lines = done.stdout.splitlines()
    if not done.ok or len(lines) != 1:
        raise TestbedError(
            f"{service}: {len(lines)} hub processes, one is wanted",
            seen=done.stderr.strip()[-500:],
            cure=bed.command("logs", service),
        )
    return HubCost(**json.loads(lines[0]))
