"""The spawn-latency table: when each phase was reached, counted from the click."""

from collections.abc import Iterable, Sequence

from rich.table import Table

from testbed.results import Comparison, SpawnRecord, quantile

COLUMNS = (
    "accepted", "submitted", "matched", "executing", "hello", "http", "routed", "ready",
    "kernel_idle", "first_cell",
)  # fmt: skip


def table(records: Sequence[SpawnRecord], backends: Iterable[str]) -> Table:
    """A row a backend and statistic; seconds since the click on the judge's clock."""
    shown = Table(title="Spawn latency, seconds since the click", title_justify="left")
    shown.add_column("backend")
    shown.add_column("")
    shown.add_column("n", justify="right")
    for phase in COLUMNS:
        shown.add_column(phase.replace("_", " "), justify="right")
    for backend in backends:
        ready = [r for r in records if r.backend == backend and r.outcome == "ready"]
        failed = sum(r.backend == backend and r.outcome != "ready" for r in records)
        count = f"{len(ready)}" + (f" ({failed} failed)" if failed else "")
        for name, q in (("p50", 0.5), ("p95", 0.95), ("max", 1.0)):
            shown.add_row(
                backend if q == 0.5 else "",
                name,
                count if q == 0.5 else "",
                *(_cell(ready, phase, q) for phase in COLUMNS),
                end_section=q == 1.0,
            )
    return shown


def comparisons(found: Iterable[Comparison]) -> Table:
    """A row a comparison with stock batchspawner: medians in seconds, ratio and its interval."""
    shown = Table(title="Against stock batchspawner, click to ready", title_justify="left")
    shown.add_column("")
    for heading in ("portal p50", "n", "stock p50", "n", "ratio", "95 % interval", "goal"):
        shown.add_column(heading, justify="right")
    shown.add_column("")
    for c in found:
        shown.add_row(
            c.title, f"{c.p50_s:.2f}", str(c.n), f"{c.rival_p50_s:.2f}", str(c.rival_n),
            f"{c.ratio:.3f}", f"{c.low:.3f} – {c.high:.3f}", f"{c.goal:g}", c.verdict,
        )  # fmt: skip
    return shown


def _cell(records: Iterable[SpawnRecord], phase: str, q: float) -> str:
    spans = [span for record in records if (span := since_click(record, phase)) is not None]
    value = quantile(spans, q)
    return "–" if value is None else f"{value:.2f}"


def since_click(record: SpawnRecord, phase: str) -> float | None:
    """Seconds from the click until a phase happened; None if it was not reached."""
    happened, click = record.happened_unix_s(phase), record.own_unix_s.get("click")
    return None if happened is None or click is None else happened - click
