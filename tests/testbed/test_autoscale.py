"""When execution points are added and when they go."""

import itertools
import threading
from dataclasses import replace

import pytest

from testbed.autoscale import Autoscaler
from testbed.autoscale_plan import Decision, ExecutionPoint, Rules, Size, Waiting, decide
from testbed.errors import TestbedError

EIGHT = Size(8, 65536)
ONE = Size(1, 128)
NONE = Size(0, 65536)
RULES = Rules(ceiling=4, at_once=2, waited_s=3, idle_s=60, passed_over_s=30)


def jobs(
    count: int, asks: Size = ONE, waits_s: float = 10, passed_over_s: float = 0
) -> list[Waiting]:
    return [Waiting(f"1.{number}", asks, waits_s, passed_over_s) for number in range(count)]


def reserved(free: Size = NONE) -> ExecutionPoint:
    return ExecutionPoint("ep-1", free, burst=False, idle_s=0 if free == NONE else 1000)


def burst(number: int, free: Size = EIGHT, *, idle_s: float = 0, **state: bool) -> ExecutionPoint:
    return ExecutionPoint(f"burst-{number}", free, burst=True, idle_s=idle_s, **state)


def decided(
    waiting: list[Waiting], *points: ExecutionPoint, starting: int = 0, rules: Rules = RULES
) -> Decision:
    return decide(waiting, points, starting, EIGHT, rules)


@pytest.mark.parametrize(("waiting", "added"), [(0, 0), (1, 1), (8, 1), (9, 2), (100, 2)])
def test_as_many_are_added_as_the_queue_needs(waiting: int, added: int) -> None:
    """Where the reserved ones are full; and no more at once than the rules say."""
    assert decided(jobs(waiting), reserved()).add == added


def test_what_is_free_is_used_first() -> None:
    assert decided(jobs(8), reserved(EIGHT)) == Decision(
        has_room=frozenset(f"1.{n}" for n in range(8))
    )
    assert decided(jobs(9), reserved(EIGHT)).add == 1
    assert decided(jobs(8), reserved(), burst(1)).add == 0


def test_what_starts_counts_as_free() -> None:
    """Else each look would add as many again until the first is in the pool."""
    assert decided(jobs(16), reserved(), starting=2).add == 0
    assert decided(jobs(17), reserved(), starting=2).add == 1


