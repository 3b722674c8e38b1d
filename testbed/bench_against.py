"""`testbed bench spawn --against stock`: the portal and stock batchspawner in turns, in one run."""

import contextlib
import math
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

from testbed import against, background, orphans, other_jobs, stock_hub
from testbed.bed import Bed
from testbed.bench_spawn import compare_clocks, read_hub_clock
from testbed.errors import ScenarioFailed, TestbedError, UsageError
from testbed.hub_client import HubClient, Options
from testbed.logins import Logins
from testbed.results import LoadSample, Run, SpawnRecord, Target
from testbed.round_trip import RoundTrip
from testbed.site import Site
from testbed.smoke import Verdict, facility_versions
from testbed.waiting import wait_until

Say = Callable[[str], None]

# People's own access point, and the one that is a stock hub's whole pool.
_PEOPLES_AP = "condor-ap"
_NOTEBOOK_POOL = ("-pool", "condor-cm:9619")
# Seconds that a spawn with its cell and stop takes, roughly: for the word how long it will be.
_TYPICAL_S = {"portal": 4.0, "stock": 8.0, "stock_default": 22.0}
_TYPICAL_BURST_S = {"portal": 25.0, "stock": 60.0}


@dataclass(frozen=True)
class Route:
    """One way to a server: whose spawner, on what."""

    target: Target
    backend: str
    hub: str
    client: Callable[[str], HubClient]
    options: Options

    def __str__(self) -> str:
        return f"{self.target.replace('_', ' ')}, {self.backend}"


@dataclass(frozen=True)
class Turn:
    """A route's turn in a round: by itself (`burst` 0), or so many people at once."""

    round: int
    route: Route
    burst: int = 0

    @property
    def typical_s(self) -> float:
        return (_TYPICAL_BURST_S if self.burst else _TYPICAL_S)[self.route.target]


@dataclass(frozen=True)
class Extent:
    """How much is measured.

    `users` of the same backend click together in a turn; some rounds have a burst too.
    `others_every_s` is the mean time between two jobs of other people on either pool; 0: a
    pool that nobody else uses.
    """

    rounds: int
    users: int
    timeout_s: float
    seed: int
    default_pool: bool = True
    bursts: bool = True
    others_every_s: float = 5.0


