"""Add execution points while jobs find no slot, and remove those that nobody uses."""

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from testbed.autoscale_plan import Decision, ExecutionPoint, Rules, Size, Waiting, decide
from testbed.bed import NUMBER_LABEL, Bed
from testbed.errors import ExplainedError, TestbedError

PROFILE = "burst"
SERVICE = "condor-ep-burst"
# What one has for batch jobs. Source: AF_BATCH_CORES, AF_BATCH_MEMORY_MIB in condor-ep.conf.
NEW = Size(8, 65536)
# Longest that a container takes until its startd is in the pool; noisy machines need most of it.
_JOINS_WITHIN_S = 120.0
_WAITING = ("GlobalJobId", "RequestCpus", "RequestMemory", "RequestGPUs ?: 0",
            "time() - EnteredCurrentStatus")  # fmt: skip
_POINT = "Machine,Cpus,Memory,NumDynamicSlots,State,Activity,AfBurst,TotalGPUs"


class Pool(Protocol):
    """What the loop sees and does; a testbed, or a test's own."""

    def waiting(self) -> list[Waiting]:
        """Jobs that wait, as the access points tell."""

    def points(self) -> list[ExecutionPoint]:
        """Execution points for batch jobs, as the collector tells."""

    def burst(self) -> set[str]:
        """Names of the burst execution points that were started and not removed."""

    def add(self, count: int) -> None:
        """Start so many more; they come into the pool later."""

    def drain(self, name: str) -> None:
        """Have one take no more jobs; those that run there run to their end."""

    def remove(self, name: str) -> None:
        """Take one away."""


@dataclass
class Outcome:
    """What was done.

    Args:
        most: Most burst execution points in the pool at a time.
        left: Names of those that could not go, as jobs of theirs run on.
        unanswered: How often queue or pool did not answer.
    """

    looks: int = 0
    added: int = 0
    removed: int = 0
    most: int = 0
    unanswered: int = 0
    left: tuple[str, ...] = ()

    def figures(self) -> dict[str, float]:
        return {
            "looks": self.looks,
            "eps_added": self.added,
            "eps_removed": self.removed,
            "eps_most": self.most,
            "eps_left": len(self.left),
            "looks_unanswered": self.unanswered,
        }


@dataclass
class _Clock:
    """Since when what is so has been so, by name; what is no longer so is forgotten."""

    since: dict[str, float] = field(default_factory=dict)

    def lasts(self, now: float, names: set[str]) -> dict[str, float]:
        self.since = {name: self.since.get(name, now) for name in names}
        return {name: now - begun for name, begun in self.since.items()}


