"""`testbed bench spawn`: run the spawn load, judge its records, check our clock by the hub's."""

import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from testbed import orphans
from testbed.bed import Bed
from testbed.errors import ScenarioFailed, TestbedError, UsageError
from testbed.hub_metrics import SPAWN_DURATION, HubMetrics, Spread
from testbed.logins import Logins
from testbed.results import Results, Run, SpawnRecord, latency_figures, quantile, spans
from testbed.site import Site
from testbed.smoke import Verdict, facility_versions

# Locust's own code for 'some request failed'; the records say which, so it is no breakage.
_LOCUST_SAW_FAILURES = 1


def run(
    site: Site,
    site_file: Path,
    *,
    environ: Mapping[str, str],
    folder: Path,
    loadtests_folder: Path,
    backends: Sequence[str],
    users: int = 1,
    rounds: int = 10,
    timeout_s: float = 120.0,
    bed: Bed | None = None,
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> Verdict:
    """Measure spawns under load, one backend after the other.

    Args:
        site: What to measure, read from `site_file`.
        environ: Handed to Locust, whose users read their secrets.
        folder: The run's report folder; gets `results.json` and Locust's logs.
        loadtests_folder: Where `spawn.py` and `thresholds.toml` are.
        backends: On which to spawn.
        users: How many people at once.
        rounds: Spawns a person.
        timeout_s: Longest wait for a server, a kernel, a cell and a stop, each.
        bed: The testbed behind the site, where there is one: searched for orphans at the end.
        say: Gets a line of progress now and then.

    Raises:
        UsageError: A backend the site does not have, or a count below 1.
        TestbedError: Locust itself broke.
    """
    if users < 1 or rounds < 1:
        raise UsageError("users and rounds count from 1", seen=f"{users} users, {rounds} rounds")
    for backend in backends:
        site.backend(backend)
    folder.mkdir(parents=True, exist_ok=True)
    thresholds = tomllib.loads((loadtests_folder / "thresholds.toml").read_text(encoding="utf-8"))
    measured = Run(
        "bench spawn",
        site.name,
        {"backends": ",".join(backends), "users": users, "rounds": rounds, "timeout_s": timeout_s},
    )
    records: list[SpawnRecord] = []
    with Logins(site, environ) as logins:
        observed = bool(site.people("observer"))
        before = read_hub_clock(logins) if observed else None
        for backend in backends:
            say(f"{backend}: {users} users, {rounds} spawns each")
            records += _load(
                site_file, backend, users, rounds, timeout_s, folder, loadtests_folder, environ
            )
        after = read_hub_clock(logins) if observed else None
        figures = latency_figures(records, backends) | _summary(records)
        failures = [
            f"{r.backend} as {r.user}, round {r.round}: {r.reason}"
            for r in records
            if r.outcome != "ready"
        ]
        if before and after:
            figures |= compare_clocks(records, after - before)
        failures += breaches(records, backends, thresholds, planned=users * rounds)
        # Kept before the queues are asked: a testbed that broke by now must not take them along.
        versions = facility_versions(logins, bed)
        measured.results(records, figures, versions, failures).write(folder)
        if bed is not None and observed:
            try:
                orphans.expect_none(bed, logins.observers(), timeout_s=15)
            except ScenarioFailed as error:
                failures.append(str(error))
            figures["orphans"] = orphans.find(bed, logins.observers()).count
    results: Results = measured.results(records, figures, versions, failures)
    results.write(folder)
    return Verdict(results, failures)


def compare_clocks(records: Sequence[SpawnRecord], metric: Spread) -> dict[str, float]:
    """Our own accepted → HTTP up beside the hub's metric of the same span and run.

    The ratio is left out where the counts differ: then others spawned meanwhile, and the
    two are not of the same spawns.

    Source: jupyterhub 6.1.1 `handlers/base.py`: the metric runs from the request until the
    server answers HTTP; route and kernel are not in it.
    """
    own = []
    for record in records:
        accepted, http = (record.happened_unix_s(phase) for phase in ("accepted", "http"))
        if record.outcome == "ready" and accepted is not None and http is not None:
            own.append(http - accepted)
    figures: dict[str, float] = {
        "clock_own_count": len(own),
        "clock_hub_metric_count": metric.count,
    }
    if own:
        figures["clock_own_mean_s"] = round(sum(own) / len(own), 4)
    if metric.mean_s:
        figures["clock_hub_metric_mean_s"] = round(metric.mean_s, 4)
        if len(own) == metric.count:
            figures["clock_vs_hub_metric_ratio"] = round(sum(own) / len(own) / metric.mean_s, 4)
    return figures


def breaches(
    records: Sequence[SpawnRecord],
    backends: Sequence[str],
    thresholds: Mapping[str, object],
    *,
    planned: int,
) -> list[str]:
    """What of the thresholds was not kept, a line each.

    Args:
        thresholds: As `thresholds.toml` has them.
        planned: Spawns that each backend should have had.
    """
    found = []
    for backend in backends:
        mine = [record for record in records if record.backend == backend]
        if len(mine) < planned:
            found.append(f"{backend}: {len(mine)} of {planned} spawns were done")
        failed = sum(record.outcome != "ready" for record in mine)
        allowed = float(str(thresholds.get("failed", 0.0)))
        if mine and failed / len(mine) > allowed:
            found.append(f"{backend}: {failed} of {len(mine)} spawns failed; {allowed:.0%} may")
        limits = thresholds.get(backend, {})
        for name, limit in limits.items() if isinstance(limits, Mapping) else ():
            phase, q = str(name).removesuffix("_s").rsplit("_p", 1)
            value = quantile(spans(records, backend, phase), int(q) / 100)
            if value is not None and value > float(limit):
                found.append(f"{backend}: {name} is {value:.2f}; {float(limit):g} is the limit")
    return found


def _summary(records: Sequence[SpawnRecord]) -> dict[str, float]:
    figures: dict[str, float] = {
        "spawns": len(records),
        "failed": sum(record.outcome != "ready" for record in records),
    }
    for backend in {record.backend for record in records}:
        ready = spans(records, backend, "ready")
        for name, q in (("p95", 0.95), ("p99", 0.99), ("max", 1.0)):
            value = quantile(ready, q)
            if value is not None:
                figures[f"{backend}_ready_{name}_s"] = round(value, 4)
    return figures


def read_hub_clock(logins: Logins) -> Spread:
    return HubMetrics.read(*logins.observers()).spread(SPAWN_DURATION, status="success")


def _load(
    site_file: Path,
    backend: str,
    users: int,
    rounds: int,
    timeout_s: float,
    folder: Path,
    loadtests_folder: Path,
    environ: Mapping[str, str],
) -> list[SpawnRecord]:
    """Run Locust in a process of its own, since it changes the standard library's sockets."""
    # Each round waits at most for a server, a kernel, a cell and a stop.
    longest_s = int(4 * timeout_s * rounds) + 60
    with tempfile.TemporaryDirectory() as scratch:
        spawns = Path(scratch) / "spawns.jsonl"
        log = folder / f"locust-{backend}.log"
        argv = [
            sys.executable, "-m", "locust", "--headless", "--skip-log-setup", "--only-summary",
            "-f", str(loadtests_folder / "spawn.py"),
            "--users", str(users), "--spawn-rate", str(users), "--run-time", f"{longest_s}s",
            "--site", str(site_file), "--backend", backend, "--rounds", str(rounds),
            "--spawn-timeout", f"{timeout_s:g}", "--records", str(spawns),
        ]  # fmt: skip
        with log.open("w", encoding="utf-8") as out:
            try:
                done = subprocess.run(
                    argv,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env=dict(environ),
                    timeout=longest_s + 120,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise TestbedError(
                    f"Locust did not end within {longest_s + 120} s", seen=f"log {log}"
                ) from error
        if done.returncode not in (0, _LOCUST_SAW_FAILURES):
            tail = "\n".join(log.read_text(encoding="utf-8").splitlines()[-15:])
            raise TestbedError(f"Locust ended with {done.returncode}", seen=tail, cure=f"see {log}")
        lines = spawns.read_text(encoding="utf-8").splitlines() if spawns.is_file() else []
    if not lines:
        raise TestbedError("Locust recorded no spawn", cure=f"see {log}")
    return [SpawnRecord.model_validate_json(line) for line in lines]
