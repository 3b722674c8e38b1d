"""A run for a merge request (Markdown) and for a CI (JUnit), beside its page."""

from testbed import markup
from testbed.report.causes import causes, reason, server
from testbed.report.numbers import duration, groups, seconds
from testbed.report.plain_text import without_secrets
from testbed.report.series import series_of
from testbed.report.verdict import verdict
from testbed.results import Results

_LATENCIES = ("spawns", "n", "ready p50", "p95", "p99", "first cell p50")
_FIGURES = ("figure", "value", "unit")


def markdown(results: Results) -> str:
    """Verdict, what failed, latencies by series, figures; the machine, for who compares."""
    told = verdict(results)
    all_series = series_of(results.spawns)
    machine = results.machine
    latencies = [
        (
            series.name,
            series.count,
            *(f"{seconds(series.quantile('ready', q))} s" for q in (0.5, 0.95, 0.99)),
            f"{seconds(series.quantile('first_cell', 0.5))} s",
        )
        for series in all_series
    ]
    figures = [
        (figure.name, figure.text, figure.unit)
        for group in groups(results.figures)
        for figure in group.figures
    ]
    failed = [f"{c.count} × {c.reason} ({c.outcome}; {c.example})" for c in causes(all_series)]
    took_s = (results.end - results.begin).total_seconds()
    where = (
        f"{results.site}, {results.begin:%Y-%m-%d %H:%M} UTC, {duration(took_s)}; "
        f"{machine.cpus} CPUs, {machine.memory_mib} MiB"
    )
    parts = [
        f"### testbed {results.command}: {told.word}, {told.sentence}",
        markup.bullets([*told.failures, *failed]),
        markup.table(_LATENCIES, latencies) if latencies else "",
        "<details><summary>Figures</summary>" if figures else "",
        markup.table(_FIGURES, figures) if figures else "",
        "</details>" if figures else "",
        markup.bullets([where]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def junit(results: Results) -> bytes:
    """A test case for each spawn, and one for the checks of the whole run."""
    told = verdict(results)
    cases = [
        markup.Case(
            f"{series.name}",
            f"{server(record)}, round {record.round}",
            "" if record.outcome == "ready" else reason(record),
            failed=record.outcome == "failed",
            broke=record.outcome == "bed_broke",
            seconds=record.since_click("ready"),
        )
        for series in series_of(results.spawns)
        for record in series.records
    ]
    cases.append(markup.Case("run", "checks", "; ".join(told.failures), failed=bool(told.failures)))
    return markup.junit(f"testbed {results.command}", cases, [without_secrets(told.sentence)])
