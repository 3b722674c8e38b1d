"""What a waiting person is told of the queue, and when they are told nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from afportal.pool.forecast import Forecast
from afportal.queue_place import tell_place
from afportal.spawn_story import SpawnStory

LATER = Forecast("later", 1_795_321_600.0, ahead=3)


class Looks:
    """A pool watch whose answers are given, one a look; tells when all were taken."""

    def __init__(self, answers: Iterator[Forecast | None]) -> None:
        self.answers = answers
        self.over = asyncio.Event()

    async def look(self) -> Any:
        try:
            found = next(self.answers)
        except StopIteration:
            self.over.set()
            return None
        return SimpleNamespace(queued=lambda _job: found)


def told(answers: list[Forecast | None], reason: str | None) -> list[dict[str, Any]]:
    async def main() -> list[dict[str, Any]]:
        story = SpawnStory()
        looks = Looks(iter(answers))
        task = asyncio.create_task(
            tell_place(
                story,
                looks,
                "7",
                lambda: reason,
                first_after_s=0,
                every_s=0,  # type: ignore[arg-type]
            )
        )
        if reason is None:  # nobody is asked then
            await asyncio.sleep(0.02)
        else:
            async with asyncio.timeout(5):
                await looks.over.wait()
        task.cancel()
        story.tell("the end", 99)
        found = []
        async for event in story.events():
            if event["progress"] == 99:
                return found
            found.append(event)
        return found

    return asyncio.run(main())


def test_a_place_is_told_when_it_has_changed() -> None:
    """In words and figures; the same twice is told once."""
    events = told([None, LATER, LATER, Forecast("full", ahead=1)], "Resources")
    assert [(e["ahead"], e["expected_at"]) for e in events] == [(3, LATER.at_s), (1, None)]
    assert events[0]["message"].startswith("Waiting in the queue (Resources): about ")
    assert "3 waiting before you" in events[0]["message"]


def test_who_does_not_wait_is_told_nothing() -> None:
    """A job that runs has no place, and no scheduler is asked for it."""
    assert told([LATER], None) == []
