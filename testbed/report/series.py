"""Spawns that are compared with each other: one series for each backend, hub and variant."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from testbed.latency_table import COLUMNS, since_click
from testbed.report.plain_text import without_secrets
from testbed.results import SpawnRecord, quantile
from testbed.site import BACKENDS

# An option with more values than this is each spawn's own, not a variant that was compared.
_MOST_VARIANTS = 4


@dataclass(frozen=True)
class Series:
    """The spawns of one backend, hub and choice of options, by themselves or in bursts."""

    name: str
    records: tuple[SpawnRecord, ...]

    @property
    def ready(self) -> list[SpawnRecord]:
        return [record for record in self.records if record.outcome == "ready"]

    @property
    def judged(self) -> int:
        """How many say something of the facility: all but those that the harness broke."""
        return sum(record.outcome != "bed_broke" for record in self.records)

    @property
    def failed(self) -> int:
        return sum(record.outcome == "failed" for record in self.records)

    @property
    def broken(self) -> int:
        return len(self.records) - self.judged

    @property
    def count(self) -> str:
        """How many were ready, and how many were not."""
        words = [f"n = {len(self.ready)}"]
        words += [f"{self.failed} failed"] if self.failed else []
        words += [f"{self.broken} broken off"] if self.broken else []
        return ", ".join(words)

    def spans(self, phase: str) -> list[float]:
        """Seconds from the click to a phase, of each ready spawn that got there, in order."""
        found = (since_click(record, phase) for record in self.ready)
        return sorted(span for span in found if span is not None and math.isfinite(span))

    def quantile(self, phase: str, q: float) -> float | None:
        return quantile(self.spans(phase), q)

    def steps(self, q: float) -> list[tuple[str, float, float]]:
        """Each phase with where it begins and ends in seconds since the click.

        An end is the quantile of the time since the click, not a sum of quantiles, so that
        the last one is what the table says. A phase that only some of the spawns have is
        left out: its time belongs to the phase after it.
        """
        found = []
        begin = 0.0
        for phase in COLUMNS:
            spans = self.spans(phase)
            if spans and len(spans) == len(self.ready):
                # Clocks of several machines may put a phase a little before its predecessor.
                end = max(begin, quantile(spans, q) or 0.0)
                found.append((phase, begin, end))
                begin = end
        return found


def series_of(records: Sequence[SpawnRecord]) -> list[Series]:
    """All series of a run, by backend, hub and burst, with names that tell them apart."""
    several_hubs = len({record.hub for record in records}) > 1
    by_route: dict[tuple[str, str, int], list[SpawnRecord]] = {}
    for record in records:
        by_route.setdefault((record.backend, record.hub, record.burst), []).append(record)
    found = []
    for (backend, hub, burst), mine in sorted(by_route.items(), key=lambda item: _order(*item[0])):
        by_variant: dict[str, list[SpawnRecord]] = {}
        compared = _compared(mine)
        for record in mine:
            chosen = (str(record.options[name]) for name in compared if name in record.options)
            by_variant.setdefault(", ".join(chosen), []).append(record)
        for variant in sorted(by_variant):
            crowd = f"{burst} at once" if burst else ""
            parts = (backend, hub if several_hubs else "", crowd, variant)
            name = " · ".join(without_secrets(part) for part in parts if part)
            found.append(Series(name, tuple(by_variant[variant])))
    return found


def _order(backend: str, hub: str, burst: int) -> tuple[int, str, int, str]:
    known = BACKENDS.index(backend) if backend in BACKENDS else len(BACKENDS)
    return known, backend, burst, hub


def _compared(records: Iterable[SpawnRecord]) -> list[str]:
    """The options that differ between spawns of one backend and hub, as variants do."""
    records = list(records)
    names = sorted({name for record in records for name in record.options})
    values = {name: {str(record.options.get(name)) for record in records} for name in names}
    return [name for name in names if 1 < len(values[name]) <= _MOST_VARIANTS]