class Autoscaler:
    """Looks, decides, acts; then lets all go.

    Args:
        every_s: Time between two looks; nothing tells of a queue that grows.
        say: Hears each thing that is done, and why.
    """

    def __init__(
        self,
        pool: Pool,
        rules: Rules,
        *,
        every_s: float,
        say: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._rules = rules
        self._every_s = every_s
        self._say = say
        self._now = now
        self._idle, self._room, self._starting = _Clock(), _Clock(), _Clock()
        self._has_room: frozenset[str] = frozenset()
        self._strangers: set[str] = set()
        self._said: frozenset[str] = frozenset()
        self.outcome = Outcome()

    def run(self, ended: threading.Event, for_s: float | None) -> None:
        """Scale until `ended` is set, or for so many seconds."""
        deadline = None if for_s is None else self._now() + for_s
        while not ended.is_set():
            self.step()
            left_s = self._every_s if deadline is None else deadline - self._now()
            if left_s <= 0:
                return
            ended.wait(min(self._every_s, left_s))

    def let_go(self, hurry: threading.Event, within_s: float) -> None:
        """Drain every burst execution point, and remove each when its last job is over.

        Args:
            hurry: Once it is set, nobody waits for jobs any more.
            within_s: The longest wait. Who runs a job then stays, and is told in `outcome.left`.
        """
        deadline = self._now() + within_s
        everybody = replace(self._rules, ceiling=0, idle_s=0.0)
        while True:
            self._act(everybody, last=True)
            self.outcome.left = tuple(sorted(self._pool.burst()))
            if not self.outcome.left or hurry.is_set() or self._now() >= deadline:
                return
            hurry.wait(min(self._every_s, max(0.0, deadline - self._now())))

    def step(self) -> None:
        """Look once, and do what that asks for."""
        self._act(self._rules, last=False)

    def _act(self, rules: Rules, *, last: bool) -> None:
        self.outcome.looks += 1
        try:
            decision, points = self._look(rules, last=last)
            for name in decision.drain:
                self._pool.drain(name)
            for name in decision.remove:
                self._pool.remove(name)
                self.outcome.removed += 1
            if decision.add:
                self._pool.add(decision.add)
                self.outcome.added += decision.add
        except ExplainedError as error:
            self.outcome.unanswered += 1
            self._tell((f"nothing is changed until the pool answers: {error.what}",))
            return
        self.outcome.most = max(self.outcome.most, sum(p.burst for p in points))
        self._tell(decision.why)

    def _look(self, rules: Rules, *, last: bool) -> tuple[Decision, list[ExecutionPoint]]:
        now = self._now()
        started = self._pool.burst()
        # The collector remembers a machine for a while after it is gone.
        points = [p for p in self._pool.points() if not p.burst or p.name in started]
        queue = [] if last else self._pool.waiting()
        idle = self._idle.lasts(now, {p.name for p in points if p.idle_s > 0})
        points = [replace(p, idle_s=idle.get(p.name, 0.0)) for p in points]
        here = {p.name for p in points}
        starting = self._starting.lasts(now, started - here)
        never = {name for name, lasts_s in starting.items() if lasts_s > _JOINS_WITHIN_S}
        queue = self._passed_over(now, queue)
        decision = decide(queue, points, len(starting), NEW, rules)
        self._has_room = decision.has_room
        if last:
            drain = tuple(p.name for p in points if p.burst and not p.draining)
            why = [f"{name}: takes no more jobs" for name in drain]
            why += [f"{name}: drained, so it goes" for name in decision.remove]
            decision = Decision(drain=drain, remove=decision.remove, why=tuple(why))
            never = set(starting)
        gone = tuple(sorted(never))
        decision = replace(
            decision,
            remove=decision.remove + gone,
            why=decision.why + tuple(f"{name}: not in the pool, so it goes" for name in gone),
        )
        return decision, points

    def _passed_over(self, now: float, queue: list[Waiting]) -> list[Waiting]:
        """Add for how long there has been room; what was found of a job holds while it waits.

        Else it would be forgotten with the execution point that came for it, and another come.
        """
        names = {job.job for job in queue}
        self._strangers &= names
        lasts_s = self._room.lasts(now, names & self._has_room)
        self._strangers |= {n for n, s in lasts_s.items() if s >= self._rules.passed_over_s}
        lasts_s |= dict.fromkeys(self._strangers, self._rules.passed_over_s)
        return [replace(job, passed_over_s=lasts_s.get(job.job, 0.0)) for job in queue]

    def _tell(self, why: tuple[str, ...]) -> None:
        """Say what was not said at the look before; how many there are is no news."""
        now = {words.partition(":")[0]: words for words in why}
        for kind, words in now.items():
            if kind not in self._said:
                self._say(words)
        self._said = frozenset(now)


class BurstPool:
    """A testbed's HTCondor pool, whose burst execution points are containers."""

    def __init__(self, bed: Bed) -> None:
        self._bed = Bed(bed.settings, profiles=(PROFILE,))

    def waiting(self) -> list[Waiting]:
        text = self._ask("condor_q", "-global", "-allusers", "-constraint",
                         "JobStatus == 1 && JobUniverse == 5", "-af:t", *_WAITING)  # fmt: skip
        return parse_waiting(text)

    def points(self) -> list[ExecutionPoint]:
        text = self._ask("condor_status", "-constraint", "PartitionableSlot", "-json",
                         "-attributes", _POINT)  # fmt: skip
        return parse_points(text)

    def burst(self) -> set[str]:
        return set(self._containers())

    def add(self, count: int) -> None:
        total = len(self._containers()) + count
        compose = self._bed.compose
        argv = compose.argv(
            "up", "--detach", "--no-deps", "--no-recreate", "--no-build", "--pull", "never",
            "--scale", f"{SERVICE}={total}", SERVICE,
        )  # fmt: skip
        done = subprocess.run(
            argv, env=compose.environ(), capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode != 0:
            raise TestbedError(
                f"{count} more of {SERVICE} could not be started",
                seen=done.stderr.strip()[-1000:],
                cure=self._bed.command("doctor"),
            )

    def drain(self, name: str) -> None:
        # Its own MaxJobRetirementTime lets jobs end. A name without @ would be looked up in DNS,
        # which does not know it; any slot's is the whole startd's.
        self._ask("condor_drain", "-graceful", "-reason", "testbed autoscale", f"slot1@{name}")

    def remove(self, name: str) -> None:
        container = self._bed.client.containers.get(self._containers()[name])
        container.stop(timeout=15)
        container.remove(v=True)

    def _containers(self) -> dict[str, str]:
        """Name in the pool → the container's id. Source: start-condor-ep."""
        entries: Sequence[Mapping[str, Any]] = self._bed.summaries().get(SERVICE, [])
        return {f"{SERVICE}-{e['Labels'][NUMBER_LABEL]}": e["Id"] for e in entries}

    def _ask(self, *argv: str) -> str:
        done = self._bed.exec("condor-cm", argv, user="root", timeout_s=20)
        if not done.ok:
            raise TestbedError(
                f"{argv[0]} on condor-cm failed", seen=(done.stderr or done.stdout).strip()[-500:]
            )
        return done.stdout


def parse_waiting(text: str) -> list[Waiting]:
    """Read `condor_q -af:t` with what `_WAITING` asks for; jobs that want GPUs are left out."""
    found = []
    for line in text.splitlines():
        job, *numbers = line.split("\t")
        # Without a job a schedd says so in words.
        with contextlib.suppress(ValueError):
            cores, memory_mib, gpus, waits_s = map(float, numbers)
            if not gpus:
                found.append(Waiting(job, Size(int(cores), int(memory_mib)), waits_s))
    return found


def parse_points(text: str) -> list[ExecutionPoint]:
    """Read `condor_status -json` of partitionable slots; those with GPUs are for no other jobs.

    `idle_s` is 1 for one without a job: since when, only whoever looks again can tell.
    """
    ads = json.loads(text) if text.strip() else []
    found = []
    for ad in ads:
        if ad.get("TotalGPUs", 0):
            continue
        busy = ad.get("NumDynamicSlots", 0) > 0
        draining = ad["State"] == "Drained"
        found.append(
            ExecutionPoint(
                name=ad["Machine"],
                free=Size(int(ad["Cpus"]), int(ad["Memory"])),
                burst=ad.get("AfBurst") is True,
                idle_s=0.0 if busy else 1.0,
                draining=draining,
                drained=draining and not busy,
            )
        )
    return found
