"""A job's place in the queue, told while it waits: how many are before it, when it would start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from afportal import form
from afportal.pool.watch import FRESH_S, PoolWatch
from afportal.spawn_story import SpawnStory

# Most jobs have started by then, and none of their schedulers was asked.
FIRST_AFTER_S = 3.0


async def tell_place(
    story: SpawnStory,
    watch: PoolWatch,
    job_id: str,
    waits: Callable[[], str | None],
    *,
    first_after_s: float = FIRST_AFTER_S,
    every_s: float = FRESH_S,
) -> None:
    """Tell the place in the queue whenever it has changed, for ever.

    Args:
        waits: returns the scheduler's reason for the wait, which may be empty; None while the job
            is not waiting.
        every_s: pause between two looks; a `PoolWatch` asks no more often.
    """
    told = ""
    pause_s = first_after_s
    while True:
        await asyncio.sleep(pause_s)
        outlook = await watch.look() if waits() is not None else None
        found = outlook.queued(job_id) if outlook is not None else None
        # Not found yet: the newest answer may be from before the submit.
        pause_s = every_s if found is not None else first_after_s
        reason = waits()
        if found is None or reason is None:
            continue
        words = f"Waiting in the queue{f' ({reason})' if reason else ''}: {form.words(found)}"
        if words != told:
            told = words
            story.tell(words, 25, reason=reason, ahead=found.ahead, expected_at=found.at_s)
