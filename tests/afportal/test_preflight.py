"""What can be seen before a submit: room in the home, quotas, the environment."""

from __future__ import annotations

import asyncio
import os
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from afportal import home_check, preflight
from afportal.preflight import Preflight, data_problems, told
from afportal.signed_client import ServiceError
from afportal.submits import Submits

NOW = 1_795_321_600.0
# As quota(1) of quota-tools 4 prints with the options that are used.
HEAD = """Disk quotas for user alice (uid 20001):
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
"""


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ("/home 1024 2048 4096 0 10 0 0 0", []),
        ("/home 4096* 2048 4096 1795999999 10 0 0 0", ["4096 of 4096 KiB on /home"]),
        ("/home 3000* 2048 4096 1795999999 10 0 0 0", []),
        (
            "/home 3000* 2048 4096 1795000000 10 0 0 0",
            ["3000 KiB on /home, over 2048 for too long"],
        ),
        ("/home 9 0 0 0 50* 40 50 1795999999", ["50 of 50 files on /home"]),
        ("/scratch 5* 4 5 0 1 0 0 0\n/home 1 4 5 0 1 0 0 0", []),
    ],
)
def test_a_quota_that_lets_nothing_be_written(rows: str, found: list[str]) -> None:
    """At the hard limit, or above the soft one when the grace is over; the home's alone."""
    assert list(home_check.exhausted(f"{HEAD}{rows}\n", "/home", NOW)) == found


def test_no_quota_is_none() -> None:
    """Neither where none is set nor where the answer is something else."""
    for text in ("", "Disk quotas for user alice (uid 20001): none\n", "quota: error\n", HEAD):
        assert home_check.exhausted(text, "/home", NOW) == ()


def test_a_home_is_looked_at(tmp_path: Path) -> None:
    """Room by the filesystem's own count; what is missing by its path."""
    program = tmp_path / "python"
    program.write_text("#!/bin/true")
    program.chmod(0o755)
    gone = str(tmp_path / "gone")
    seen = home_check.look("nobody", str(tmp_path), (str(program), gone))
    assert (seen.there, seen.missing, seen.quota) == (True, (gone,), ())
    room = os.statvfs(tmp_path)
    assert seen.free_mib is not None
    assert abs(seen.free_mib - (room.f_bavail * room.f_frsize >> 20)) < 1024
    assert not home_check.look("nobody", gone).there


@pytest.mark.parametrize("error", [PermissionError, TimeoutError])
def test_what_cannot_be_looked_at_is_not_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    """Root may see less of a network's filesystem than its owner: the job shows it."""

    def refuse(*_: object, **__: object) -> None:
        raise error("no")

    monkeypatch.setattr(Path, "stat", refuse)
    monkeypatch.setattr(os, "statvfs", refuse)
    seen = home_check.look("nobody", str(tmp_path), ("/opt/x/bin/python",))
    assert (seen.there, seen.free_mib, seen.missing) == (True, None, ())
    assert told(seen.as_dict(), 10) == []


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
        ({"free_mib": None, "free_files": None}, []),
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
        asks = Preflight(agent, least_free_mib=10, programs=programs)  # type: ignore[arg-type]
        return asyncio.run(asks.problems("alice", "/opt/x/bin/python"))

    assert problems(Agent(ServiceError("no answer"))) == []
    full = Agent({**HOME, "free_mib": 0})
    assert len(problems(full)) == 1
    asked = ["/opt/x/bin/python"] if programs else []
    assert full.asked == [("POST", "/homes", {"person": "alice", "programs": asked})]


def test_nobody_waits_twice_for_an_agent_that_is_away() -> None:
    """Another spawn in the next minute asks nobody; a refusal of the agent's is an answer."""
    agent = Agent(ServiceError("no answer"))
    preflight = Preflight(agent, least_free_mib=10, programs=False)  # type: ignore[arg-type]
    for _ in range(3):
        assert asyncio.run(preflight.problems("alice", "")) == []
    assert len(agent.asked) == 1
    refusing = Agent(ServiceError("no person", 403))
    preflight = Preflight(refusing, least_free_mib=10, programs=False)  # type: ignore[arg-type]
    for _ in range(3):
        assert asyncio.run(preflight.problems("alice", "")) == []
    assert len(refusing.asked) == 3


class EndingTokens:
    """Tokens that are renewed no more after so many minutes; None: for ever."""

    def __init__(self, left_min: float | None) -> None:
        self.left_min = left_min

    async def last_end_s(self, _: str, until_s: float) -> float | None:
        if self.left_min is None:
            return None
        ends_s = time.time() + 60 * self.left_min
        return ends_s if ends_s < until_s else None


@pytest.mark.parametrize(
    ("left_min", "told", "cure"),
    [
        (None, "", ""),
        (481.0, "", ""),
        (120.5, "480 runtime_min asked; your data token ends in 120 min, ", "at most 120 runtime"),
        (-3.0, "480 runtime_min asked; your data token ends in 0 min, ", "log out and in again"),
    ],
)
def test_data_that_ends_before_the_server_is_told(
    left_min: float | None, told: str, cure: str
) -> None:
    """Request, limit and cure; no shorter time is proposed where none is left."""
    data: Any = EndingTokens(left_min)
    found = asyncio.run(data_problems(data, "alice", 480))
    assert bool(found) == bool(told)
    for words in found:
        assert words.startswith(told)
        assert cure in words
        assert "data-token" in words
        assert ("or ask for" in words) == (left_min is not None and left_min > 1)


def test_nobody_waits_long_for_a_provider_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is refused in its name, and its answer is taken when it comes."""
    monkeypatch.setattr(preflight, "ANSWER_TIMEOUT_S", 0.05)

    class HangingProvider:
        def __init__(self) -> None:
            self.goes_on = asyncio.Event()
            self.taken = asyncio.Event()

        async def last_end_s(self, *_: object) -> None:
            await self.goes_on.wait()
            self.taken.set()

    async def go() -> list[str]:
        data: Any = HangingProvider()
        found = await data_problems(data, "alice", 480)
        data.goes_on.set()
        async with asyncio.timeout(5):
            await data.taken.wait()
        return found

    assert asyncio.run(go()) == []


@pytest.mark.parametrize("stand_in", [False, True])
def test_nothing_is_submitted_for_a_life_that_is_too_short(*, stand_in: bool) -> None:
    """The refusal has the home's words and the token's; a stand-in needs neither."""

    class Spawner(Submits):
        user = SimpleNamespace(name="alice")

    agent: Any = Agent({**HOME, "free_mib": 0})
    spawner = Spawner()
    spawner.portal = SimpleNamespace(  # type: ignore[assignment]
        preflight=Preflight(agent, least_free_mib=10, programs=False),
        credentials=SimpleNamespace(data=EndingTokens(60)),
    )
    environment = SimpleNamespace(stand_in=stand_in, own=False, path="/opt/x/bin/python")
    grant: Any = SimpleNamespace(environment=environment, runtime_min=480)
    found = asyncio.run(spawner.look_ahead(grant))
    if stand_in:
        assert found == []
    else:
        assert re.search(r"your home .* full.*; 480 runtime_min", "; ".join(found))
