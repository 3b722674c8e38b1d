"""Why something could not be shared, or did not arrive: each message says what to do."""

from __future__ import annotations


class NotDone(Exception):
    """A share link could not be made, changed or opened.

    Args:
        status: of HTTP.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class NotShareable(NotDone):
    """It cannot be shared; the message names the request, the limit and the cure."""


class NotArrived(NotDone):
    """It could not be put into the home."""


class HubRefuses(NotDone):
    """The hub says no; the message is its own."""
