"""What a run says in one line, and what of it was not as promised."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from testbed.report.numbers import counted
from testbed.report.plain_text import shortened, without_secrets
from testbed.results import Results

# Figures that count what must not be.
_MUST_BE_NONE = ("notebooks_failed", "orphans")


@dataclass(frozen=True)
class Verdict:
    """The word, the sentence after it, and the failures that are not single spawns'."""

    word: Literal["Passed", "Failed", "Measured", "Broke"]
    sentence: str
    failures: tuple[str, ...] = ()

    @property
    def sign(self) -> str:
        return {"Passed": "✓", "Failed": "✕", "Measured": "–", "Broke": "!"}[self.word]


def verdict(results: Results) -> Verdict:
    """Judge a run by its spawns, by the figures that must be 0, and by what it noted itself."""
    failed = sum(record.outcome == "failed" for record in results.spawns)
    broken = sum(record.outcome == "bed_broke" for record in results.spawns)
    failures = _failures(results)
    bad = failed or failures or any(_count(results.figures, name) for name in _MUST_BE_NONE)
    parts = _parts(results, failed, broken)
    if not parts and not failures:
        return Verdict("Measured", f"{counted(len(results.figures), 'figure')}, no spawns")
    word: Literal["Passed", "Failed", "Broke"]
    word = "Failed" if bad else "Broke" if broken else "Passed"
    parts += [counted(len(failures), "check") + " failed"] if failures else []
    return Verdict(word, ", ".join(parts), failures)


def _parts(results: Results, failed: int, broken: int) -> list[str]:
    total, figures = len(results.spawns), results.figures
    parts = []
    if total:
        ready = total - failed - broken
        parts.append(
            f"all {total:,} spawns ready" if ready == total > 1
            else f"{ready:,} of {counted(total, 'spawn')} ready"
        )  # fmt: skip
        parts += [f"{broken:,} broken off by the harness"] if broken else []
    if "notebooks_failed" in figures and "notebooks_passed" in figures:
        passed, wrong = _count(figures, "notebooks_passed"), _count(figures, "notebooks_failed")
        parts.append(
            f"{wrong} of {counted(passed + wrong, 'notebook')} failed"
            if wrong
            else f"{counted(passed, 'notebook')} passed"
        )
    if "orphans" in figures:
        parts.append(counted(_count(figures, "orphans"), "orphan"))
    return parts


def _count(figures: Mapping[str, float], name: str) -> int:
    value = figures.get(name, 0.0)
    return int(value) if math.isfinite(value) else 0


def _failures(results: Results) -> tuple[str, ...]:
    """What the run noted, but for single spawns: those are among the errors by cause."""
    reasons = {r.reason for r in results.spawns if r.reason}
    return tuple(
        shortened(without_secrets(failure))
        for failure in dict.fromkeys(results.failures)
        if not any(failure.endswith(reason) for reason in reasons)
    )
