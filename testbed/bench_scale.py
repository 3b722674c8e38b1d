"""`testbed bench scale`: 1 … 1,000 running servers on a hub's cells, and what they cost them."""

import math
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from testbed import (
    background,
    hub_process,
    orphans,
    scale_against,
    scale_steps,
    stand_in_pool,
)
from testbed.bed import Bed
from testbed.errors import ScenarioFailed, UsageError
from testbed.hub_client import HubClient
from testbed.hub_metrics import QUERIES, HubMetrics
from testbed.hub_process import Meter
from testbed.logins import Logins
from testbed.results import LoadSample, Run
from testbed.scale_crowd import Crowd, patiently
from testbed.scale_steps import Extent, Step
from testbed.site import Hub, Site
from testbed.smoke import Verdict, facility_versions
from testbed.waiting import wait_until

Say = Callable[[str], None]

STAND_IN = {"class": "stand-in", "environment": "stand-in"}
# A person's servers at a time: Slurm's normal QOS allows 40 jobs of one person.
_MOST_A_PERSON = 40
# After a step's last spawn the monitors ask in their slow rhythm again.
_SETTLE_S = 12.0


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
    """Start servers in steps on a hub's instances, watch what each step costs, and end them all.

    Args:
        site: The testbed's own.
        environ: Where secrets named by variable are looked up.
        folder: The run's report folder; gets `results.json` and `scale.json`.
        backends: Servers are spread over them in turn, on the first hub that offers them all; over
            its instances as the front door spreads people.
        bed: The testbed behind the site.
        say: Gets a line of progress now and then.

    Raises:
        UsageError: No testbed, no hub with these backends, or too few people.
        TestbedError: The hub does not come up with stand-ins, or the nodes for them do not.
    """
    if bed is None:
        raise UsageError(
            "bench scale makes room for its servers in a testbed",
            seen=f"{site.name} is not this testbed",
            cure="leave --site out",
        )
    hub = site.hub_for(*backends)
    names = [person.name for person in site.people("student")][: extent.servers]
    if extent.servers > len(names) * _MOST_A_PERSON:
        raise UsageError(
            f"{extent.servers} servers asked; {len(names)} students may have {_MOST_A_PERSON} each",
            cure=f"--servers {len(names) * _MOST_A_PERSON}, or more students in "
            "compose/ldap/config/people.json",
        )
    measured = Run(
        "bench scale",
        site.name,
        {
            "servers": extent.servers, "servers_are": extent.kind,
            "backends": ",".join(backends), "instances": ",".join(hub.instances),
            "people": len(names),
            "at_once": extent.at_once, "window_s": extent.window_s,
            "last_window_s": extent.last_window_s, "timeout_s": extent.timeout_s,
            "against": "stock" if extent.against_stock else "",
        },
    )  # fmt: skip
    slots = math.ceil(extent.servers / len(backends)) * (2 if extent.against_stock else 1)
    rival: dict[str, float] = {}
    rival_failures: list[str] = []
    with (
        stand_in_pool.offered(bed, hub.instances, slots, say=say),
        Logins(site, environ) as logins,
    ):
        say(f"logging {len(names)} people in at {', '.join(hub.instances)}")
        crowd = Crowd(
            hub.name,
            [_logged_in(logins, name, hub) for name in names],
            {b: STAND_IN if extent.stand_ins else site.backend(b).options for b in backends},
            at_once=extent.at_once,
            timeout_s=extent.timeout_s,
        )
        if swept := crowd.sweep():
            say(f"ended {swept} servers that an earlier run left")
        observers = [logins.observer(instance) for instance in hub.instances]
        bench = _Bench(bed, observers, crowd, extent, folder, say)
        try:
            bench.ramp()
            if extent.against_stock and not bench.broke:
                rival, rival_failures = scale_against.compare(
                    bed, bench.meters, names, backends, extent, folder, say
                )
        finally:
            say(f"ending {crowd.asked} servers")
            crowd.end()
        failures = [line for line in (bench.broke, *rival_failures, *crowd.left_over) if line]
        try:
            orphans.expect_none(bed, logins.observers(), timeout_s=60)
        except ScenarioFailed as error:
            failures.append(str(error))
        figures = scale_steps.figures(bench.steps, crowd.records) | rival
        figures["orphans"] = orphans.find(bed, logins.observers()).count
        versions = facility_versions(logins, bed)
    results = measured.results(crowd.records, figures, versions, failures, load=bench.load)
    results.write(folder)
    return Verdict(results, failures)


