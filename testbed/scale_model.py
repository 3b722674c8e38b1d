"""What one hub would do with more people than fit here: a simulation with costs that were measured.

Servers and starts are made in a run of `testbed bench scale`; the simulation takes what they cost
there and plays a morning of another size, event by event: starts and renewals wait for the one
thread of their hub, sessions for the cores of the nodes if those are said to be few.
"""

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from testbed.errors import UsageError
from testbed.results import quantile

# The hub's work for a start: until the submit, at the exchange, from the hello to the route.
_PARTS = (0.4, 0.4, 0.2)
# Of the time that a start takes alone and the hub does not work, the part before the session.
_BEFORE_SESSION = 0.2
# Pieces of work are not all alike.
_SPREAD = (0.5, 1.5)


@dataclass(frozen=True)
class Costs:
    """What servers cost, as measured.

    Args:
        start_cpu_s: the hub's CPU for one start.
        start_alone_s: click to ready where nothing else starts.
        server_cpu_s_per_min: the hub's CPU for a running server, renewals above all.
        base_cpu_s_per_min: the hub's CPU without servers.
        base_mib: the hub's memory without servers.
        server_mib: the hub's memory for a running server.
        queries_per_s: to all schedulers, whatever the number of servers.
    """

    start_cpu_s: float
    start_alone_s: float
    server_cpu_s_per_min: float
    base_cpu_s_per_min: float
    base_mib: float
    server_mib: float
    queries_per_s: float

    @classmethod
    def measured(cls, steps: Sequence[Mapping[str, Any]]) -> Self:
        """Make them of the steps of a run's `scale.json`.

        Raises:
            UsageError: There are fewer than two steps, or the first has no spawn.
        """
        if len(steps) < 2 or not steps[0]["spawn_p50_s"]:
            raise UsageError(
                "costs are slopes between steps",
                seen=f"{len(steps)} steps with spawns",
                cure="testbed bench scale --servers 30 or more",
            )
        first, last = steps[0], steps[-1]
        more = last["held"] - first["held"]

        def slope(value: Callable[[Mapping[str, Any]], float]) -> float:
            return max((value(last) - value(first)) / more, 0.0) if more > 0 else 0.0

        def cpu_per_min(step: Mapping[str, Any]) -> float:
            return float(step["hub_cpu_s"]) * 60 / float(step["window_s"])

        server_cpu_s = slope(cpu_per_min)
        server_mib = slope(lambda step: step["hub_memory_mib"])
        return cls(
            start_cpu_s=sum(s["grow_cpu_s"] for s in steps) / sum(s["spawns"] for s in steps),
            start_alone_s=first["spawn_p50_s"],
            server_cpu_s_per_min=server_cpu_s,
            base_cpu_s_per_min=max(cpu_per_min(first) - server_cpu_s * first["held"], 0.0),
            base_mib=first["hub_memory_mib"] - server_mib * first["held"],
            server_mib=server_mib,
            queries_per_s=sum(last["queries"].values()) / last["window_s"],
        )


@dataclass(frozen=True)
class Morning:
    """Who comes, and to what.

    Args:
        people: servers that are started, on all cells together.
        cells: hub instances that share them evenly.
        within_s: over which time their clicks are spread at random; 0: all at once.
        at_once: starts under way at a time; the next begins when one is ready. None: no limit.
        renew_every_s: how often a running server renews its secrets.
        session_cpu_s: CPU that one session's start takes of the nodes.
        cores: that all sessions' starts share; None: enough for everybody.
        watched_s: for how long running servers are watched after the last click.
    """

    people: int
    cells: int = 1
    within_s: float = 600.0
    at_once: int | None = None
    renew_every_s: float = 600.0
    session_cpu_s: float = 0.0
    cores: int | None = None
    watched_s: float = 600.0


@dataclass(frozen=True)
class Outcome:
    """What a simulated morning was like.

    Args:
        ready_p50_s, ready_p95_s, ready_p99_s: click to ready.
        all_ready_s: first click to last ready.
        busiest_cores: of one hub, in its busiest minute.
        calm_cores: of all hubs, once everybody runs.
        hub_mib: memory of all hubs.
        queries_per_s: of all hubs, to all schedulers.
    """

    ready_p50_s: float
    ready_p95_s: float
    ready_p99_s: float
    all_ready_s: float
    busiest_cores: float
    calm_cores: float
    hub_mib: float
    queries_per_s: float


