"""A job's memory is its own control group's, and nobody else's."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from afportal.session import memory_watch
from afportal.session.memory_watch import Group

V1_LINES = "12:memory:/docker/abc/htcondor/slot1\n4:cpu,cpuacct:/docker/abc\n0::/\n"
MIB = 1 << 20


def lay_out(tmp_path: Path, lines: str, counter: str) -> tuple[Path, Path, Path]:
    """Lay out a control group tree; returns membership file, root and counter."""
    membership, root = tmp_path / "cgroup", tmp_path / "sys"
    membership.write_text(lines)
    file = root / counter
    file.parent.mkdir(parents=True)
    file.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    return membership, root, file


@pytest.mark.parametrize(
    ("lines", "counter", "stat"),
    [
        (
            V1_LINES,
            "memory/docker/abc/htcondor/slot1/memory.oom_control",
            f"cache {900 * MIB}\nrss 1\ntotal_rss {70 * MIB}\ntotal_shmem {30 * MIB}\n",
        ),
        (
            "0::/system.slice/job_7\n",
            "system.slice/job_7/memory.events.local",
            f"anon {70 * MIB}\nfile {900 * MIB}\nshmem {30 * MIB}\n",
        ),
    ],
)
def test_own_group_is_found(tmp_path: Path, lines: str, counter: str, stat: str) -> None:
    """Versions 1 and 2 keep counts in different places; cached files are nobody's memory."""
    membership, root, file = lay_out(tmp_path, lines, counter)
    (file.parent / "memory.stat").write_text(stat)
    group = memory_watch.group_of(membership, root)
    assert group is not None
    assert (group.folder, group.own) == (file.parent, True)
    assert (group.kills(), group.used_mib()) == (2, 100)


def test_another_groups_count_is_not_ours(tmp_path: Path) -> None:
    """Where the own group is not to be seen, nothing is read from those above it."""
    membership, root, _ = lay_out(tmp_path, V1_LINES, "memory/docker/memory.oom_control")
    assert memory_watch.group_of(membership, root) is None


@pytest.mark.parametrize(
    ("path", "counter"),
    [
        ("/", "memory/memory.oom_control"),
        ("/system.slice/agent.service", "memory/system.slice/agent.service/memory.oom_control"),
    ],
)
def test_a_whole_machine_is_no_job(tmp_path: Path, path: str, counter: str) -> None:
    """What everybody on a login node uses is not told as this session's."""
    membership, root, _ = lay_out(tmp_path, f"4:memory:{path}\n", counter)
    group = memory_watch.group_of(membership, root)
    assert group is not None
    assert not group.own


def test_only_a_rise_is_told(tmp_path: Path) -> None:
    """What was counted before the server started is not its own."""
    _, _, file = lay_out(tmp_path, V1_LINES, "memory/x/memory.oom_control")
    (file.parent / "memory.stat").write_text(f"total_rss {5 * MIB}\n")
    kills: list[int] = []
    used: list[int] = []

    async def main() -> None:
        told, looked = asyncio.Event(), asyncio.Semaphore(0)

        def use(mib: int) -> None:
            used.append(mib)
            looked.release()

        async def killed(times: int) -> None:
            kills.append(times)
            told.set()

        group = Group(file.parent, 1, own=True)
        watch = asyncio.create_task(
            memory_watch.watch(group, killed=killed, used=use, period_s=0.001)
        )
        for _ in range(5):
            await looked.acquire()
        assert kills == []
        file.write_text("oom_kill 3\n")
        await asyncio.wait_for(told.wait(), 5)
        watch.cancel()

    asyncio.run(main())
    assert kills == [3]
    assert set(used) == {5}
