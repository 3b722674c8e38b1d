"""What a facility says of share links in portal.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from afportal.credentials.settings import Settings
from afportal.live_help.settings import LiveHelpSettings

MIB = 1024 * 1024


class ShareSettings(Settings):
    """Where share links are kept, and how far they reach.

    Args:
        database: SQLAlchemy's address of the database that all hubs share.
        folder: where the snapshots lie, for all hubs the same; readable by nobody else.
        url: what a link begins with, the front door's page that belongs to no hub; empty: this
            hub's own page.
        lifetime_min: how long a link is good where its owner says nothing.
        longest_min: the most that its owner may say.
        largest_mib: of one snapshot.
        most_files: in one snapshot.
        quota_mib: of all snapshots of a person together.
        most_links: that a person may have at a time.
        guesses: so many unknown links a person may try within `guess_window_s`, before all are
            refused for a while.
        kept_days: so long it is remembered who opened a link, after its end.
        live_help: whether and how people may let others into their running servers.
    """

    database: Annotated[str, Field(min_length=1)]
    folder: Path
    url: Annotated[str, Field(pattern=r"^(https?://\S+[^/])?$")] = ""
    lifetime_min: int = Field(default=60, ge=1)
    longest_min: int = Field(default=48 * 60, ge=1)
    largest_mib: int = Field(default=100, ge=1)
    most_files: int = Field(default=1000, ge=1)
    quota_mib: int = Field(default=500, ge=1)
    most_links: int = Field(default=100, ge=1)
    guesses: int = Field(default=10, ge=1)
    guess_window_s: int = Field(default=600, ge=1)
    kept_days: int = Field(default=30, ge=0)
    live_help: LiveHelpSettings | None = None

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if self.lifetime_min > self.longest_min:
            raise ValueError(
                f"lifetime_min {self.lifetime_min} is more than longest_min {self.longest_min}"
            )
        if self.largest_mib > self.quota_mib:
            raise ValueError(
                f"largest_mib {self.largest_mib} is more than quota_mib {self.quota_mib}"
            )
        return self