class _Clock:
    """Events in the order of their time."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._coming: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def after(self, delay_s: float, then: Callable[[], None]) -> None:
        heapq.heappush(self._coming, (self.now_s + delay_s, next(self._count), then))

    def run(self, until_s: float) -> None:
        while self._coming and self._coming[0][0] <= until_s:
            self.now_s, _, then = heapq.heappop(self._coming)
            then()


class _Workers:
    """So many that each do one piece of work at a time, first come, first served."""

    def __init__(self, clock: _Clock, many: int) -> None:
        self._clock = clock
        self._free = many
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()
        self.busy_s: dict[int, float] = {}

    def do(self, work_s: float, then: Callable[[], None]) -> None:
        self._waiting.append((work_s, then))
        self._next()

    def _next(self) -> None:
        while self._free and self._waiting:
            work_s, then = self._waiting.popleft()
            self._free -= 1
            minute = int(self._clock.now_s // 60)
            self.busy_s[minute] = self.busy_s.get(minute, 0.0) + work_s
            self._clock.after(work_s, partial(self._done, then))

    def _done(self, then: Callable[[], None]) -> None:
        self._free += 1
        then()
        self._next()


def simulate(costs: Costs, morning: Morning, *, seed: int = 1) -> Outcome:
    """Play one morning at the fullest cell, and give the result for as many of them.

    Raises:
        UsageError: Fewer people than cells.
    """
    people = math.ceil(morning.people / morning.cells)
    if morning.people < morning.cells:
        raise UsageError(f"{morning.people} people are fewer than {morning.cells} cells")
    chance = random.Random(seed)  # noqa: S311 - a simulation, the same with the same seed
    clock = _Clock()
    hub = _Workers(clock, 1)
    nodes = _Workers(clock, morning.cores or people)
    took_s: list[float] = []
    ready_at_s: list[float] = []
    clicks = iter(sorted(chance.uniform(0, morning.within_s) for _ in range(people)))
    renewal_s = costs.server_cpu_s_per_min * morning.renew_every_s / 60
    delay_s = max(costs.start_alone_s - costs.start_cpu_s - morning.session_cpu_s, 0.0)

    def piece(mean_s: float) -> float:
        return mean_s * chance.uniform(*_SPREAD)

    def start() -> None:
        began_s = clock.now_s

        def ready() -> None:
            took_s.append(clock.now_s - began_s)
            ready_at_s.append(clock.now_s)
            clock.after(piece(morning.renew_every_s), renew)
            if morning.at_once is not None and next(clicks, None) is not None:
                start()

        def said_hello() -> None:
            hub.do(piece(costs.start_cpu_s * _PARTS[2]), ready)

        def exchanged() -> None:
            rest_s = delay_s * (1 - _BEFORE_SESSION)
            nodes.do(piece(morning.session_cpu_s), lambda: clock.after(rest_s, said_hello))

        def runs() -> None:
            hub.do(piece(costs.start_cpu_s * _PARTS[1]), exchanged)

        hub.do(
            piece(costs.start_cpu_s * _PARTS[0]),
            lambda: clock.after(delay_s * _BEFORE_SESSION, runs),
        )

    def renew() -> None:
        hub.do(piece(renewal_s), lambda: clock.after(morning.renew_every_s, renew))

    def beside() -> None:
        hub.do(costs.base_cpu_s_per_min / 60, lambda: clock.after(1.0, beside))

    beside()
    if morning.at_once is None:
        for click_s in clicks:
            clock.after(click_s, start)
    else:
        for _ in itertools.islice(clicks, morning.at_once):
            start()
    until_s = morning.within_s
    while len(took_s) < people:
        until_s += 60
        clock.run(until_s)
    clock.run(max(ready_at_s) + morning.watched_s)
    calm_from = int(max(ready_at_s) // 60) + 1
    calm = [s for minute, s in hub.busy_s.items() if calm_from <= minute < clock.now_s // 60]
    return Outcome(
        ready_p50_s=quantile(took_s, 0.5) or 0.0,
        ready_p95_s=quantile(took_s, 0.95) or 0.0,
        ready_p99_s=quantile(took_s, 0.99) or 0.0,
        all_ready_s=max(ready_at_s),
        busiest_cores=max(hub.busy_s.values()) / 60,
        calm_cores=morning.cells * (sum(calm) / len(calm) / 60 if calm else 0.0),
        hub_mib=morning.cells * (costs.base_mib + costs.server_mib * people),
        queries_per_s=morning.cells * costs.queries_per_s,
    )


@dataclass(frozen=True)
class Check:
    """A step of the run beside the same step simulated, with costs of the steps before it.

    Args:
        servers: of the step.
        measured_p50_s, measured_p95_s: click to ready.
        simulated_p50_s, simulated_p95_s: the same.
        session_cpu_s: what a session's start takes of the machine's cores, by the step before.
    """

    servers: int
    measured_p50_s: float
    measured_p95_s: float
    simulated_p50_s: float
    simulated_p95_s: float
    session_cpu_s: float


def whole_steps(run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The steps of a `scale.json` that can be learned from: with spawns, and nothing broken."""
    steps = run["steps"][:-1] if run.get("first_broken") else run["steps"]
    return [step for step in steps if step["spawns"] and step["spawn_p95_s"]]


def check(run: Mapping[str, Any]) -> Check:
    """Simulate a run's last step by the steps before it.

    How much of the machine a session's start takes is no figure of the run: it is what makes the
    step before the last come out as it was.

    Args:
        run: A `scale.json`.

    Raises:
        UsageError: There are fewer than three steps with spawns.
    """
    steps = whole_steps(run)
    if len(steps) < 3:
        raise UsageError(
            "a check wants three steps, two to learn from", seen=f"{len(steps)} with spawns"
        )
    *known, last = steps
    costs = Costs.measured(known)

    def played(step: Mapping[str, Any], session_cpu_s: float) -> Outcome:
        morning = Morning(
            people=step["spawns"],
            within_s=0,
            at_once=run["at_once"],
            session_cpu_s=session_cpu_s,
            cores=run["cores"],
            watched_s=0,
        )
        return simulate(costs, morning)

    low_s, high_s = 0.0, 60.0
    for _ in range(30):
        middle_s = (low_s + high_s) / 2
        if played(known[-1], middle_s).ready_p50_s < known[-1]["spawn_p50_s"]:
            low_s = middle_s
        else:
            high_s = middle_s
    found = played(last, high_s)
    return Check(
        servers=last["servers"],
        measured_p50_s=last["spawn_p50_s"],
        measured_p95_s=last["spawn_p95_s"],
        simulated_p50_s=found.ready_p50_s,
        simulated_p95_s=found.ready_p95_s,
        session_cpu_s=high_s,
    )
