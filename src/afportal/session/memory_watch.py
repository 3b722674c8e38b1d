"""Notices when the kernel ended something in this job because its memory was used up.

On control groups of version 1 only the biggest process is ended, usually a notebook's
kernel: the server lives on, and nothing but a counter says what happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

# A read of a counter in memory; the kernel announces its changes to root only.
PERIOD_S = 1.0


def oom_counter(
    membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> Path | None:
    """Return the file that counts the kills in this process's own control group, if it has one.

    Source: the kernel's admin-guide, cgroup-v1/memory (memory.oom_control) and cgroup-v2
    (memory.events.local: the kills of this group, not of those below it).
    """
    for line in membership.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            file = root / "memory" / path.lstrip("/") / "memory.oom_control"
        elif not controllers:
            file = root / path.lstrip("/") / "memory.events.local"
        else:
            continue
        if file.is_file():
            return file
    return None


def kills(counter: Path) -> int:
    """Return how many processes were ended in this control group so far."""
    counts = dict(line.split() for line in counter.read_text().splitlines())
    return int(counts.get("oom_kill", 0))


async def each_kill(counter: Path, period_s: float = PERIOD_S) -> AsyncIterator[int]:
    """Yield the number of kills so far whenever it has risen."""
    known = kills(counter)
    while True:
        await asyncio.sleep(period_s)
        now = kills(counter)
        if now > known:
            known = now
            yield now
