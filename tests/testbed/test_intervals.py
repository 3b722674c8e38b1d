"""A comparison's interval holds the truth as often as it says."""

import math
from statistics import NormalDist

import pytest

from testbed import intervals
from testbed.intervals import Sample, chance_of_more, median_ratio
from tests.testbed.spawn_runs import seeded


def sample(values: list[float], rounds: list[int] | None = None) -> Sample:
    return Sample(tuple(values), ("htc",) * len(values), tuple(rounds or list(range(len(values)))))


def test_the_ratio_is_that_of_the_medians_and_its_interval_holds_it() -> None:
    found = median_ratio(sample([1.0, 2.0, 9.0] * 5), sample([2.0, 3.0, 4.0] * 5), 0.95)
    assert found.value == pytest.approx(1.5)
    assert found.low <= 1.5 <= found.high


def test_the_same_files_give_the_same_interval() -> None:
    random = seeded(1)
    sides = [sample([random.uniform(1, 2) for _ in range(20)]) for _ in range(2)]
    assert median_ratio(*sides, 0.95) == median_ratio(*sides, 0.95)


@pytest.mark.parametrize(("spawns", "least"), [(10, 0.93), (30, 0.92)])
def test_an_interval_of_95_percent_holds_the_truth_as_often(spawns: int, least: float) -> None:
    random, held, tries = seeded(5), 0, 200
    for _ in range(tries):
        before, after = (
            sample([level * math.exp(random.gauss(0, 0.16)) for _ in range(spawns)])
            for level in (1.0, 1.2)
        )
        found = median_ratio(before, after, 0.95, resamples=1000)
        held += found.low <= 1.2 <= found.high
    assert held / tries >= least


def test_spawns_of_one_round_share_their_luck() -> None:
    """Five people at once, ten times, are ten draws and not fifty."""
    random = seeded(2)
    luck = [math.exp(random.gauss(0, 0.16)) for _ in range(10)]
    values = [luck[n // 5] * math.exp(random.gauss(0, 0.02)) for n in range(50)]
    alone = median_ratio(sample(values), sample(values), 0.95)
    together = median_ratio(*[sample(values, [n // 5 for n in range(50)])] * 2, 0.95)
    assert math.log(together.high / together.low) > 1.5 * math.log(alone.high / alone.low)


def test_each_hub_keeps_its_share() -> None:
    """A slow and a fast hub are two strata: which of them is drawn is no chance."""
    values = [1.0 + n / 1000 for n in range(20)] + [3.0 + n / 1000 for n in range(21)]
    hubs = ("htc",) * 20 + ("hpc",) * 21
    rounds = (*range(20), *range(21))
    split = Sample(tuple(values), hubs, rounds)
    mixed = Sample(tuple(values), ("htc",) * 41, tuple(range(41)))
    assert median_ratio(split, split, 0.95).high < 1.1 < median_ratio(mixed, mixed, 0.95).high


@pytest.mark.parametrize(
    ("q", "freedom", "t"), [(0.975, 9, 2.262), (0.975, 29, 2.045), (0.995, 7, 3.499)]
)
def test_students_t_is_that_of_the_tables(q: float, freedom: int, t: float) -> None:
    assert intervals._student(q, freedom) == pytest.approx(t, rel=0.01)


def test_few_rounds_have_a_tail_further_out() -> None:
    assert intervals._expanded_tail(0.025, 9) == pytest.approx(NormalDist().cdf(-2.384), rel=0.02)
    assert intervals._expanded_tail(0.025, 1000) == pytest.approx(0.025, rel=0.02)
    assert intervals._expanded_tail(0.025, 0) == 0


def test_times_below_the_clock_have_a_ratio() -> None:
    found = median_ratio(sample([0.0] * 9), sample([-1e-6] * 9), 0.95)
    assert (found.low, found.value, found.high) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("counts", "chance"),
    [
        ((0, 10, 0, 10), 1.0),
        ((0, 10, 5, 10), 252 / 15504),  # 10 over 5 of 20 over 5
        ((5, 10, 0, 10), 1.0),
        ((0, 30, 3, 30), 4060 / 34220),
    ],
)
def test_the_chance_of_more_failures_is_fishers(
    counts: tuple[int, int, int, int], chance: float
) -> None:
    assert chance_of_more(*counts) == pytest.approx(chance)