def test_memory_counts_as_cores_do() -> None:
    half = Size(1, EIGHT.memory_mib // 2)
    assert decided(jobs(4, half), reserved()).add == 2
    assert decided(jobs(1, half), reserved(Size(8, half.memory_mib - 1))).add == 1


@pytest.mark.parametrize(
    ("burst_ones", "starting", "added"), [(0, 3, 1), (3, 0, 1), (4, 0, 0), (2, 2, 0), (6, 0, 0)]
)
def test_never_more_than_the_ceiling(burst_ones: int, starting: int, added: int) -> None:
    """What starts and what drains is among them."""
    full = [burst(n, NONE, draining=n == 0) for n in range(burst_ones)]
    decision = decided(jobs(100), reserved(), *full, starting=starting)
    assert decision.add == added
    assert added or decision.why[0].startswith("ceiling of 4 reached, jobs that wait")


def test_a_job_that_is_about_to_start_adds_nothing() -> None:
    """The negotiator comes each second; a burst of submits is no need yet."""
    assert decided(jobs(5, waits_s=2.9), reserved()) == Decision()
    assert decided(jobs(5, waits_s=3), reserved()).add == 1


def test_a_job_that_fits_nowhere_adds_nothing() -> None:
    """No number of new ones would have 9 cores; the words say what one has."""
    decision = decided(jobs(2, Size(9, 128)), reserved())
    assert decision.add == 0
    assert decision.why == (
        f"jobs that ask for more than {EIGHT}, which is all that a new one has: 2",
    )


def test_a_job_that_wants_something_else_adds_nothing() -> None:
    """There was room for it and it did not start; it also keeps nothing from going."""
    stranger = jobs(3, passed_over_s=30)
    decision = decided(stranger, reserved(), burst(1, idle_s=60))
    assert (decision.add, decision.drain) == (0, ("burst-1",))
    assert "condor_q -better-analyze" in decision.why[0]
    assert decision.has_room == {job.job for job in stranger}
    # Without the one that was idle it still adds none: no swinging.
    assert decided(stranger, reserved()).add == 0


def test_who_is_idle_long_enough_goes_and_nobody_else() -> None:
    points = (burst(1, idle_s=59.9), burst(2, idle_s=60), burst(3, NONE), burst(4, idle_s=500))
    decision = decided([], reserved(), *points)
    assert (decision.drain, decision.remove) == (("burst-2", "burst-4"), ())


def test_a_reserved_one_never_goes() -> None:
    assert decided([], reserved(EIGHT)) == Decision()


def test_an_idle_one_that_is_needed_stays() -> None:
    """The jobs that it was idle before have just come."""
    decision = decided(jobs(9, waits_s=0.5), reserved(), burst(1, idle_s=70), burst(2, idle_s=80))
    assert decision.drain == ()
    decision = decided(jobs(8, waits_s=0.5), reserved(), burst(1, idle_s=70), burst(2, idle_s=80))
    assert decision.drain == ("burst-2",)


def test_only_what_is_drained_is_removed() -> None:
    """One that drains lets its last job end."""
    points = (burst(1, NONE, draining=True), burst(2, draining=True, drained=True, idle_s=99))
    decision = decided([], reserved(), *points)
    assert (decision.drain, decision.remove) == ((), ("burst-2",))
    # Nor do jobs count on either.
    assert decided(jobs(1), reserved(), *points).add == 1


def test_the_same_look_gives_the_same_decision_in_any_order() -> None:
    waiting = [Waiting(str(n), Size(1 + n % 3, 100 * n), 5 + n) for n in range(6)]
    points = [reserved(Size(3, 500)), burst(1, Size(2, 900)), burst(2, idle_s=70)]
    seen = {
        decide(list(some), list(other), 0, EIGHT, RULES)
        for some in itertools.permutations(waiting, 6)
        for other in (points, points[::-1])
    }
    assert len(seen) == 1


class ScriptedPool:
    """A pool whose burst execution points join and drain at once; told what waits."""

    def __init__(self) -> None:
        self.queue: list[Waiting] = []
        self.here: dict[str, ExecutionPoint] = {"ep-1": reserved()}
        self.deeds: list[str] = []
        self.away = False
        self.busy: set[str] = set()
        self.joins = True
        self._started: set[str] = set()
        self._number = 0

    def waiting(self) -> list[Waiting]:
        if self.away:
            raise TestbedError("the schedd does not answer")
        return self.queue

    def points(self) -> list[ExecutionPoint]:
        return [
            replace(p, idle_s=0.0 if p.name in self.busy else p.idle_s,
                    drained=p.draining and p.name not in self.busy)
            for p in self.here.values()
        ]  # fmt: skip

    def burst(self) -> set[str]:
        return set(self._started)

    def add(self, count: int) -> None:
        for _ in range(count):
            self._number += 1
            name = f"burst-{self._number}"
            self._started.add(name)
            if self.joins:
                self.here[name] = burst(self._number, idle_s=1)
        self.deeds.append(f"add {count}")

    def drain(self, name: str) -> None:
        self.here[name] = replace(self.here[name], draining=True)
        self.deeds.append(f"drain {name}")

    def remove(self, name: str) -> None:
        # The collector remembers it for a while.
        self._started.remove(name)
        self.deeds.append(f"remove {name}")


class Loop:
    """An autoscaler on that pool, and its clock."""

    def __init__(self) -> None:
        self.pool = ScriptedPool()
        self.now_s = 0.0
        self.said: list[str] = []
        self.scaler = Autoscaler(
            self.pool, RULES, every_s=0.01, say=self.said.append, now=lambda: self.now_s
        )

    def step(self, *, after_s: float = 2) -> None:
        self.now_s += after_s
        self.scaler.step()


def test_it_grows_with_the_queue_and_shrinks_after_it() -> None:
    loop = Loop()
    loop.pool.queue = jobs(20)
    loop.step()
    loop.step()
    assert loop.pool.deeds == ["add 2", "add 1"]
    loop.pool.queue = []
    loop.pool.busy = {"burst-2"}
    for _ in range(34):
        loop.step()
    assert loop.pool.deeds[2:] == [
        "drain burst-1", "drain burst-3", "remove burst-1", "remove burst-3",
    ]  # fmt: skip
    assert (loop.scaler.outcome.most, loop.scaler.outcome.left) == (3, ())


def test_idle_time_begins_anew_after_each_job() -> None:
    loop = Loop()
    loop.pool.add(1)
    for busy in (set[str](), {"burst-1"}, set[str]()):
        loop.pool.busy = busy
        loop.step()
        loop.step(after_s=50)
    assert loop.pool.deeds == ["add 1"]
    loop.step(after_s=10)
    assert loop.pool.deeds == ["add 1", "drain burst-1"]


def test_a_pool_that_does_not_answer_changes_nothing() -> None:
    """And is said once, not at each look."""
    loop = Loop()
    loop.pool.add(1)
    loop.pool.away = True
    for _ in range(50):
        loop.step()
    assert loop.pool.deeds == ["add 1"]
    assert loop.said == ["nothing is changed until the pool answers: the schedd does not answer"]
    assert loop.scaler.outcome.unanswered == 50


def test_one_that_never_joins_goes_and_is_counted_meanwhile() -> None:
    loop = Loop()
    loop.pool.joins = False
    loop.pool.queue = jobs(8)
    loop.step()
    loop.step()
    loop.step(after_s=115)
    assert loop.pool.deeds == ["add 1"]
    loop.step(after_s=10)
    assert loop.pool.deeds[:2] == ["add 1", "remove burst-1"]
    assert "burst-1: not in the pool, so it goes" in loop.said


def test_a_job_that_does_not_take_what_is_free_stops_counting() -> None:
    """It wants something else than cores: no execution point comes and goes for it for ever."""
    loop = Loop()
    loop.pool.queue = jobs(1)
    for _ in range(200):
        loop.step()
    assert loop.pool.deeds == ["add 1", "drain burst-1", "remove burst-1"]


def test_in_the_end_all_goes_but_what_runs_a_job() -> None:
    """Also what starts, what a former run left, and what has just been idle."""
    loop = Loop()
    loop.pool.add(2)
    loop.pool.busy = {"burst-2"}
    loop.pool.joins = False
    loop.pool.add(1)
    loop.scaler.let_go(threading.Event(), 0)
    loop.scaler.let_go(threading.Event(), 0)
    assert loop.scaler.outcome.left == ("burst-2",)
    assert {"remove burst-1", "remove burst-3"} <= set(loop.pool.deeds)
    loop.pool.busy = set()
    loop.scaler.let_go(threading.Event(), 0)
    assert loop.scaler.outcome.left == ()
    assert "drain ep-1" not in loop.pool.deeds


def test_an_impatient_person_waits_for_no_job() -> None:
    loop = Loop()
    loop.pool.add(1)
    loop.pool.busy = {"burst-1"}
    hurry = threading.Event()
    hurry.set()
    loop.scaler.let_go(hurry, 1e9)
    assert loop.scaler.outcome.left == ("burst-1",)


def test_it_ends_when_told_and_when_its_time_is_over() -> None:
    loop = Loop()
    ended = threading.Event()
    ended.set()
    loop.scaler.run(ended, None)
    assert loop.scaler.outcome.looks == 0
    loop.scaler.run(threading.Event(), 0)
    assert loop.scaler.outcome.looks == 1
