"""results.json keeps every stamp, and its figures follow from them."""

from pathlib import Path

import pytest

from testbed import bench_spawn
from testbed.errors import UsageError
from testbed.hub_metrics import Spread
from testbed.results import Results, Run, SpawnRecord, latency_figures, quantile


def record(ready_s: float, *, backend: str = "htcondor", outcome: str = "ready") -> SpawnRecord:
    """A spawn that was ready so many seconds after the click."""
    own = {"click": 100.0, "accepted": 100.1, "http": 100.0 + ready_s, "ready": 100.0 + ready_s}
    return SpawnRecord(
        user="alice",
        hub="hub",
        backend=backend,
        outcome=outcome,
        own_unix_s=own,  # type: ignore[arg-type]
    )


def test_written_results_read_back(tmp_path: Path) -> None:
    run = Run("bench spawn", "lab", {"rounds": 2})
    results = run.results(
        [record(1.0), record(2.0)], {"htcondor_ready_p50_s": 1.5}, {"hub": "6.1.1"}
    )
    path = results.write(tmp_path / "run")
    assert Results.read(path) == results
    assert results.machine.cpus >= 1
    assert results.versions["hub"] == "6.1.1"
    assert results.end >= results.begin
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]


@pytest.mark.parametrize("text", ["", "[]", '{"schema_version": 99}', '{"schema_version": 1}'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"results\.json"):
        Results.read(path)


@pytest.mark.parametrize(
    ("values", "q", "expected"),
    [
        ([3, 1, 2], 0.5, 2),
        ([1, 2, 3, 4], 0.5, 2.5),
        (range(101), 0.95, 95),
        ([7], 0.95, 7),
        ([], 0.5, None),
    ],
)
def test_quantiles(values: list[float], q: float, expected: float | None) -> None:
    assert quantile(values, q) == expected


def test_figures_leave_failed_spawns_out() -> None:
    records = [
        record(1.0),
        record(3.0),
        record(99.0, outcome="failed"),
        record(5.0, backend="slurm"),
    ]
    assert latency_figures(records, ["htcondor", "slurm", "local"]) == {
        "htcondor_ready_p50_s": 2.0,
        "slurm_ready_p50_s": 5.0,
    }


def test_spans_need_both_phases() -> None:
    assert record(2.0).since_click("ready") == pytest.approx(2.0)
    assert record(2.0).since_click("hello") is None
    assert record(2.0).hub_span("accepted", "http") is None


def test_a_phase_happened_before_it_was_heard_of() -> None:
    """The hub's clock is 5 s behind; the stream was opened 0.06 s after the first stamp."""
    spawn = SpawnRecord(
        user="alice",
        hub="hub",
        backend="slurm",
        own_unix_s={"click": 100.0, "accepted": 100.08, "http": 101.01, "ready": 101.02},
        hub_unix_s={"accepted": 95.02, "http": 96.0},
    )
    assert spawn.happened_unix_s("accepted") == pytest.approx(100.03)
    assert spawn.happened_unix_s("http") == pytest.approx(101.01)
    assert spawn.happened_unix_s("ready") == 101.02
    assert spawn.happened_unix_s("hello") is None


def test_own_clock_is_compared_with_the_hubs_metric() -> None:
    figures = bench_spawn.compare_clocks([record(1.1), record(2.1)], Spread(count=2, sum_s=3.2))
    assert figures["clock_own_count"] == figures["clock_hub_metric_count"] == 2
    assert figures["clock_own_mean_s"] == pytest.approx(1.5)
    assert figures["clock_vs_hub_metric_ratio"] == pytest.approx(0.9375)


def test_spawns_of_others_give_no_ratio() -> None:
    figures = bench_spawn.compare_clocks([record(1.1)], Spread(count=3, sum_s=9.0))
    assert figures["clock_hub_metric_count"] == 3
    assert "clock_vs_hub_metric_ratio" not in figures


def test_a_hub_without_spawns_gives_no_ratio() -> None:
    assert "clock_vs_hub_metric_ratio" not in bench_spawn.compare_clocks([], Spread(0, 0.0))


def test_thresholds_name_what_was_not_kept() -> None:
    thresholds = {"failed": 0.0, "htcondor": {"ready_p95_s": 2.0, "first_cell_p95_s": 1.0}}
    records = [record(1.0), record(9.0), record(1.0, outcome="failed")]
    found = bench_spawn.breaches(records, ["htcondor"], thresholds, planned=4)
    assert found == [
        "htcondor: 3 of 4 spawns were done",
        "htcondor: 1 of 3 spawns failed; 0% may",
        "htcondor: ready_p95_s is 8.60; 2 is the limit",
    ]
    assert bench_spawn.breaches([record(1.0)], ["htcondor"], thresholds, planned=1) == []
