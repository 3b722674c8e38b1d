"""Kills for want of memory are counted in the job's own control group, and nowhere else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from afportal.session import memory_watch

V1_LINES = "12:memory:/docker/abc/htcondor/slot1\n4:cpu,cpuacct:/docker/abc\n0::/\n"


def group(tmp_path: Path, lines: str, counter: str) -> tuple[Path, Path, Path]:
    """Lay out a control group tree; returns membership file, root and counter."""
    membership, root = tmp_path / "cgroup", tmp_path / "sys"
    membership.write_text(lines)
    file = root / counter
    file.parent.mkdir(parents=True)
    file.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    return membership, root, file


@pytest.mark.parametrize(
    ("lines", "counter"),
    [
        (V1_LINES, "memory/docker/abc/htcondor/slot1/memory.oom_control"),
        ("0::/system.slice/job_7\n", "system.slice/job_7/memory.events.local"),
    ],
)
def test_own_group_is_found(tmp_path: Path, lines: str, counter: str) -> None:
    """Versions 1 and 2 keep the count in different places."""
    membership, root, file = group(tmp_path, lines, counter)
    assert memory_watch.oom_counter(membership, root) == file
    assert memory_watch.kills(file) == 2


def test_another_groups_count_is_not_ours(tmp_path: Path) -> None:
    """Where the own group is not to be seen, nothing is read from those above it."""
    membership, root, _ = group(tmp_path, V1_LINES, "memory/docker/memory.oom_control")
    assert memory_watch.oom_counter(membership, root) is None


def test_only_a_rise_is_told(tmp_path: Path) -> None:
    """What was counted before the server started is not its own."""
    _, _, file = group(tmp_path, V1_LINES, "memory/x/memory.oom_control")

    async def first() -> int:
        watch = memory_watch.each_kill(file, period_s=0.001)
        asking = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0.02)
        assert not asking.done()
        file.write_text("oom_kill 3\n")
        return await asyncio.wait_for(asking, 5)

    assert asyncio.run(first()) == 3