def _logged_in(logins: Logins, name: str, hub: Hub) -> HubClient:
    """Somebody's client; a log-in that fails now and then on a busy machine is tried again."""
    return wait_until(
        lambda: logins.client(name, hub=hub),
        120,
        what=f"{name} logged in at {hub.name}",
        poll_s=5,
        retry_on=(ScenarioFailed,),
    )


class _Bench:
    """Takes one step after the other, and keeps what each cost."""

    def __init__(
        self,
        bed: Bed,
        observers: Sequence[HubClient],
        crowd: Crowd,
        extent: Extent,
        folder: Path,
        say: Say,
    ) -> None:
        self._bed = bed
        self._observers = observers
        self._crowd = crowd
        self._extent = extent
        self._folder = folder
        self._say = say
        self.steps: list[Step] = []
        self.load: list[LoadSample] = []
        self.broke = ""
        self.meters = [
            Meter(bed, f"hub-{observer.instance}", partial(self._asked, observer))
            for observer in observers
        ]

    def ramp(self) -> None:
        """Every step, until one breaks."""
        levels = self._extent.levels
        for number, level in enumerate(levels):
            is_last = number == len(levels) - 1
            # Beside stock the last step's servers are watched again, for that long.
            long = is_last and not self._extent.against_stock
            window_s = self._extent.last_window_s if long else self._extent.window_s
            self._step(number, level, window_s)
            scale_steps.write(
                self._folder, self.steps, self.broke, self._extent, cells=len(self.meters)
            )
            if self.broke:
                self._say(f"broke first: {self.broke}")
                return

    def _step(self, number: int, level: int, window_s: float) -> None:
        self.load.append(background.look())
        began, before_s = time.monotonic(), self._cpu_s()
        records = self._crowd.grow(level, number)
        grow_cpu_s = self._cpu_s() - before_s
        grow_s = time.monotonic() - began
        failed = sum(record.outcome != "ready" for record in records)
        threading.Event().wait(_SETTLE_S)
        window = hub_process.together(hub_process.watch(self.meters, window_s))
        held = self._held()
        step = Step(
            servers=level,
            held=held,
            spawns=len(records),
            failed=failed,
            spawn_p50_s=scale_steps.latency(records, 0.5),
            spawn_p95_s=scale_steps.latency(records, 0.95),
            spawn_p99_s=scale_steps.latency(records, 0.99),
            grow_s=round(grow_s, 2),
            grow_cpu_s=round(grow_cpu_s, 2),
            window_s=window.window_s,
            hub_cpu_s=window.cpu_s,
            hub_memory_mib=window.memory_mib,
            queries=window.queries,
            nodes_memory_mib=round(self._nodes_memory(), 1),
            load_1min=self.load[-1].load_1min,
        )
        self.steps.append(step)
        self.broke = scale_steps.first_broken(
            step, records, short_of_memory=self._crowd.short_of_memory
        )
        self._say(
            f"{held} of {level} {self._extent.kind} servers: spawn p50 {step.spawn_p50_s} s, "
            f"p95 {step.spawn_p95_s} s; hub {step.cpu_s_per_min:.2f} CPU s a minute, "
            f"{step.hub_memory_mib:.0f} MiB, {step.queries_per_s:.2f} queries/s "
            f"(load {step.load_1min:.1f})"
        )

    def _cpu_s(self) -> float:
        return sum(hub_process.read(self._bed, meter.service).cpu_s for meter in self.meters)

    def _asked(self, observer: HubClient) -> dict[str, float]:
        metrics = patiently(lambda: HubMetrics.read(observer))
        metrics.require(QUERIES)
        return {name: metrics.total(QUERIES, scheduler=name) for name in self._crowd.options}

    def _held(self) -> int:
        running = {
            (person, name)
            for observer in self._observers
            for person, servers in patiently(observer.all_servers).items()
            for name, server in servers.items()
            if server.get("ready")
        }
        return len(self._crowd.ready & running)

    def _nodes_memory(self) -> float:
        return sum(
            mib
            for service, mib in self._bed.memory_mib().items()
            if service.startswith(("condor-ep", "slurm-node"))
        )