def run(
    site: Site,
    *,
    environ: Mapping[str, str],
    folder: Path,
    backends: Sequence[str],
    bed: Bed | None,
    extent: Extent,
    say: Say = lambda line: print(line, file=sys.stderr),
) -> Verdict:
    """Measure spawns of the portal and of stock batchspawner, in turns of random order.

    Args:
        site: The testbed's own.
        environ: Where secrets named by variable are looked up.
        folder: The run's report folder; gets `results.json` and the stock hubs' logs.
        backends: Of `htcondor` and `slurm`; others have no rival and are left out.
        bed: The testbed, beside whose schedulers the stock hubs are stood up.
        say: Gets a line of progress now and then.

    Raises:
        UsageError: No testbed, no backend with a rival, or too few people.
        TestbedError: A stock hub does not come up, or a pool takes nobody's jobs.
    """
    if bed is None:
        raise UsageError(
            "--against stock stands stock hubs up beside a testbed",
            seen=f"{site.name} is not this testbed",
            cure="leave --site out",
        )
    rivals = [name for name in backends if name in stock_hub.TUNED]
    if not rivals:
        raise UsageError("no stock spawner for these backends", seen=", ".join(backends))
    bursts = extent.bursts and "htcondor" in rivals
    people = [person.name for person in site.people("student", "person")]
    needed = max(extent.users, against.BURST if bursts else 1)
    if len(people) < needed:
        raise UsageError(f"{needed} people are needed", seen=f"{site.name} has {len(people)}")
    people = people[:needed]
    services = [stock_hub.TUNED[name] for name in rivals]
    if extent.default_pool and "htcondor" in rivals:
        services.append(stock_hub.DEFAULT_POOL)
    measured = Run(
        "bench spawn",
        site.name,
        {
            "against": "stock", "backends": ",".join(rivals), "users": extent.users,
            "rounds": extent.rounds, "timeout_s": extent.timeout_s, "seed": extent.seed,
            "others_every_s": extent.others_every_s,
        },
    )  # fmt: skip
    with (
        Logins(site, environ) as logins,
        stock_hub.run(bed, services, logs=folder, say=say) as hubs,
    ):
        routes = _routes(site, logins, hubs, rivals)
        turns = plan(routes, extent, bursts=bursts)
        typical_min = sum(turn.typical_s for turn in turns) / 60
        say(
            f"{len(turns)} turns in {extent.rounds} rounds, seed {extent.seed}: "
            f"about {typical_min:.0f} min"
        )
        _log_in(routes, people, say)
        bench = _Bench(bed, people, extent, say)
        bench.warm_up(routes)
        before = read_hub_clock(logins)
        aps = [_PEOPLES_AP, *(name for name in services if name == stock_hub.DEFAULT_POOL)]
        others = other_jobs.coming(
            bed, aps, site.people("person")[-1], extent.others_every_s, extent.seed
        )
        crowd = others if "htcondor" in rivals else contextlib.nullcontext(other_jobs.OtherJobs())
        with crowd as jobs:
            for turn in turns:
                bench.take(turn)
                _keep(folder, bench.records)
        if jobs.problems and not jobs.submitted:
            raise TestbedError("nobody else's job was taken", seen=jobs.problems[0])
        after = read_hub_clock(logins)
        comparisons = against.compare(bench.records)
        figures = against.figures(bench.records, comparisons, bench.load)
        figures |= {"other_jobs": jobs.submitted, "other_jobs_refused": len(jobs.problems)}
        own = [record for record in bench.records if record.target == "portal"]
        figures |= compare_clocks(own, after - before)
        failures = [
            f"{r.target}, {r.backend} as {r.user}, round {r.round}: {r.reason}"
            for r in bench.records
            if r.outcome != "ready"
        ]
        failures += against.missed(comparisons)
        try:
            orphans.expect_none(bed, logins.observers(), timeout_s=15)
        except ScenarioFailed as error:
            failures.append(str(error))
        figures["orphans"] = orphans.find(bed, logins.observers()).count
        versions = facility_versions(logins, bed)
    results = measured.results(
        bench.records, figures, versions, failures, comparisons=comparisons, load=bench.load
    )
    results.write(folder)
    return Verdict(results, failures)


