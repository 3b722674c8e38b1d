"""How soon a Dask cluster's first worker is there, and what batch workers are worth.

All is done in one person's session, as in a notebook, and in turns.
"""

import itertools
import statistics
from collections.abc import Callable
from pathlib import Path

import nbformat

from testbed.dask_sessions import Cell, DaskSession
from testbed.errors import ScenarioFailed

Say = Callable[[str], None]

CLUSTERS = {"htcondor": "HTCondorCluster", "slurm": "SLURMCluster"}
_GOAL = 2  # workers, of one thread each
_FIRST = """
import time
began = time.perf_counter()
cluster.scale(1)
client.wait_for_workers(1, timeout=120)
print(time.perf_counter() - began)
"""
# Each worker has loaded what the analysis needs, and the cache has the files: a run before those
# that count.
_LOCAL = """
from distributed import Client, LocalCluster
local = LocalCluster(n_workers={workers}, threads_per_worker=1, dashboard_address=None)
local_client = Client(local, set_as_default=False)
"""
_MET = """
import time
executor = processor.DaskExecutor(client={client}, status=False, compression=None)
run = processor.Runner(executor, schema=NanoAODSchema, chunksize=50_000, savemetrics=True)
began = time.perf_counter()
found, metrics = run(fileset, MissingEnergy())
took_s = time.perf_counter() - began
assert found["counts"] == manifest["counts"], found["counts"]
assert found["chunks"] == manifest["chunks"] >= 40
print(metrics["entries"] / took_s)
"""


def first_workers(session: DaskSession, rounds: int, say: Say) -> dict[str, float]:
    """Measure `first_dask_worker_htcondor_s` and `first_dask_worker_slurm_s`, medians.

    From `scale(1)` of a cluster that stands until the worker is there: queue, start, TLS.
    """
    took: dict[str, list[float]] = {scheduler: [] for scheduler in CLUSTERS}
    for number in range(rounds):
        for scheduler, kind in CLUSTERS.items():
            with session.cluster(kind) as cell:
                took[scheduler].append(float(cell(_FIRST)))
            say(f"round {number + 1}: first worker on {scheduler} {took[scheduler][-1]:.2f} s")
    return {
        f"first_dask_worker_{scheduler}_s": round(statistics.median(times), 2)
        for scheduler, times in took.items()
    }


def met_cells(home: Path) -> str:
    """What the MET notebook does before it runs, as one cell: its processor and its files.

    Args:
        home: The repository, or what the wheel has of it.

    Raises:
        ScenarioFailed: It is another notebook than this module knows.
    """
    book = nbformat.read(home / "scenarios/notebooks/data/met.ipynb", as_version=4)
    code = (cell.source for cell in book.cells if cell.cell_type == "code")
    imports, processor, run = itertools.islice(code, 3)
    fileset, found, _ = run.partition("# Threads:")
    if not found or "class MissingEnergy" not in processor:
        raise ScenarioFailed("the MET notebook has changed: bench_dask takes its parts from it")
    return f"{imports}\n{processor}\n{fileset}"


def met(cell: Cell, client: str = "client") -> float:
    """Run the MET analysis on a client's cluster; returns events a second.

    Raises:
        CellFailed: Its counts are not those that were taken when the files were made.
    """
    return float(cell(_MET.replace("{client}", client)))


def met_batch_vs_local(
    session: DaskSession, home: Path, scheduler: str, rounds: int, say: Say
) -> dict[str, float]:
    """Measure `met_batch_vs_local_ratio`: events a second on 2 batch workers, as a share of those
    on 2 local processes; medians of runs in turns, after one of each that does not count."""
    batch: list[float] = []
    local: list[float] = []
    session.run(met_cells(home))
    with session.cluster(CLUSTERS[scheduler]) as cell:
        cell(f"cluster.scale({_GOAL})\nclient.wait_for_workers({_GOAL}, timeout=120)")
        cell(_LOCAL.format(workers=_GOAL))
        try:
            for number in range(rounds + 1):
                speeds = met(cell), met(cell, "local_client")
                say(f"MET run {number}: batch {speeds[0]:.0f}, local {speeds[1]:.0f} events/s")
                if number:
                    batch.append(speeds[0])
                    local.append(speeds[1])
        finally:
            cell("local_client.close(); local.close()")
    return {
        "met_batch_vs_local_ratio": round(statistics.median(batch) / statistics.median(local), 3),
        "met_batch_events_s": round(statistics.median(batch)),
        "met_local_events_s": round(statistics.median(local)),
    }
