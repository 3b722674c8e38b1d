"""The portal against stock batchspawner: turns in random order, honest intervals."""

import math
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from testbed import against
from testbed.bed import Bed
from testbed.bench_against import Extent, Route, Turn, plan
from testbed.comparability import Pair
from testbed.latency_table import comparisons as comparisons_table
from testbed.report.page import render
from testbed.report.series import series_of
from testbed.results import LoadSample, Results, SpawnRecord
from tests.testbed.spawn_runs import lognormal, results, seeded, spawn

TUNED = "htcondor_vs_stock_tuned_ratio"
BURST = f"burst{against.BURST}_vs_stock_ratio"


def record(target: str, ready_s: float, round_number: int = 0, **changes: object) -> SpawnRecord:
    """A spawn that was ready so long after its click."""
    made = spawn(phases={"ready": ready_s, "first_cell": 0.5}, round_number=round_number)
    return made.model_copy(update={"target": target, **changes})


def rounds(
    random: Random, count: int, *, ratio: float, busy: Callable[[], float] = lambda: 1.0
) -> list[SpawnRecord]:
    """Rounds of a portal that takes so much of the rival's time, on a machine so busy."""
    found = []
    for number in range(count):
        found.append(record("stock", 5.0 * lognormal(random) * busy(), number))
        found.append(record("portal", 5.0 * ratio * lognormal(random) * busy(), number))
    return found


def only(records: list[SpawnRecord], figure: str) -> against.Comparison:
    (found,) = [c for c in against.compare(records) if c.figure == figure]
    return found


def a_route(target: str, backend: str) -> Route:
    return Route(target, backend, target, lambda _: pytest.fail("not asked"), {})  # type: ignore[arg-type]


ROUTES = [
    a_route("portal", "htcondor"), a_route("stock", "htcondor"),
    a_route("stock_default", "htcondor"), a_route("portal", "slurm"), a_route("stock", "slurm"),
]  # fmt: skip


def test_each_round_has_every_route_once_in_an_order_of_its_own() -> None:
    turns = plan(ROUTES, Extent(rounds=12, users=1, timeout_s=1, seed=7), bursts=False)
    orders = [[t.route for t in turns if t.round == number] for number in range(12)]
    assert [t.round for t in turns] == sorted(t.round for t in turns)
    assert all(sorted(map(str, order)) == sorted(map(str, ROUTES)) for order in orders)
    assert len({tuple(map(str, order)) for order in orders}) > 6
    firsts = {str(order[0]) for order in orders}
    assert len(firsts) > 2


def test_the_same_seed_gives_the_same_order() -> None:
    def order(seed: int) -> list[Turn]:
        return plan(ROUTES, Extent(rounds=6, users=1, timeout_s=1, seed=seed), bursts=True)

    assert order(3) == order(3)
    assert order(3) != order(4)


def test_bursts_are_of_both_on_the_same_pool_and_of_nobody_else() -> None:
    turns = plan(ROUTES, Extent(rounds=12, users=1, timeout_s=1, seed=1), bursts=True)
    bursts = [turn for turn in turns if turn.burst]
    assert {turn.burst for turn in bursts} == {against.BURST}
    assert {str(turn.route) for turn in bursts} == {"portal, htcondor", "stock, htcondor"}
    assert sorted(turn.round for turn in bursts) == [0, 0, 3, 3, 6, 6, 9, 9]


@pytest.mark.parametrize("rounds", [3, 4, 5, 6, 8])
def test_few_rounds_have_enough_bursts_for_an_interval(rounds: int) -> None:
    turns = plan(ROUTES, Extent(rounds=rounds, users=1, timeout_s=1, seed=1), bursts=True)
    assert len({turn.round for turn in turns if turn.burst}) >= against.LEAST_ROUNDS


def test_the_ratio_is_of_medians_click_to_ready() -> None:
    records = [record("portal", s, n) for n, s in enumerate((1.0, 1.2, 9.0))]
    records += [record("stock", s, n) for n, s in enumerate((5.0, 6.0, 7.0))]
    found = only(records, TUNED)
    assert (found.p50_s, found.rival_p50_s, found.n, found.rival_n) == (1.2, 6.0, 3, 3)
    assert found.ratio == pytest.approx(0.2)
    assert found.low <= 0.2 <= found.high


def test_too_few_rounds_give_no_ratio() -> None:
    """Not a figure from which somebody would read a promise."""
    records = [record(target, 1.0, n) for target in ("portal", "stock") for n in range(2)]
    assert against.compare(records) == []
    assert TUNED not in against.figures(records, [], [])


def test_a_noisy_machine_widens_the_interval_and_does_not_change_the_verdict() -> None:
    """Something else makes each spawn up to three times slower."""
    quiet, noisy, missed = [], [], 0
    for seed in range(40):
        random = seeded(seed)
        quiet.append(only(rounds(random, 20, ratio=0.15), TUNED))
        found = only(
            rounds(random, 20, ratio=0.15, busy=lambda r=random: 1 + 2 * r.random()),
            TUNED,  # type: ignore[misc]
        )
        noisy.append(found)
        missed += found.verdict == "missed"
    width = [
        sum(math.log(c.high / c.low) for c in found) / len(found) for found in (quiet, noisy)
    ]  # fmt: skip
    assert width[1] > 1.5 * width[0]
    assert missed == 0
    assert sum(c.verdict == "kept" for c in quiet) > 0.9 * len(quiet)