def plan(routes: Sequence[Route], extent: Extent, *, bursts: bool) -> list[Turn]:
    """Every turn of the run: in each round each route once, in random order.

    Every third round, and three at the least, has a burst of the portal and one of its rival on
    the same pool too.
    """
    bursts_wanted = min(extent.rounds, max(against.LEAST_ROUNDS, math.ceil(extent.rounds / 3)))
    with_burst = {n * extent.rounds // bursts_wanted for n in range(bursts_wanted)}
    random = Random(extent.seed)  # noqa: S311 - nothing secret
    found = []
    for number in range(extent.rounds):
        turns = [Turn(number, route) for route in routes]
        if bursts and number in with_burst:
            turns += [
                Turn(number, route, against.BURST)
                for route in routes
                if route.backend == "htcondor" and route.target in _TYPICAL_BURST_S
            ]
        random.shuffle(turns)
        found += turns
    return found


def new_seed() -> int:
    """A seed of chance, to be recorded."""
    return secrets.randbelow(2**31)


class _Bench:
    """Takes turns and keeps what they gave."""

    def __init__(self, bed: Bed, people: Sequence[str], extent: Extent, say: Say) -> None:
        self._bed = bed
        self._people = people
        self._extent = extent
        self._say = say
        self.records: list[SpawnRecord] = []
        self.load: list[LoadSample] = []

    def warm_up(self, routes: Sequence[Route]) -> None:
        """A spawn by each route that does not count: what was just started reads its files.

        Raises:
            TestbedError: One failed; no comparison would come of it.
        """
        for route in routes:
            self._say(f"warm-up: {route}")
            record = self._trip(route, self._people[0]).run(0)
            if record.outcome != "ready":
                raise TestbedError(
                    f"{route}: no server in the warm-up", seen=record.reason,
                    cure=f"testbed status; the hub's log is in {self._bed.report_dir}",
                )  # fmt: skip

    def take(self, turn: Turn) -> None:
        """One turn: so many people, or one, from the click until the server is gone."""
        if turn.burst:
            self._free_slots(turn.burst)
        background.settle()
        self.load.append(background.look())
        many = turn.burst or self._users(turn.route)
        first = turn.round * self._extent.users if not turn.burst else 0
        names = [self._people[(first + n) % len(self._people)] for n in range(many)]
        trips = [self._trip(turn.route, name) for name in names]
        with ThreadPoolExecutor(max_workers=many) as pool:
            if turn.burst:
                # All are ready, or failed, before the first one leaves. No cells: the last
                # one's time is to be the spawner's, not that of the others' kernels.
                begun = list(pool.map(lambda trip: trip.begin(turn.round, first_cell=False), trips))
                found = list(
                    pool.map(
                        lambda both: both[0].end(both[1]),
                        zip(trips, begun, strict=True),
                    )
                )
            else:
                found = list(pool.map(lambda trip: trip.run(turn.round), trips))
        told = {"target": turn.route.target, "burst": turn.burst}
        self.records += [record.model_copy(update=told) for record in found]
        spans = [span for r in found if (span := r.since_click("ready")) is not None]
        self._say(
            f"round {turn.round + 1} of {self._extent.rounds}, {turn.route}"
            + (f", {turn.burst} at once" if turn.burst else "")
            + (f": ready after {max(spans):.2f} s" if spans else ": not ready")
            + f" (load {self.load[-1].load_1min:.1f}, CPU {self.load[-1].cpu_busy:.0%} before)"
        )

    def _users(self, route: Route) -> int:
        # The pool with HTCondor's defaults has as many slots as the machine has cores.
        return 1 if route.target == "stock_default" else self._extent.users

    def _trip(self, route: Route, person: str) -> RoundTrip:
        return RoundTrip(
            route.client(person),
            hub=route.hub,
            backend=route.backend,
            options=route.options,
            timeout_s=self._extent.timeout_s,
        )

    def _free_slots(self, wanted: int) -> None:
        """Have so many reserved slots that nobody holds.

        An access point keeps an idle claim for its next server (`keep_claim_idle`); the rival's
        burst would wait for it to end.
        """

        def enough() -> bool:
            if idle := self._slots('State == "Claimed" && Activity == "Idle"'):
                argv = ["condor_vacate", *_NOTEBOOK_POOL, "-fast", *idle]
                self._bed.exec("condor-cm", argv, user="root")
            return len(self._slots('State == "Unclaimed"')) >= wanted

        wait_until(
            enough, 90, what=f"{wanted} reserved slots free", poll_s=1,
            hint="testbed exec condor-cm condor_status -pool condor-cm:9619",
        )  # fmt: skip

    def _slots(self, state: str) -> list[str]:
        argv = ["condor_status", *_NOTEBOOK_POOL, "-constraint", f"AfReserved && {state}"]
        return self._bed.exec("condor-cm", [*argv, "-af", "Name"]).stdout.split()


def _routes(
    site: Site, logins: Logins, hubs: Mapping[str, stock_hub.StockHub], backends: Sequence[str]
) -> list[Route]:
    found = []
    for backend in backends:
        hub = site.hub_for(backend)
        options = site.backend(backend).options

        def portal(person: str, backend: str = backend) -> HubClient:
            return logins.client(person, backend)

        found.append(Route("portal", backend, hub.name, portal, options))
        found.append(Route("stock", backend, "stock", hubs[stock_hub.TUNED[backend]].client, {}))
    if default := hubs.get(stock_hub.DEFAULT_POOL):
        found.append(Route("stock_default", "htcondor", "stock-default", default.client, {}))
    return found


def _log_in(routes: Sequence[Route], people: Sequence[str], say: Say) -> None:
    """Everybody comes in before the first clock starts.

    One after the other: first log-ins at the same moment are a conflict to Keycloak now and then.
    """
    say(f"logging {len(people)} people in")
    for route in routes:
        if route.target == "portal":
            for name in people:
                route.client(name)


def _keep(folder: Path, records: Sequence[SpawnRecord]) -> None:
    """What was measured so far, should the run be broken off."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [record.model_dump_json() for record in records]
    (folder / "spawns.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
