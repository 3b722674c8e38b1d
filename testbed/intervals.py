"""How sure a comparison of two runs is: bootstrap intervals, Fisher's exact test."""

import math
from collections import Counter
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy

RESAMPLES = 4000
# Any will do; one that is fixed gives the same files the same verdict for ever.
_SEED = 20261121
# Below the clocks' own exactness: a shorter span counts as this long, so that ratios exist.
_SHORTEST_S = 1e-4


@dataclass(frozen=True)
class Sample:
    """Spans of one run, in seconds, each with what it was measured in.

    `strata` are drawn from separately (a backend reached by two hubs is two strata);
    `rounds` are drawn as a whole, since what ran at the same time had the same luck.
    """

    values_s: tuple[float, ...]
    strata: tuple[str, ...]
    rounds: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.values_s)

    @property
    def units(self) -> list[tuple[str, int]]:
        """What is drawn: each round of each stratum, one stratum after the other."""
        return sorted(set(zip(self.strata, self.rounds, strict=True)))


@dataclass(frozen=True)
class Interval:
    """A ratio with the ends of its confidence interval."""

    value: float
    low: float
    high: float

    def widened(self, low_by: float, high_by: float) -> "Interval":
        """The same ratio, the ends moved outwards by these factors (≥ 1)."""
        return Interval(self.value, self.low / low_by, self.high * high_by)


def median_ratio(
    baseline: Sample, candidate: Sample, confidence: float, *, resamples: int = RESAMPLES
) -> Interval:
    """The candidate's median over the baseline's, with a bootstrap percentile interval.

    Whole rounds are drawn with replacement, from each run and stratum by itself. The
    percentiles are taken a little further out than the confidence says, as Student's t is
    wider than the normal distribution: a bootstrap of few rounds is too narrow otherwise.
    (BCa is no better here: its acceleration comes from a jackknife, which fails for medians.)

    Args:
        confidence: Of the two-sided interval, between 0 and 1.

    Source: Hesterberg (2015), What Teachers Should Know About the Bootstrap, 4.3, for the
    expanded percentile interval; Efron and Tibshirani (1993), 11.6, for medians and jackknife.
    """
    random = numpy.random.default_rng(_SEED)
    drawn = _medians(candidate, resamples, random) / _medians(baseline, resamples, random)
    freedom = min(len(baseline.units), len(candidate.units)) - 1
    tail = _expanded_tail((1 - confidence) / 2, freedom)
    low, high = numpy.quantile(drawn, [tail, 1 - tail])
    value = median_s(candidate) / median_s(baseline)
    return Interval(value, min(float(low), value), max(float(high), value))


def median_s(sample: Sample) -> float:
    """The sample's median in seconds, at least the clocks' own exactness."""
    return max(float(numpy.median(sample.values_s)), _SHORTEST_S)


def chance_of_more(
    baseline_failed: int, baseline_all: int, candidate_failed: int, candidate_all: int
) -> float:
    """How likely the candidate has so many of all failures, or more, by chance alone.

    Source: Fisher's exact test, one-sided: the upper tail of the hypergeometric distribution.
    """
    failed, total = baseline_failed + candidate_failed, baseline_all + candidate_all
    ways = sum(
        math.comb(failed, k) * math.comb(total - failed, candidate_all - k)
        for k in range(candidate_failed, min(failed, candidate_all) + 1)
    )
    return ways / math.comb(total, candidate_all)


def _medians(sample: Sample, resamples: int, random: numpy.random.Generator) -> Any:
    """Medians of resamples: a value counts as often as its round was drawn."""
    values = numpy.asarray(sample.values_s)
    order = numpy.argsort(values, kind="stable")
    units = sample.units
    strata = Counter(stratum for stratum, _ in units)
    drawn = numpy.hstack([_times_drawn(n, resamples, random) for n in strata.values()])
    column = {unit: number for number, unit in enumerate(units)}
    columns = numpy.array([column[u] for u in zip(sample.strata, sample.rounds, strict=True)])
    reached = numpy.cumsum(drawn[:, columns[order]], axis=1)
    total = reached[:, -1]
    # The two middle values of an even count; twice the same of an odd one.
    below = (reached >= ((total + 1) // 2)[:, None]).argmax(axis=1)
    above = (reached >= (total // 2 + 1)[:, None]).argmax(axis=1)
    ordered = values[order]
    return numpy.maximum((ordered[below] + ordered[above]) / 2, _SHORTEST_S)


def _times_drawn(units: int, resamples: int, random: numpy.random.Generator) -> Any:
    """How often each of so many units is drawn, with replacement: a row a resample."""
    drawn = random.integers(units, size=(resamples, units), dtype=numpy.int32)
    drawn += units * numpy.arange(resamples, dtype=numpy.int32)[:, None]
    return numpy.bincount(drawn.ravel(), minlength=resamples * units).reshape(resamples, units)


def _expanded_tail(tail: float, freedom: int) -> float:
    """The normal tail that lies where Student's t has `tail`, small samples allowed for."""
    if freedom < 1:
        return 0.0
    t = _student(1 - tail, freedom) * math.sqrt((freedom + 1) / freedom)
    return NormalDist().cdf(-t)


def _student(q: float, freedom: int) -> float:
    """The q-quantile of Student's t.

    Source: Abramowitz and Stegun (1964), 26.7.5; within 1 % from 5 degrees of freedom on.
    """
    z, n = NormalDist().inv_cdf(q), freedom
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )
