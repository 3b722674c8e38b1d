"""What goes wrong with a map, in words for the person."""

from __future__ import annotations

from afportal.jobs.errors import JobsError


class TagTaken(JobsError):
    """There is a map of this tag."""


class NoSuchMap(JobsError):
    """There is no map of this tag."""


class NotPicklable(JobsError):
    """A function or an input cannot be sent to a worker."""


class NoRoom(JobsError):
    """The home cannot take what a map keeps there."""


class NotSubmitted(JobsError):
    """The map is kept, and jobs of it are not at the scheduler; `rerun()` sends them."""


class CallFailed(JobsError):
    """A call raised, or its job ended without a result.

    Args:
        call: its number, from 0.
    """

    def __init__(self, message: str, call: int) -> None:
        super().__init__(message)
        self.call = call
