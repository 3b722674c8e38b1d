"""What running servers cost a hub's cells: steps of a ramp, and the figures made of them."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from testbed.results import SpawnRecord, quantile, spans

_LEVELS = (1, 10, 30, 100, 300)


@dataclass(frozen=True)
class Extent:
    """How much is measured.

    Args:
        servers: running at once in the last step, over all backends together.
        at_once: spawns under way at a time.
        window_s: how long each step's running servers are watched.
        last_window_s: the same for the last step.
        timeout_s: longest wait for a server, and for its end.
        stand_ins: light ones; False: JupyterLab, as people have it.
        against_stock: also so many on stock hubs, watched in the same window as the last step's.
    """

    servers: int
    at_once: int = 8
    window_s: float = 60.0
    last_window_s: float = 600.0
    timeout_s: float = 300.0
    stand_ins: bool = True
    against_stock: bool = False

    @property
    def levels(self) -> list[int]:
        """How many run in each step, the last one's included."""
        return [*(level for level in _LEVELS if level < self.servers), self.servers]

    @property
    def kind(self) -> str:
        """What a server is, for results."""
        return "stand-in" if self.stand_ins else "JupyterLab"


@dataclass(frozen=True)
class Step:
    """One level of a ramp, all cells of the hub together.

    Args:
        servers: asked for, running or not.
        held: ready at the window's end, by the hub.
        spawns: begun in this step.
        failed: of those.
        spawn_p50_s, spawn_p95_s, spawn_p99_s: click to ready; None of no spawn.
        grow_s: from the first click of the step to its last ready.
        grow_cpu_s: the hub's CPU meanwhile.
        window_s: for how long it was watched while nothing began or ended.
        hub_cpu_s: CPU of the hubs' processes and their commands in the window.
        hub_memory_mib: resident, at its end.
        queries: sent to each scheduler in the window.
        nodes_memory_mib: of all that runs jobs, at the window's end.
        load_1min: of the machine before the step.
    """

    servers: int
    held: int
    spawns: int
    failed: int
    spawn_p50_s: float | None
    spawn_p95_s: float | None
    spawn_p99_s: float | None
    grow_s: float
    grow_cpu_s: float
    window_s: float
    hub_cpu_s: float
    hub_memory_mib: float
    queries: dict[str, float]
    nodes_memory_mib: float
    load_1min: float

    @property
    def cpu_s_per_min(self) -> float:
        """CPU seconds of the hub in a minute."""
        return self.hub_cpu_s * 60 / self.window_s

    @property
    def queries_per_s(self) -> float:
        """To all schedulers together."""
        return sum(self.queries.values()) / self.window_s


def latency(records: Sequence[SpawnRecord], q: float) -> float | None:
    """A quantile of click to ready over all backends."""
    found = [s for b in {r.backend for r in records} for s in spans(records, b, "ready")]
    value = quantile(found, q)
    return None if value is None else round(value, 4)


def figures(steps: Sequence[Step], records: Sequence[SpawnRecord]) -> dict[str, float]:
    """The figures of `bench scale`; slopes are between the first and the last step.

    Args:
        steps: Of one ramp, in order.
        records: Of every spawn in it.
    """
    found: dict[str, float] = {
        "servers_max": max((step.held for step in steps), default=0),
        "spawns": len(records),
        "failed": sum(record.outcome != "ready" for record in records),
    }
    if not steps:
        return found
    first, last = steps[0], steps[-1]
    more = last.held - first.held
    found |= {
        "hub_cpu_percent": round(100 * last.hub_cpu_s / last.window_s, 2),
        "hub_memory_mib": round(last.hub_memory_mib, 1),
        "queries_per_s": round(last.queries_per_s, 4),
    }
    for scheduler, count in last.queries.items():
        found[f"{scheduler}_queries_per_s"] = round(count / last.window_s, 4)
    if begun := sum(step.spawns for step in steps):
        found["hub_cpu_ms_per_spawn"] = round(1000 * sum(s.grow_cpu_s for s in steps) / begun, 1)
    if more > 0:
        idle_ms = 1000 * (last.cpu_s_per_min - first.cpu_s_per_min)
        found |= {
            "hub_cpu_ms_per_server_min": round(idle_ms / more, 3),
            "hub_memory_kib_per_server": round(
                1024 * (last.hub_memory_mib - first.hub_memory_mib) / more, 1
            ),
            "node_memory_mib_per_server": round(
                (last.nodes_memory_mib - first.nodes_memory_mib) / more, 2
            ),
        }
    newest = [record for record in records if record.round == len(steps) - 1]
    for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        if (value := latency(newest, q)) is not None:
            found[f"spawn_{name}_s"] = value
    for backend in sorted({record.backend for record in newest}):
        if (value := quantile(spans(newest, backend, "ready"), 0.5)) is not None:
            found[f"{backend}_ready_p50_s"] = round(value, 4)
    return found


def first_broken(step: Step, records: Sequence[SpawnRecord], *, short_of_memory: bool) -> str:
    """What broke in a step, if anything did: the reason that the ramp ends, in words.

    Args:
        records: Of the spawns of this step.
    """
    if short_of_memory:
        return f"the machine's memory: no room for more than {step.held} servers"
    if step.failed:
        why = next(r for r in records if r.outcome != "ready")
        told = why.reason.splitlines()[0] if why.reason else why.cause
        return f"{step.failed} of {step.spawns} spawns failed; the first, on {why.backend}: {told}"
    if step.held < step.servers:
        return f"{step.servers - step.held} of {step.servers} servers were lost while they ran"
    return ""


def write(
    folder: Path, steps: Sequence[Step], broke: str, extent: Extent, *, cells: int = 1
) -> Path:
    """Write `scale.json`: every step, under what conditions, and what broke first."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "scale.json"
    told = {
        "servers_are": extent.kind,
        "cells": cells,
        "at_once": extent.at_once,
        "cores": os.cpu_count(),
        "first_broken": broke,
        "steps": [asdict(s) for s in steps],
    }
    path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return path
