"""What a share link is, who used it, and why it may be refused."""

from __future__ import annotations

import re
from dataclasses import dataclass

from afportal.share.bodies import Audience, RanIn, Snapshot

# 192 bits: what stands in a link, and in the address by which a copy is fetched.
KEY_BYTES = 24
KEY = re.compile(r"[A-Za-z0-9_-]{32}")
ID = r"[0-9a-f]{16}"
# What somebody does with a link.
OPENED, LOOKED, REFUSED = "opened", "looked", "refused"


class ShareRefused(ValueError):
    """A link cannot be made, renewed or opened; the message says why and what to do.

    Args:
        status: of HTTP.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class TooManyGuesses(ShareRefused):
    """Somebody tried too many links that are none."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(
            "You tried too many links that do not exist. Whoever sent you one can send it again; "
            f"you can open links again in {wait_s // 60 + 1} minutes.",
            429,
        )
        self.wait_s = wait_s


@dataclass(frozen=True)
class Share:
    """One link as it is now.

    Args:
        cell: instance at which it was made.
        sent_s: when its newest version was sent.
        size: bytes of its newest version.
        kept: its snapshot is still there.
    """

    id: str
    owner: str
    cell: str
    snapshot: Snapshot
    audience: Audience
    ran_in: RanIn
    lifetime_min: int
    made_s: float
    sent_s: float
    expires_s: float
    revoked_s: float | None
    version: int
    size: int
    sha256: str
    kept: bool

    def over(self, now_s: float) -> str:
        """Return how it has ended; empty while it is good."""
        if self.revoked_s is not None:
            return "revoked"
        return "expired" if now_s >= self.expires_s else ""


@dataclass(frozen=True)
class Use:
    """What somebody did with a link, and when (unix seconds)."""

    share: str
    person: str
    what: str
    version: int
    cell: str
    at_s: float


@dataclass(frozen=True)
class Arrival:
    """A copy that a server shall fetch.

    Args:
        outputs: of its notebooks, kept or cleared.
    """

    share: Share
    outputs: bool
