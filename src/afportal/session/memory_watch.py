"""How much memory this job has used, and whether the kernel ended something in it for want of it.

On control groups of version 1 only the biggest process is ended, usually a notebook's
kernel: the server lives on, and nothing but a counter says what happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

# Reads of counters in memory; the kernel announces their changes to root only.
PERIOD_S = 1.0


@dataclass(frozen=True)
class Group:
    """A control group.

    Source: the kernel's admin-guide, cgroup-v1/memory (memory.oom_control, memory.stat) and
    cgroup-v2 (memory.events.local: the kills of this group, not of those below it).

    Args:
        folder: where its files are.
        version: 1 or 2.
        own: it is not a whole machine's, container's or service's.
    """

    folder: Path
    version: int
    own: bool

    def kills(self) -> int:
        """Return how many processes were ended in this group so far."""
        name = "memory.oom_control" if self.version == 1 else "memory.events.local"
        return self._counts(name).get("oom_kill", 0)

    def used_mib(self) -> int:
        """Return what its processes have in memory now, MiB; files that are only cached do not
        count."""
        names = ("total_rss", "total_shmem") if self.version == 1 else ("anon", "shmem")
        counts = self._counts("memory.stat")
        return sum(counts.get(name, 0) for name in names) >> 20

    def _counts(self, name: str) -> dict[str, int]:
        lines = (self.folder / name).read_text().splitlines()
        return {key: int(value) for key, value in (line.split() for line in lines)}


def group_of(
    membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> Group | None:
    """Return this process's own control group for memory, if it is to be seen."""
    for line in membership.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            found = Group(root / "memory" / path.lstrip("/"), 1, _jobs_own(path))
            file = found.folder / "memory.oom_control"
        elif not controllers:
            found = Group(root / path.lstrip("/"), 2, _jobs_own(path))
            file = found.folder / "memory.events.local"
        else:
            continue
        if file.is_file():
            return found
    return None


def _jobs_own(path: str) -> bool:
    """Tell whether this is likely one job's group: daemons without such have systemd's."""
    return path != "/" and not path.endswith(".service")


async def watch(
    group: Group,
    *,
    killed: Callable[[int], Awaitable[None]],
    used: Callable[[int], None],
    period_s: float = PERIOD_S,
) -> None:
    """Look for ever.

    Args:
        killed: called with the number of kills so far whenever it has risen.
        used: called with the memory in use, MiB, at each look; not where others have a part in it.

    Raises:
        OSError: the counters cannot be read.
    """
    known = group.kills()
    while True:
        await asyncio.sleep(period_s)
        if group.own:
            used(group.used_mib())
        now = group.kills()
        if now > known:
            known = now
            await killed(now)
