"""The accounts of a load: each held by one virtual person at a time, whoever asks."""

from collections import deque
from collections.abc import Container, Sequence
from dataclasses import dataclass, field


@dataclass
class PeoplePool:
    """Who is free and who is held. In a distributed run the master's is the only one.

    `turned_away` counts who came while nobody was free, `finished` the visits that ended;
    `lost` are names whose holder is gone: nobody here knows what became of their visits.
    """

    names: Sequence[str]
    turned_away: int = 0
    finished: int = 0
    lost: list[str] = field(default_factory=list)
    held: dict[str, str] = field(default_factory=dict)  # name → who holds it
    _free: deque[str] = field(init=False)

    def __post_init__(self) -> None:
        self._free = deque(self.names)

    def claim(self, holder: str) -> str | None:
        """A name that nobody holds, the one that was free longest; None if all are held."""
        if not self._free:
            self.turned_away += 1
            return None
        name = self._free.popleft()
        self.held[name] = holder
        return name

    def finish(self) -> None:
        """A visit has ended; its name may still be held, while a server of it runs."""
        self.finished += 1

    def lose(self, here: Container[str]) -> None:
        """Write off the names of holders that are not `here` any more; nobody gets them again."""
        for name, holder in list(self.held.items()):
            if holder not in here:
                del self.held[name]
                self.lost.append(name)
                self.finished += 1

    def release(self, name: str) -> None:
        """Give a name back; one that is not held stays as it is."""
        if self.held.pop(name, None) is not None:
            self._free.append(name)
