"""Why a server is no more, and what can be done about it: for the page that its owner sees next."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from afportal.backends import Cause
from afportal.catalogue import Catalogue, Class

if TYPE_CHECKING:
    from afportal.portal import Portal
    from afportal.spawn_story import SpawnStory

_TITLES = {
    Cause.MEMORY: "It used up its memory",
    Cause.TIME: "Its time was over",
    Cause.NODE: "Its machine was lost",
    Cause.HELD: "Its scheduler put it on hold",
    Cause.REMOVED: "It was removed from the queue",
    Cause.EXITED: "It ended by itself",
    Cause.STOPPED: "It was stopped",
    Cause.IDLE: "Nobody used it",
    Cause.UNKNOWN: "It is not running any more",
}


@dataclass(frozen=True)
class Ended:
    """How a server that ran has ended.

    Args:
        words: the scheduler's, or the portal's where that ended it; may be empty.
        notice: what befell it before; may be empty.
        at_s: when the portal learnt of it, unix seconds.
        peak_mib: most memory that it had at a time, MiB.
        limit_mib: where it is stopped, MiB.
    """

    cause: Cause
    words: str = ""
    notice: str = ""
    at_s: float = 0.0
    peak_mib: int | None = None
    limit_mib: int | None = None
    backend: str = ""

    @property
    def title(self) -> str:
        """Why, in plain words."""
        return _TITLES[self.cause]

    @property
    def at(self) -> str:
        """When, in ISO 8601."""
        return datetime.fromtimestamp(self.at_s, UTC).isoformat(timespec="seconds")

    @property
    def at_words(self) -> str:
        """When, for people: "22 Nov 14:05 UTC"."""
        return f"{datetime.fromtimestamp(self.at_s, UTC):%d %b %H:%M} UTC"

    @property
    def for_memory(self) -> bool:
        """Whether more memory is what it lacked."""
        return self.cause is Cause.MEMORY or self.notice.startswith("out of memory")

    @property
    def memory(self) -> str:
        """What it used of its memory; empty if nobody saw."""
        if self.peak_mib is None:
            return ""
        of = f" of {self.limit_mib}" if self.limit_mib else ""
        return f"At most {self.peak_mib}{of} MiB of memory were in use."

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def read(cls, state: Any) -> Ended | None:
        """Read what an earlier hub process kept; None where it is nothing of that kind."""
        if state is None:
            return None
        try:
            return _KEPT.validate_python(state)
        except ValidationError:
            return None


_KEPT = TypeAdapter(Ended)


class WithEnding:
    """What of a server's end outlives it, as a part of its spawner."""

    story: SpawnStory
    portal: Portal
    backend_name: str
    said_hello: bool
    memory_limit_mib: int
    peak_mib: int
    _log_name: str
    log: Any
    orm_spawner: Any
    ended: Ended | None = None

    def had_memory(self, peak_mib: int) -> None:
        """Take the session's word for the most memory that it had at a time, MiB."""
        if not self.portal.backends[self.backend_name].traits.own_memory:
            return
        self.peak_mib = max(self.peak_mib, peak_mib)

    def memory_ran_out(self, times: int) -> None:
        """Keep that the kernel ended something in the job because its memory was used up."""
        limit_mib = self.memory_limit_mib
        limit = f"the {limit_mib} MiB of this server" if limit_mib else "this server's limit"
        self.story.notice = f"out of memory: a process that went over {limit} was ended" + (
            f", {times} times so far" if times > 1 else ""
        )
        self.log.warning("%s: %s", self._log_name, self.story.notice)
        self.commit_state()

    def commit_state(self) -> None:
        """Keep what must outlive this hub process now."""
        raise NotImplementedError

    def has_ended(self, cause: Cause, peak_mib: int | None = None) -> None:
        """Keep why a server that ran is no more; the first word of it counts.

        Args:
            peak_mib: the scheduler's word, beside the session's.
        """
        if self.ended is not None or not self.said_hello:
            return
        self.ended = Ended(
            cause,
            self.story.reason,
            notice=self.story.notice,
            at_s=time.time(),
            peak_mib=max(peak_mib or 0, self.peak_mib) or None,
            limit_mib=self.memory_limit_mib or None,
            backend=self.backend_name,
        )

    def again(self) -> list[tuple[str, str]]:
        """Return the form's fields that ask for the same server."""
        options: Mapping[str, Any] = self.orm_spawner.user_options or {}
        return [(name, str(value)) for name, value in options.items() if value]

    def again_larger(self) -> tuple[str, list[tuple[str, str]]] | None:
        """Return title and fields of the class next in size, where memory was the cause."""
        ended = self.ended
        if ended is None or ended.limit_mib is None or not ended.for_memory:
            return None
        class_ = larger(self.offered(), ended.backend, self.groups(), ended.limit_mib)
        if class_ is None:
            return None
        kept = [field for field in self.again() if field[0] not in ("class", "memory_mib")]
        return class_.title, [*kept, ("class", class_.name)]

    def groups(self) -> frozenset[str]:
        """Return the names of the person's groups."""
        raise NotImplementedError

    def offered(self) -> Catalogue:
        """Return what the facility offers the person at this moment."""
        raise NotImplementedError


def larger(
    catalogue: Catalogue, backend: str, groups: frozenset[str], limit_mib: int
) -> Class | None:
    """Return the smallest class there whose servers are stopped later than at `limit_mib`."""

    def stops_at(class_: Class) -> int:
        return class_.memory_limit_mib or class_.memory_mib

    more = [
        class_
        for class_ in catalogue.classes_of(backend, groups)
        if stops_at(class_) > limit_mib and not class_.reserved
    ]
    return min(more, key=stops_at, default=None)
