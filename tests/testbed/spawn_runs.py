"""Made-up runs with the spread of real ones, for tests of the gate."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from testbed.results import LoadAverage, Machine, Results, SpawnRecord, quantile

_MEASURED = Path(__file__).resolve().parents[1] / "data" / "ready_spans.json"
MACHINE = Machine(cpus=2, memory_mib=24576, architecture="x86_64", kernel="6.1", python="3.11")
# Seconds that each phase takes of a spawn, as measured at a quiet moment.
PHASES = {
    "accepted": 0.02, "submitted": 0.04, "matched": 0.01, "executing": 0.11, "hello": 0.76,
    "http": 0.01, "routed": 0.003, "ready": 0.002, "kernel_idle": 0.47, "first_cell": 0.05,
}  # fmt: skip


def measured_spread() -> list[float]:
    """Real spawns' times to ready over the median of their run and backend."""
    found = []
    for group in json.loads(_MEASURED.read_text(encoding="utf-8")):
        median = quantile(group["ready_s"], 0.5)
        found += [value / median for value in group["ready_s"]]
    return found


def seeded(seed: int) -> Random:
    """Luck that is the same each time, so that a failing test fails again."""
    return Random(seed)  # noqa: S311 - nothing secret


def lognormal(random: Random, p95_over_p50: float = 1.3) -> float:
    """A factor whose 95th percentile is so many times its median."""
    return math.exp(random.gauss(0, math.log(p95_over_p50) / 1.645))


def spawn(
    backend: str = "htcondor",
    *,
    factor: float = 1.0,
    round_number: int = 0,
    slower: Mapping[str, float] | None = None,
    phases: Mapping[str, float] = PHASES,
    hub: str = "htc",
    outcome: str = "ready",
) -> SpawnRecord:
    """A spawn whose phases take `factor` as long as usual, some of them `slower` on top."""
    stamps, now = {"click": 1000.0}, 1000.0
    for name, usual_s in phases.items():
        now += usual_s * factor * (slower or {}).get(name, 1.0)
        stamps[name] = now
    if outcome != "ready":
        stamps = {"click": 1000.0}
    return SpawnRecord(
        user="alice",
        hub=hub,
        backend=backend,
        options={"backend": backend},
        round=round_number,
        outcome=outcome,  # type: ignore[arg-type]
        reason="" if outcome == "ready" else "held",
        own_unix_s=stamps,
    )


def results(
    *spawns: SpawnRecord,
    load: float = 1.4,
    users: int = 1,
    minute: int = 0,
    **more: object,
) -> Results:
    """A run of `bench spawn` on a testbed."""
    at = datetime(2026, 11, 21, 12, minute, tzinfo=UTC)
    told = {
        "command": "bench spawn",
        "site": "af-testbed",
        "begin": at,
        "end": at,
        "machine": MACHINE,
        "versions": {"JUPYTERHUB_VERSION": "6.1.1"},
        "settings": {"users": users, "rounds": len(spawns), "timeout_s": 120.0},
        "load_average_1min": LoadAverage(begin=load, end=load),
        "spawns": spawns,
    }
    return Results.model_validate(told | more)


def run(
    random: Random,
    spawns_each: int = 30,
    *,
    backends: tuple[str, ...] = ("htcondor", "slurm"),
    slower: Mapping[str, float] | None = None,
    spread: list[float] | None = None,
    phases: Mapping[str, float] = PHASES,
    level: float = 1.0,
    **more: object,
) -> Results:
    """So many spawns on each backend, spread as given or with p95 1.3 times the median."""
    made = []
    for backend in backends:
        for number in range(spawns_each):
            luck = random.choice(spread) if spread else lognormal(random)
            made.append(
                spawn(
                    backend,
                    factor=luck * level,
                    round_number=number,
                    slower=slower,
                    phases=phases,
                )
            )
    return results(*made, **more)  # type: ignore[arg-type]
