"""Whether a pool needs more execution points or fewer: one decision, from what is seen now."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Cores and memory (MiB): what a job asks for, or what an execution point has."""

    cores: int
    memory_mib: int

    def holds(self, other: "Size") -> bool:
        return self.cores >= other.cores and self.memory_mib >= other.memory_mib

    def without(self, other: "Size") -> "Size":
        return Size(self.cores - other.cores, self.memory_mib - other.memory_mib)

    def __str__(self) -> str:
        return f"{self.cores} cores and {self.memory_mib} MiB"


@dataclass(frozen=True)
class Waiting:
    """A job in a queue, not running.

    Args:
        asks: What its slot must have.
        waits_s: Since when, in seconds.
        passed_over_s: For so long there has been room for it, and it did not start.
    """

    job: str
    asks: Size
    waits_s: float
    passed_over_s: float = 0.0


@dataclass(frozen=True)
class ExecutionPoint:
    """One machine of the pool.

    Args:
        free: What no job has.
        burst: It may be removed again; a reserved one stays.
        idle_s: For so long no job has run on it; 0 while one does.
        draining: It takes no job any more.
        drained: And its last one is over.
    """

    name: str
    free: Size
    burst: bool
    idle_s: float = 0.0
    draining: bool = False
    drained: bool = False


@dataclass(frozen=True)
class Rules:
    """Bounds, and what keeps it from swinging.

    Args:
        ceiling: Most burst execution points at a time, those that start or drain among them.
        at_once: Most that are added by one decision.
        waited_s: A job counts that has waited so long: one that is about to start needs nothing.
        idle_s: An execution point goes that nobody has used for so long.
        passed_over_s: A job for which there has been room so long, and which still waits, wants
            something else: more of the same would not help it.
    """

    ceiling: int = 4
    at_once: int = 2
    waited_s: float = 3.0
    idle_s: float = 60.0
    passed_over_s: float = 60.0


@dataclass(frozen=True)
class Decision:
    """What to do.

    Args:
        add: So many burst execution points more.
        drain: Names of those that shall take no more jobs.
        remove: Names of those whose last job is over.
        has_room: Jobs for which there is room already; they should start by themselves.
        why: In plain words; empty where nothing is to be done.
    """

    add: int = 0
    drain: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    has_room: frozenset[str] = frozenset()
    why: tuple[str, ...] = ()


def decide(
    waiting: Sequence[Waiting],
    points: Sequence[ExecutionPoint],
    starting: int,
    new: Size,
    rules: Rules,
) -> Decision:
    """Decide from one look at queue and pool; the same look gives the same decision.

    Jobs are put where they fit first, the longest waiting before the others: in what is free on
    reserved execution points, then on burst ones, then on those that start. Who is left needs more.

    Args:
        points: What is in the pool.
        starting: Burst execution points that were added and are not in the pool yet.
        new: What a new one has.
    """
    # Who is idle longest comes last, so that it can go.
    usable = sorted((p for p in points if not p.draining), key=lambda p: (p.burst, p.idle_s))
    free = [p.free for p in usable] + [new] * starting
    wanted: set[int] = set()
    has_room: set[str] = set()
    more: list[Size] = []
    needing = passed_over = too_big = 0
    for job in sorted(waiting, key=lambda job: -job.waits_s):
        at = _first_fit(free, job.asks)
        if at is not None and at < len(usable):
            has_room.add(job.job)
        if job.passed_over_s >= rules.passed_over_s:
            passed_over += 1
        elif at is not None:
            free[at] = free[at].without(job.asks)
            wanted.add(at)
        elif not new.holds(job.asks):
            too_big += 1
        elif job.waits_s >= rules.waited_s:
            needing += 1
            if (bin_ := _first_fit(more, job.asks)) is None:
                more.append(new)
                bin_ = len(more) - 1
            more[bin_] = more[bin_].without(job.asks)

    burst = [p for p in points if p.burst]
    room = rules.ceiling - len(burst) - starting
    add = max(0, min(len(more), rules.at_once, room))
    remove = tuple(p.name for p in burst if p.drained)
    drain = tuple(
        p.name
        for number, p in enumerate(usable)
        if p.burst and number not in wanted and p.idle_s >= rules.idle_s and not more
    )
    why = []
    fits_nowhere = f"jobs that wait and fit no free slot: {needing}"
    if add:
        why.append(f"{fits_nowhere}; {add} more")
    elif more:
        why.append(f"ceiling of {rules.ceiling} reached, {fits_nowhere}")
    if passed_over:
        why.append(
            f"jobs that do not start though there was room for {rules.passed_over_s:g} s: "
            f"{passed_over}; not counted, see condor_q -better-analyze"
        )
    if too_big:
        why.append(f"jobs that ask for more than {new}, which is all that a new one has: {too_big}")
    why += [f"{name}: no job for {rules.idle_s:g} s, so it takes no more" for name in drain]
    why += [f"{name}: drained, so it goes" for name in remove]
    return Decision(add, drain, remove, frozenset(has_room), tuple(why))


def _first_fit(free: Sequence[Size], asks: Size) -> int | None:
    return next((number for number, size in enumerate(free) if size.holds(asks)), None)
