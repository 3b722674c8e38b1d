"""What can be seen before a submit: room in the home, quotas, the environment."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from afportal import home_check
from afportal.preflight import Preflight, told
from afportal.signed_client import ServiceError

NOW = 1_795_321_600.0
# As quota(1) of quota-tools 4 prints with --no-wrap --raw-grace.
HEAD = """Disk quotas for user alice (uid 20001): 
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
"""  # noqa: W291


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ("/dev/vdb 1024 2048 4096 0 10 0 0 0", []),
        ("/dev/vdb 4096* 2048 4096 1795999999 10 0 0 0", ["4096 of 4096 KiB on /dev/vdb"]),
        ("/dev/vdb 3000* 2048 4096 1795999999 10 0 0 0", []),
        (
            "/dev/vdb 3000* 2048 4096 1795000000 10 0 0 0",
            ["3000 KiB on /dev/vdb, over 2048 for too long"],
        ),
        ("nfs:/home 9 0 0 0 50* 40 50 1795999999", ["50 of 50 files on nfs:/home"]),
        ("nfs:/a 5* 4 5 0 1 0 0 0\nnfs:/b 1 4 5 0 1 0 0 0", ["5 of 5 KiB on nfs:/a"]),
    ],
)
def test_a_quota_that_lets_nothing_be_written(rows: str, found: list[str]) -> None:
    """At the hard limit, or above the soft one when the grace is over; nothing else."""
    assert list(home_check.exhausted(HEAD + rows + "\n", NOW)) == found


def test_no_quota_is_none() -> None:
    """Neither where none is set nor where the answer is something else."""
    for text in ("", "Disk quotas for user alice (uid 20001): none\n", "quota: error\n", HEAD):
        assert home_check.exhausted(text, NOW) == ()


def test_a_home_is_looked_at(tmp_path: Path) -> None:
    """Room by the filesystem's own count; what is missing by its path."""
    program = tmp_path / "python"
    program.write_text("#!/bin/true")
    program.chmod(0o755)
    gone = str(tmp_path / "gone")
    seen = home_check.look("nobody", str(tmp_path), (str(program), gone))
    assert (seen.there, seen.missing, seen.quota) == (True, (gone,), ())
    room = os.statvfs(tmp_path)
    assert abs(seen.free_mib - (room.f_bavail * room.f_frsize >> 20)) < 1024
    assert not home_check.look("nobody", gone).there


HOME: dict[str, Any] = {
    "home": "/home/alice", "there": True, "free_mib": 900, "free_files": 5, "quota": [],
    "missing": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({}, []),
        ({"there": False}, ["/home/alice is not there"]),
        ({"free_mib": 3}, ["/home/alice is full: 3 MiB free, and a server needs 10 MiB"]),
        ({"free_files": 0}, ["/home/alice is full: no file free"]),
        ({"free_files": None}, []),
        ({"quota": ["5 of 5 KiB on x"], "free_mib": 0}, ["quota of your home is used up: 5 of 5"]),
        ({"missing": ["/opt/x/bin/python"]}, ["/opt/x/bin/python is missing"]),
        ({"free_mib": 0, "missing": ["/x"]}, ["is full", "/x is missing"]),
    ],
)
def test_what_is_wrong_is_told_with_its_cure(seen: dict[str, Any], words: list[str]) -> None:
    """Each problem once, with the limit."""
    found = told({**HOME, **seen}, 10)
    assert len(found) == len(words)
    for message, part in zip(found, words, strict=True):
        assert part in message


class Agent:
    """Answers as its test says."""

    def __init__(self, answer: dict[str, Any] | ServiceError) -> None:
        self.answer = answer
        self.asked: list[Any] = []

    async def call(self, method: str, path: str, body: Any) -> Any:
        self.asked.append((method, path, body))
        if isinstance(self.answer, ServiceError):
            raise self.answer
        return self.answer


@pytest.mark.parametrize("programs", [True, False])
def test_an_agent_that_is_away_refuses_nobody(programs: bool) -> None:
    """What is not known is left to the job; only what was asked for is looked at."""

    def problems(agent: Agent) -> list[str]:
        preflight = Preflight(agent, least_free_mib=10, programs=programs)  # type: ignore[arg-type]
        return asyncio.run(preflight.problems("alice", "/opt/x/bin/python"))

    assert problems(Agent(ServiceError("no answer"))) == []
    full = Agent({**HOME, "free_mib": 0})
    assert len(problems(full)) == 1
    asked = ["/opt/x/bin/python"] if programs else []
    assert full.asked == [("POST", "/homes", {"person": "alice", "programs": asked})]