def test_what_is_surely_too_slow_is_missed() -> None:
    found = only(rounds(seeded(1), 12, ratio=0.6), TUNED)
    assert found.verdict == "missed"
    (line,) = against.missed([found])
    assert line.startswith(TUNED)
    assert "0.2 is the goal" in line


def crowd(target: str, number: int, slowest_s: float, **changes: object) -> list[SpawnRecord]:
    return [
        record(target, slowest_s * (n + 1) / against.BURST, number, burst=against.BURST, **changes)
        for n in range(against.BURST)
    ]


def test_a_burst_counts_by_its_last_one() -> None:
    records = [r for n in range(3) for r in crowd("portal", n, 4.0) + crowd("stock", n, 20.0)]
    found = only(records, BURST)
    assert (found.n, found.rival_n) == (3, 3)
    assert (found.p50_s, found.rival_p50_s) == (4.0, 20.0)
    figures = against.figures(records, [found], [])
    assert figures[f"burst{against.BURST}_ready_p50_s"] == 4.0
    # Its spawns are no singles.
    assert "htcondor_ready_p50_s" not in figures


def test_a_burst_in_which_somebody_failed_is_not_timed() -> None:
    """The last one never came, so there is no time that it took."""
    records = [r for n in range(4) for r in crowd("portal", n, 4.0) + crowd("stock", n, 20.0)]
    records[0] = records[0].model_copy(update={"outcome": "failed", "reason": "held"})
    assert only(records, BURST).n == 3
    assert against.figures(records, [], [])["failed"] == 1


def test_figures_have_the_names_that_others_read() -> None:
    records = rounds(seeded(2), 5, ratio=0.2)
    records += [record("stock_default", 16.0, n) for n in range(5)]
    records += [
        record(target, s, n, backend="slurm")
        for target, s in (("portal", 1.2), ("stock", 4.0))
        for n in range(5)
    ]
    records.append(record("stock", 1.0, 4, outcome="failed", reason="gone"))
    load = [LoadSample(unix_s=1.0, load_1min=2.0, cpu_busy=0.5)]
    figures = against.figures(records, against.compare(records), load)
    wanted = {
        "htcondor_ready_p50_s", "htcondor_vs_stock_tuned_ratio", "htcondor_vs_stock_default_ratio",
        "slurm_ready_p50_s", "slurm_vs_stock_ratio", "htcondor_first_cell_p50_s",
        "ready_p95_over_p50", "failed", "load_1min_p50", "background_cpu_p50_ratio",
    }  # fmt: skip
    assert wanted <= figures.keys()
    assert figures["slurm_vs_stock_ratio"] == pytest.approx(0.3)
    assert (figures["failed"], figures["stock_failed"]) == (0, 1)


def a_run(records: list[SpawnRecord]) -> Results:
    return results(*records).model_copy(
        update={
            "comparisons": tuple(against.compare(records)),
            "load": (LoadSample(unix_s=1.0, load_1min=3.3, cpu_busy=0.25),),
        }
    )


def test_the_report_shows_ours_against_stock() -> None:
    records = rounds(seeded(2), 5, ratio=0.15)
    stock = {"hub": "stock"}
    records = [r.model_copy(update=stock if r.target == "stock" else {}) for r in records]
    records += crowd("portal", 0, 3.0)
    run = a_run(records)
    assert [series.name for series in series_of(run.spawns)] == [
        "htcondor · htc", "htcondor · stock", f"htcondor · htc · {against.BURST} at once",
    ]  # fmt: skip
    page = render(run)
    assert "Against stock batchspawner" in page
    assert "HTCondor, same pool" in page
    assert "25 % busy" in page
    assert "Against stock" not in render(results(*records))
    (row,) = comparisons_table(run.comparisons).rows
    assert row is not None


def test_a_run_survives_its_file(tmp_path: Path) -> None:
    run = a_run(rounds(seeded(2), 5, ratio=0.15))
    assert Results.read(run.write(tmp_path)) == run


def test_the_gate_judges_the_portals_own_spawns() -> None:
    own = rounds(seeded(2), 10, ratio=0.15) + crowd("portal", 0, 90.0)
    pair = Pair(a_run(own), a_run(own))
    assert not pair.problems()
    assert {(r.target, r.burst) for r in pair.spawns(pair.baseline, "htcondor")} == {("portal", 0)}


def test_the_front_doors_port_is_not_a_stock_hubs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both publish on the loopback while they are compared."""

    def entry(port: int) -> list[dict[str, object]]:
        return [{"Ports": [{"IP": "127.0.0.1", "PublicPort": port}]}]

    bed = Bed.open("x")
    monkeypatch.setattr(bed, "summaries", lambda: {"stock-slurm": entry(1), "proxy": entry(2)})
    assert bed.published_port() == 2
    assert bed.loopback_port("stock-slurm") == 1
    assert bed.loopback_port("ldap") is None
