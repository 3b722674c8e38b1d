"""The gate catches what is slower or fails more, and refuses what cannot be compared."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

import pytest

from testbed import gate, gate_words
from testbed.comparability import Pair
from testbed.errors import UsageError
from testbed.gate import Judgement, Rules
from testbed.results import Results
from tests.testbed.spawn_runs import MACHINE, PHASES, measured_spread, results, run, seeded, spawn
from tests.testbed.test_cli import testbed

# As much later as makes `ready` a fifth later: 0.955 s in all.
DELAYED = {"hello": 1 + 0.2 * 0.955 / 0.76}
ONLY_READY = {"ready": sum(list(PHASES.values())[:8])}


def judged(baseline: Results, candidate: Results, **rules: Any) -> Judgement:
    return gate.judge(Pair(baseline, candidate), Rules(**rules))


def alarms(gates: int, true_ratio: float, spread: list[float] | None) -> int:
    """How many gates find a regression, with 30 spawns a side on two backends."""
    random = seeded(18)
    return sum(
        not judged(
            run(random, spread=spread, phases=ONLY_READY),
            run(random, spread=spread, phases=ONLY_READY, level=true_ratio),
        ).ok
        for _ in range(gates)
    )


@pytest.mark.parametrize("kind", ["lognormal", "measured"])
def test_the_same_build_stays_quiet_and_a_fifth_more_is_caught(kind: str) -> None:
    """The rates of many more gates stand in decision 18."""
    spread = measured_spread() if kind == "measured" else None
    assert alarms(40, 1.0, spread) <= 1
    assert alarms(40, 1.2, spread) >= 36


def test_a_regression_names_the_phase_that_moved() -> None:
    random = seeded(3)
    found = judged(run(random), run(random, slower=DELAYED), figures=("ready", "first_cell"))
    assert [c.verdict for c in found.totals if c.name == "ready"] == ["slower", "slower"]
    assert {c.name for c in found.phases if c.moved} == {"executing → hello"}
    assert [c.name for c in found.phases if c.backend == "slurm"][-1] == "kernel idle → first cell"
    assert "htcondor ready: 1." in found.regressions[0]


def test_a_faster_candidate_passes() -> None:
    random = seeded(4)
    found = judged(run(random, slower=DELAYED), run(random))
    assert found.ok
    assert found.totals[0].verdict == "faster"


def test_what_is_not_judged_fails_nothing() -> None:
    random = seeded(5)
    slow_kernel = run(random, slower={"kernel_idle": 3.0})
    assert judged(run(random), slow_kernel).ok
    assert not judged(run(random), slow_kernel, figures=("first_cell",)).ok


def test_a_phase_that_is_slow_now_and_then_has_not_moved() -> None:
    """Six slow kernels of ten after four of ten double the median and prove nothing."""
    sides = [
        results(
            *(
                spawn(round_number=n, slower={"kernel_idle": 2.0 if n < slow else 1.0})
                for n in range(10)
            )
        )
        for slow in (4, 6)
    ]
    kernel = judged(*sides).phases[-2]
    assert (kernel.name, kernel.ratio.value) == ("ready → kernel idle", pytest.approx(2.0))
    assert not kernel.moved


def test_more_judged_figures_ask_for_more_of_each() -> None:
    """The confidence is that of all together: else many backends would make false alarms."""
    sides = run(seeded(10)), run(seeded(11))
    one, both = judged(*sides), judged(*sides, figures=("ready", "first_cell"))
    assert both.totals[0].ratio.low < one.totals[0].ratio.low
    assert both.totals[0].ratio.high > one.totals[0].ratio.high


def test_a_small_delay_is_below_the_minimum_effect() -> None:
    steady = [0.99, 1.0, 1.01]
    sides = run(seeded(6), spread=steady), run(seeded(6), spread=steady, level=1.06)
    assert judged(*sides).ok
    assert judged(*sides, minimum_effect=0.05).regressions


def test_a_busy_machine_widens_the_interval_instead_of_failing() -> None:
    random = seeded(7)
    baseline, slow = run(random), run(random, slower=DELAYED)
    busy = slow.model_copy(update={"load_average_1min": results(load=5.0).load_average_1min})
    calm, noisy = judged(baseline, slow), judged(baseline, busy)
    assert not calm.ok
    assert noisy.ok
    assert noisy.totals[0].verdict == "unclear"
    assert noisy.totals[0].ratio.low == pytest.approx(calm.totals[0].ratio.low / 2)
    assert noisy.totals[0].ratio.high == calm.totals[0].ratio.high
    assert any("load average 1.4 → 5.0" in line for line in noisy.warnings)


def test_few_noisy_spawns_are_unclear_and_the_advice_says_how_many_would_tell() -> None:
    random = seeded(8)
    found = judged(run(random, 10), run(random, 10))
    assert found.ok
    assert any(
        "is unclear" in line and "spawns a side would tell" in line for line in found.warnings
    )


def failing(count: int, of: int) -> Results:
    return results(
        *(spawn(round_number=n, outcome="failed" if n < count else "ready") for n in range(of))
    )


TEN = failing(0, 10)


def test_more_failures_than_chance_explains_are_a_regression() -> None:
    found = judged(failing(0, 30), failing(6, 30))
    assert not found.ok
    assert "htcondor failures: 0 of 30 spawns → 6 of 30" in found.regressions[0]
    assert judged(failing(0, 30), failing(2, 30)).ok
    assert judged(failing(6, 30), failing(0, 30)).ok


def test_a_build_whose_servers_do_not_start_is_a_regression_without_a_time() -> None:
    found = judged(failing(0, 10), failing(10, 10))
    assert len(found.regressions) == 1
    assert found.totals == ()


def test_spawns_in_which_the_harness_broke_are_no_failures() -> None:
    broken = results(
        *(spawn(round_number=n) for n in range(10)),
        *(spawn(round_number=n, outcome="bed_broke") for n in range(10)),
    )
    found = judged(failing(0, 10), broken)
    assert found.ok
    assert "candidate: 10 spawns left out, in which the harness broke" in found.warnings


def test_a_run_in_which_only_the_harness_broke_is_no_run() -> None:
    broken = results(*(spawn(round_number=n, outcome="bed_broke") for n in range(10)))
    with pytest.raises(UsageError, match="10 spawns against 0"):
        judged(TEN, broken)


def test_differences_of_machine_versions_and_time_are_told_and_do_not_fail() -> None:
    spawns = failing(0, 10).spawns
    other = results(
        *spawns,
        machine=MACHINE.model_copy(update={"cpus": 8}),
        versions={"JUPYTERHUB_VERSION": "6.2.0"},
    )
    found = judged(results(*spawns, minute=5), other)
    assert found.ok
    assert "machine: cpus 2 → 8" in found.warnings
    assert "version of JUPYTERHUB_VERSION: 6.1.1 → 6.2.0" in found.warnings
    assert "both files hold the same spawns: nothing new was measured" in found.warnings


@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        (results(), "spawns: none in the candidate"),
        (results(*(spawn("slurm") for _ in range(10))), "backend slurm: no spawns in the baseline"),
        (results(*TEN.spawns, users=5), "setting users: 1 against 5"),
        (results(*TEN.spawns, command="smoke"), "command: `bench spawn` against `smoke`"),
        (results(*TEN.spawns, site="lab", versions={}), "site: a testbed against facility lab"),
        (results(*(spawn(hub="hpc") for _ in range(10))), "hubs of htcondor: htc against hpc"),
        (
            results(*(r.model_copy(update={"options": {"class": "big"}}) for r in TEN.spawns)),
            "options of htcondor: backend=htcondor against class=big",
        ),
        (failing(0, 7), "ready on htcondor: 10 spawns against 7; 8 a side are needed"),
        (
            results(*(spawn(factor=-1.0) for _ in range(10))),
            "stamps of htcondor in the candidate: 10 spawns",
        ),
        (results(*(spawn(factor=float("nan")) for _ in range(10))), "stamps of htcondor"),
    ],
)
def test_what_cannot_be_compared_is_named(candidate: Results, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        judged(TEN, candidate)
    assert words in raised.value.seen


def test_all_that_differs_is_named_at_once() -> None:
    with pytest.raises(UsageError) as raised:
        judged(TEN, results(*(spawn("slurm") for _ in range(10)), users=2, command="smoke"))
    assert len(raised.value.seen.splitlines()) == 4


def test_a_backend_that_one_side_lacks_can_be_left_out() -> None:
    both = results(*TEN.spawns, *(spawn("slurm") for _ in range(10)))
    with pytest.raises(UsageError, match="compare with --backend htcondor"):
        judged(both, TEN)
    assert gate.judge(Pair(both, TEN, ("htcondor",)), Rules()).ok


def test_a_phase_that_one_side_never_reached_is_told_and_bridged() -> None:
    less = {name: s for name, s in PHASES.items() if name != "matched"}
    found = judged(TEN, results(*(spawn(phases=less, round_number=n) for n in range(10))))
    assert "phase matched on htcondor: 10 spawns → 0" in found.warnings
    assert "submitted → executing" in {c.name for c in found.phases}


def test_two_hundred_spawns_a_side_are_judged_within_five_seconds() -> None:
    random, backends = seeded(9), ("htcondor", "slurm", "local")
    sides = run(random, 200, backends=backends), run(random, 200, backends=backends)
    began = process_time()
    judged(*sides)
    assert process_time() - began < 5


def test_hostile_names_stay_words() -> None:
    """A results file may come from anybody: no mark-up, no mention, no control character."""
    name = "<img src=x>|@all`\x1b[31m\x00"
    found = judged(
        results(*(spawn(name, round_number=n) for n in range(10))),
        results(*(spawn(name, round_number=n, factor=2.0) for n in range(10))),
    )
    said = gate_words.markdown(found)
    assert "<img" not in said
    assert "@all" not in said
    assert "\x1b" not in said
    assert all(line.count(" | ") == 8 for line in said.splitlines() if " | ready | " in line)
    case = ET.fromstring(gate_words.junit(found)).find("testcase")  # noqa: S314 - our own
    assert case is not None
    assert case.find("failure") is not None


def answer(tmp_path: Path, candidate: Results, *argv: str) -> tuple[int, dict[str, Any]]:
    base = failing(0, 10).write(tmp_path / "base").parent
    file = candidate.write(tmp_path / "candidate")
    done = testbed("gate", str(base), str(file), "--json", *argv)
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


def test_the_command_passes_with_0(tmp_path: Path) -> None:
    code, said = answer(tmp_path, failing(0, 10))
    assert (code, said["ok"]) == (0, True)
    assert said["figures"]["htcondor_ready_ratio"] == 1.0


def test_the_command_fails_with_1_and_writes_its_reports(tmp_path: Path) -> None:
    slow = results(*(spawn(round_number=n, slower=DELAYED) for n in range(10)))
    markdown, junit = tmp_path / "gate.md", tmp_path / "gate.xml"
    code, said = answer(tmp_path, slow, "--markdown", str(markdown), "--junit", str(junit))
    assert (code, said["ok"], said["figures"]["regressions"]) == (1, False, 1)
    assert [p["name"] for p in said["phases"] if p["moved"]] == ["executing → hello"]
    assert "REGRESSION" in markdown.read_text(encoding="utf-8")
    suite = ET.fromstring(junit.read_text(encoding="utf-8"))  # noqa: S314 - our own
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")


def test_the_table_names_the_phase_for_a_person(tmp_path: Path) -> None:
    base = failing(0, 10).write(tmp_path / "base")
    slow = results(*(spawn(round_number=n, slower=DELAYED) for n in range(10)))
    done = testbed("gate", str(base), str(slow.write(tmp_path / "slow")))
    assert done.returncode == 1
    moved = [line for line in done.stdout.splitlines() if line.rstrip().endswith("slower")]
    assert len(moved) == 2
    assert "executing → hello" in moved[1]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda text: text[: len(text) // 2], "no results file"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 2'), "schema 2"),
        (lambda _: "", "no results file"),
        (lambda _: None, "no results file"),
    ],
)
def test_unusable_input_ends_with_2_and_a_cure(
    tmp_path: Path, spoil: Callable[[str], str | None], words: str
) -> None:
    good = failing(0, 10).write(tmp_path / "good")
    bad = tmp_path / "bad.json"
    if (text := spoil(good.read_text(encoding="utf-8"))) is not None:
        bad.write_text(text, encoding="utf-8")
    for argv in ([str(good), str(bad)], [str(bad), str(good)]):
        done = testbed("gate", *argv, "--json")
        assert done.returncode == 2, done.stdout
        said = json.loads(done.stdout)
        assert words in said["error"]
        assert said["cure"]


def test_a_figure_that_nobody_knows_is_wrong_use(tmp_path: Path) -> None:
    code, said = answer(tmp_path, failing(0, 10), "--figure", "gone")
    assert (code, said["exit_code"]) == (2, 2)
    assert "ready, first_cell" in said["cure"]
