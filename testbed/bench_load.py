"""`testbed bench load`: people by behaviour and shape, every visit on record, nothing left over."""

import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from testbed import causes, orphans, settings, usage
from testbed.bed import Bed
from testbed.bench_spawn import breaches, compare_clocks
from testbed.errors import ScenarioFailed
from testbed.hub_metrics import SPAWN_DURATION, HubMetrics, Spread
from testbed.job_watch import JobWatch
from testbed.load_plan import LoadPlan
from testbed.load_process import ALONE, NOTES, LoadProcess, Page, Part, Say
from testbed.logins import Logins
from testbed.open_visits import OpenVisits
from testbed.results import Results, Run, SpawnRecord, latency_figures, quantile, spans
from testbed.site import Site
from testbed.smoke import Verdict, facility_versions, orphans_left

# How far our clock and the hub's metric may be apart in the mean, whichever is more.
_CLOCK_RATIO, _CLOCK_S = 0.10, 0.05
# Enough to tell visits' causes apart; the records have all.
_MOST_REASONS = 20


def run(
    site: Site,
    site_file: Path,
    plan: LoadPlan,
    *,
    environ: Mapping[str, str],
    folder: Path,
    loadtests_folder: Path,
    bed: Bed | None = None,
    part: Part = ALONE,
    page: Page | None = None,
    say: Say = lambda line: print(line, file=sys.stderr),
) -> Verdict:
    """Let people come as a plan has it, and judge what became of them.

    Whatever happens, every server that was begun is stopped before this returns, or named.

    Args:
        site: Where, read from `site_file`.
        environ: Handed to Locust, whose people read their secrets.
        folder: The run's report folder; gets `results.json` and Locust's log.
        loadtests_folder: Where `load.py`, `compute.ipynb` and `thresholds.toml` are.
        bed: The testbed behind the site, where there is one: its queues and records are asked.
        part: For a distributed run. A worker hands its records to its master.
        page: Show Locust's page meanwhile.

    Raises:
        TestbedError: Locust itself broke.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shape = plan.made()
    measured = Run("bench load", site.name, _settings(plan, part))
    failures = _sweep_dead_runs(site.folder / NOTES, say)
    watch = JobWatch(lambda: orphans.jobs(bed) if bed else ())
    with Logins(site, environ) as logins:
        observed = bool(site.people("observer")) and not part.master
        before = _hub_clock(logins, failures) if observed else None
        load = LoadProcess(
            site, site_file, plan, folder, loadtests_folder, environ, part, page, say
        )
        failures += load.run(watch)
        after = _hub_clock(logins, failures) if before else None
        records = watch.records
        figures = summary(records)
        figures |= {"turned_away": load.turned_away, "left_behind": load.left_behind}
        if before and after:
            clock = compare_clocks(_as_the_hub_counts(records), after - before)
            figures |= clock
            failures += clock_failures(clock, alone=bed is not None)
        failures += _reasons(records)
        if not part.master:
            planned = plan.people if shape.again else len(shape.arrivals_s) - load.turned_away
            told = tomllib.loads((loadtests_folder / "thresholds.toml").read_text("utf-8"))
            limits = {**told.get("load", {}), "failed": told.get("failed", 0.0)}
            failures += breaches(records, [plan.backend], limits, planned=planned)
        if watch.waiting:
            failures.append(f"jobs that outlived their servers: {watch}")
        # Kept before the queues are asked: a testbed that broke by now must not take them along.
        versions = _versions(logins, bed)
        measured.results(records, figures, versions, failures).write(folder)
        left = None if part.master else orphans_left(bed, logins, site, failures)
        if left is not None:
            figures["orphans"] = left
        if bed is not None and not part.master:
            used = usage.of_records(bed, records, measured.begin.timestamp())
            failures += usage.differences(records, used)
            figures |= {"jobs": len(used), "job_core_s": sum(j.wall_s * j.cores for j in used)}
    results: Results = measured.results(records, figures, versions, failures)
    results.write(folder)
    return Verdict(results, failures)


def summary(records: Sequence[SpawnRecord]) -> dict[str, float]:
    """Counts, failures by cause, and medians; a figure without a value is left out."""
    figures: dict[str, float] = {
        "visits": len(records),
        "people": len({record.user for record in records}),
        "failed": sum(record.outcome != "ready" for record in records),
    }
    figures |= causes.counted(records)
    backends = sorted({record.backend for record in records})
    figures |= latency_figures(records, backends)
    for backend in backends:
        ready = spans(records, backend, "ready")
        for name, q in (("p95", 0.95), ("p99", 0.99), ("max", 1.0)):
            if (value := quantile(ready, q)) is not None:
                figures[f"{backend}_ready_{name}_s"] = round(value, 4)
    for name, begin, end in (
        ("login", "login_asked", "logged_in"),
        ("page", "page_asked", "page_shown"),
        ("computed", "first_cell", "computed"),
        ("stopped", "stop_asked", "gone"),
        ("job_gone", "stop_asked", "job_gone"),
    ):
        found = [span for record in records if (span := record.span(begin, end)) is not None]
        if (value := quantile(found, 0.5)) is not None:
            figures[f"{name}_p50_s"] = round(value, 4)
    return figures


def clock_failures(clock: Mapping[str, float], *, alone: bool = True) -> list[str]:
    """What is wrong with our clock by the hub's own metric, from `compare_clocks`' figures.

    Args:
        alone: Nobody else spawns there meanwhile, so that the counts must agree.
    """
    own, hub = clock["clock_own_count"], clock["clock_hub_metric_count"]
    if not own:
        return []  # a hub that does not tell when it accepted, or no server at all
    if own != hub:
        told = f"our clock has {own:g} spawns, the hub's own metric {hub:g}"
        return [told] if alone else []
    ours, theirs = clock["clock_own_mean_s"], clock["clock_hub_metric_mean_s"]
    allowed = max(_CLOCK_RATIO * theirs, _CLOCK_S)
    if abs(ours - theirs) > allowed:
        return [
            f"our clock has {ours:.3f} s in the mean, the hub's own metric {theirs:.3f} s for the "
            f"same {own:g} spawns; {allowed:.3f} s apart is the limit"
        ]
    return []


def _sweep_dead_runs(place: Path, say: Say) -> list[str]:
    """Stop what dead runs left; what cannot be stopped, a line each."""
    lines = []
    for notes in OpenVisits.of_dead_runs(place):
        left = notes.left()
        if left:
            say(f"a load that died left {len(left)} servers: stopping them")
        swept = notes.sweep()
        lines += [f"from a load that died: {line}" for line in swept.why]
        if not swept.left:
            notes.remove()
    return lines


def _as_the_hub_counts(records: Sequence[SpawnRecord]) -> list[SpawnRecord]:
    """Records whose server answered count as ready, as they do for the hub: no kernel is in it."""
    return [
        record.model_copy(update={"outcome": "ready"})
        for record in records
        if "http" in record.own_unix_s
    ]


def _reasons(records: Sequence[SpawnRecord]) -> list[str]:
    """A line for each failed visit, the first ones."""
    lines = [
        f"{record.cause or 'other'}: {record.behaviour} {record.user}, visit {record.round}: "
        f"{record.reason}"
        for record in records
        if record.outcome != "ready"
    ]
    more = len(lines) - _MOST_REASONS
    return lines[:_MOST_REASONS] + ([f"and {more} more failed visits"] if more > 0 else [])


def _settings(plan: LoadPlan, part: Part) -> dict[str, str | int | float | bool | None]:
    made = plan.model_dump()
    return {
        **made,
        "behaviours": ",".join(plan.behaviours),
        "backends": plan.backend,
        "users": plan.people,
        "workers": part.workers,
    }


def _hub_clock(logins: Logins, failures: list[str]) -> Spread | None:
    try:
        return HubMetrics.read(*logins.observers()).spread(SPAWN_DURATION, status="success")
    except ScenarioFailed as error:
        failures.append(f"the hub's own metric cannot be read: {error}")
        return None


def _versions(logins: Logins, bed: Bed | None) -> dict[str, str]:
    """As far as a facility that may be down tells them."""
    try:
        return facility_versions(logins, bed)
    except ScenarioFailed:
        return settings.versions(bed.settings) if bed else {}
