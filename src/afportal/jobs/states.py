"""How a job is, in the same words on either scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Of a job, or of a call of a map."""

    UNSUBMITTED = "not submitted"
    IDLE = "idle"
    RUNNING = "running"
    SUSPENDED = "suspended"
    HELD = "held"
    COMPLETED = "completed"
    FAILED = "failed"
    REMOVED = "removed"

    @property
    def ended(self) -> bool:
        """Nothing more comes of it by itself."""
        return self in (State.COMPLETED, State.FAILED, State.REMOVED)

    @property
    def stuck(self) -> bool:
        """Somebody must do something, or nothing more comes of it."""
        return self.ended or self in (State.HELD, State.UNSUBMITTED)


@dataclass(frozen=True)
class JobState:
    """What a scheduler says of a job.

    Args:
        reason: why it waits, is held or failed, in the scheduler's own words.
        node: where it runs or ran.
        exit_code: of a job that ended by itself.
    """

    state: State
    reason: str = ""
    node: str = ""
    exit_code: int | None = None
