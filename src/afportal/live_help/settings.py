"""What a facility says of live help in portal.yaml, under `shares`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from afportal.credentials.settings import Settings

# What a person may choose from, as far as `longest_min` reaches.
LIFETIMES_MIN = (15, 30, 60, 120, 240, 480)


class LiveHelpSettings(Settings):
    """Whether people may let others into their running servers; without it nobody can.

    Args:
        url: what a link begins with: the front door's page, ".../-/help".
        secret_file: the front door's secret, by which a pass through it is signed.
        longest_min: the most that the owner of a server may say.
    """

    url: Annotated[str, Field(pattern=r"^https?://\S+[^/]$")]
    secret_file: Path
    longest_min: int = Field(default=60, ge=1, le=24 * 60)

    @property
    def lifetimes_min(self) -> list[int]:
        """What is offered, the longest last."""
        return [m for m in LIFETIMES_MIN if m < self.longest_min] + [self.longest_min]
