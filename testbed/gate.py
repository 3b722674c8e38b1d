"""`testbed gate`: whether a candidate's spawns are slower, or fail more, than a baseline's."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from testbed.comparability import Pair
from testbed.errors import UsageError
from testbed.intervals import Interval, Sample, chance_of_more, median_ratio, median_s
from testbed.results import HUB_PHASES, Results, SpawnRecord, quantile

# Fewer say nothing about a median: the ends of its interval would be the extremes.
LEAST_SPAWNS = 8
JUDGED_FIGURES = ("ready", "first_cell")

# Load averages of one and the same load differ by up to this factor (see decision 18).
_SAME_LOAD = 1.25

_PHASES = ("click", *HUB_PHASES, "ready", "kernel_idle", "first_cell")

Verdict = Literal["slower", "faster", "same", "unclear"]


@dataclass(frozen=True)
class Rules:
    """What counts as a regression.

    `minimum_effect` is the least slow-down that matters (0.1: ten percent); `confidence` is
    that of all judged figures together; `figures` are judged, all others only shown.
    """

    minimum_effect: float = 0.10
    confidence: float = 0.95
    figures: tuple[str, ...] = ("ready",)

    def verdict(self, ratio: Interval) -> Verdict:
        """Slower: surely so, and by enough in the medians. Same: surely not by that much."""
        bar = 1 + self.minimum_effect
        if ratio.low > 1 and ratio.value >= bar:
            return "slower"
        if ratio.high < 1 and ratio.value <= 1 / bar:
            return "faster"
        return "same" if ratio.high < bar else "unclear"


@dataclass(frozen=True)
class Comparison:
    """One figure or phase of a backend on both sides."""

    backend: str
    name: str
    baseline: Sample
    candidate: Sample
    ratio: Interval
    judged: bool = False
    verdict: Verdict = "same"
    moved: bool = False  # a phase whose change is sure and not small beside `ready`

    @property
    def baseline_p50_s(self) -> float:
        return median_s(self.baseline)

    @property
    def candidate_p50_s(self) -> float:
        return median_s(self.candidate)

    @property
    def words(self) -> str:
        """The change in one line."""
        return (
            f"{self.backend} {self.name}: {self.ratio.value:.2f} times the baseline's median "
            f"[{self.ratio.low:.2f}, {self.ratio.high:.2f}], "
            f"{self.baseline_p50_s:.2f} → {self.candidate_p50_s:.2f} s"
        )

    @property
    def p95_s(self) -> tuple[float, float]:
        """Of baseline and candidate; never judged, since few spawns say little of it."""
        before, after = (quantile(s.values_s, 0.95) or 0.0 for s in (self.baseline, self.candidate))
        return before, after


@dataclass(frozen=True)
class Failures:
    """How many spawns failed on a backend; `chance` is that of the same build doing so."""

    backend: str
    baseline: int
    baseline_all: int
    candidate: int
    candidate_all: int
    chance: float
    regression: bool

    @property
    def words(self) -> str:
        """The change in one line."""
        return (
            f"{self.backend} failures: {self.baseline} of {self.baseline_all} spawns → "
            f"{self.candidate} of {self.candidate_all}; the same build does that with "
            f"p = {self.chance:.2g}"
        )


@dataclass(frozen=True)
class Judgement:
    """All that a gate found."""

    rules: Rules
    totals: tuple[Comparison, ...]
    phases: tuple[Comparison, ...]
    failures: tuple[Failures, ...]
    warnings: tuple[str, ...]

    @property
    def regressions(self) -> list[str]:
        """Each regression in words."""
        found = [
            f"{c.words}; {1 + self.rules.minimum_effect:.2f} times is the limit"
            for c in self.totals
            if c.judged and c.verdict == "slower"
        ]
        return found + [f.words for f in self.failures if f.regression]

    @property
    def ok(self) -> bool:
        return not self.regressions


def read(path: Path) -> Results:
    """A results file, or the one that a run's folder holds.

    Raises:
        UsageError: There is none, it is truncated, or of another schema version.
    """
    file = path / "results.json" if path.is_dir() else path
    try:
        return Results.read(file)
    except UsageError as error:
        cure = error.cure or "give a complete results.json, or its folder, as `testbed bench spawn`"
        raise UsageError(error.what, seen=error.seen, cure=cure) from error


def judge(pair: Pair, rules: Rules) -> Judgement:
    """Compare every backend that both have.

    Raises:
        UsageError: The two cannot be compared; each reason is named.
    """
    problems = pair.problems()
    if problems:
        raise _unusable(problems)
    backends = pair.backends
    failures = tuple(_failures(pair, backend, rules) for backend in backends)
    broken = {f.backend for f in failures if f.regression}
    confidence = 1 - (1 - rules.confidence) / (len(backends) * len(rules.figures))
    low_by, high_by = _load_factors(pair)
    warnings = pair.warnings()
    totals: list[Comparison] = []
    phases: list[Comparison] = []
    for backend in backends:
        for name in JUDGED_FIGURES:
            sides = _samples(pair, backend, "click", name)
            judged = name in rules.figures
            if min(map(len, sides)) < LEAST_SPAWNS:
                few = (
                    f"{name} on {backend}: {len(sides[0])} spawns against {len(sides[1])}; "
                    f"{LEAST_SPAWNS} a side are needed: measure more rounds"
                )
                # A build whose servers do not start at all has nothing to time.
                excused = len(sides[0]) >= LEAST_SPAWNS and backend in broken
                (problems if judged and not excused else warnings).append(few)
                continue
            ratio = median_ratio(*sides, confidence).widened(low_by, high_by)
            found = Comparison(backend, name, *sides, ratio, judged, rules.verdict(ratio))
            totals.append(found)
            if judged and found.verdict == "unclear":
                warnings.append(_advice(found, rules, by_load=low_by * high_by > 1))
        phases += _phases(pair, backend, confidence, rules, (low_by, high_by), warnings)
    if problems:
        raise _unusable(problems)
    if low_by * high_by > 1:
        loads = [s.load_average_1min.end for s in (pair.baseline, pair.candidate)]
        warnings.append(
            f"load average {loads[0]:.1f} → {loads[1]:.1f}: the intervals are widened by what "
            f"that may explain, {max(low_by, high_by):.2f} times"
        )
    warnings += [f.words for f in failures if (f.baseline or f.candidate) and not f.regression]
    return Judgement(rules, tuple(totals), tuple(phases), failures, tuple(warnings))


def _unusable(problems: Sequence[str]) -> UsageError:
    return UsageError("these results cannot be compared", seen="\n".join(problems))


def _failures(pair: Pair, backend: str, rules: Rules) -> Failures:
    counts = []
    for side in (pair.baseline, pair.candidate):
        records = pair.spawns(side, backend)
        counts += [sum(r.outcome != "ready" for r in records), len(records)]
    before, before_all, after, after_all = counts
    chance = chance_of_more(before, before_all, after, after_all)
    return Failures(
        backend, before, before_all, after, after_all, chance, chance < 1 - rules.confidence
    )


def _samples(pair: Pair, backend: str, begin: str, end: str) -> tuple[Sample, Sample]:
    before, after = (
        _sample(pair.spawns(side, backend), begin, end) for side in (pair.baseline, pair.candidate)
    )
    return before, after


def _sample(records: Iterable[SpawnRecord], begin: str, end: str) -> Sample:
    """Spans of the spawns that got there, on one clock."""
    kept = []
    for record in records:
        stamps = record.happened_unix_s(begin), record.happened_unix_s(end)
        if record.outcome == "ready" and stamps[0] is not None and stamps[1] is not None:
            kept.append((stamps[1] - stamps[0], record.hub, record.round))
    kept = [row for row in kept if math.isfinite(row[0])]
    return Sample(
        tuple(row[0] for row in kept), tuple(row[1] for row in kept), tuple(row[2] for row in kept)
    )


def _phases(
    pair: Pair,
    backend: str,
    confidence: float,
    rules: Rules,
    widen_by: tuple[float, float],
    warnings: list[str],
) -> list[Comparison]:
    """The spans between the phases that both sides reached, in order.

    A phase is said to have moved if it surely changed, by at least half of what matters of
    the whole way to `ready`: a hundredth of a second more or less has no cause to look for.
    """
    reached = []
    for phase in _PHASES:
        counts = [len(sample) for sample in _samples(pair, backend, "click", phase)]
        if min(counts) >= LEAST_SPAWNS:
            reached.append(phase)
        elif max(counts) >= LEAST_SPAWNS:
            warnings.append(f"phase {phase} on {backend}: {counts[0]} spawns → {counts[1]}")
    whole = _samples(pair, backend, "click", "ready")[0]
    least_s = median_s(whole) * rules.minimum_effect / 2 if len(whole) else 0.0
    found = []
    for begin, end in pairwise(reached):
        sides = _samples(pair, backend, begin, end)
        if min(map(len, sides)) < LEAST_SPAWNS:
            continue
        ratio = median_ratio(*sides, confidence).widened(*widen_by)
        sure = ratio.low > 1 or ratio.high < 1
        moved = sure and abs(median_s(sides[1]) - median_s(sides[0])) >= least_s
        name = f"{begin} → {end}".replace("_", " ")
        found.append(Comparison(backend, name, *sides, ratio, moved=moved))
    return found


def _load_factors(pair: Pair) -> tuple[float, float]:
    """By what the lower and the upper end go outwards for the machines' other work.

    More processes than CPUs stretch whatever runs by at most load / CPUs, and by nothing if
    it only waits; so the truth lies between both. The load at the end of a run counts: the
    run's own part is in it on both sides.
    """
    before, after = (
        max(1.0, side.load_average_1min.end / side.machine.cpus)
        for side in (pair.baseline, pair.candidate)
    )
    return max(1.0, after / before / _SAME_LOAD), max(1.0, before / after / _SAME_LOAD)


def _advice(found: Comparison, rules: Rules, *, by_load: bool) -> str:
    """Why a figure is unclear, and what would make it clear."""
    words = (
        f"{found.name} on {found.backend} is unclear: the interval "
        f"[{found.ratio.low:.2f}, {found.ratio.high:.2f}] reaches above "
        f"{1 + rules.minimum_effect:.2f}"
    )
    if by_load:
        return f"{words}; measure both at the same load"
    half = math.log(found.ratio.high / found.ratio.low) / 2
    least = min(len(found.baseline), len(found.candidate))
    wanted = math.ceil(least * (2 * half / math.log(1 + rules.minimum_effect)) ** 2)
    if wanted <= least:
        return words
    return f"{words}; about {math.ceil(wanted / 10) * 10} spawns a side would tell"
