"""The self-check is honest: it passes only where the gate catches what it must and nothing else."""

from pathlib import Path

import pytest

from testbed import gate, gate_self_check
from testbed.comparability import Pair
from testbed.errors import UsageError
from testbed.gate import Judgement, Rules
from testbed.gate_self_check import REPEATS, SelfCheck
from tests.testbed.spawn_runs import measured_spread, run, seeded
from tests.testbed.test_cli import testbed


def judged(level: float, seed: int) -> Judgement:
    random, spread = seeded(seed), measured_spread()
    sides = run(random, spread=spread), run(random, spread=spread, level=level)
    return gate.judge(Pair(*sides), Rules())


def test_a_gate_that_works_passes() -> None:
    check = SelfCheck(30, 0.2, judged(1.3, 1), [judged(1.0, n) for n in range(2, 4)], 500)
    assert check.failures == []
    figures = check.figures()
    assert (figures["delay_caught"], figures["false_alarms"], figures["repeats"]) == (1, 0, 2)
    assert figures["delayed_ratio"] > 1.2
    assert 0.8 < figures["repeats_ratio_min"] <= figures["repeats_ratio_max"] < 1.2


def test_a_delay_that_goes_unseen_fails() -> None:
    check = SelfCheck(30, 0.2, judged(1.0, 1), [judged(1.0, 2)], 500)
    assert len(check.failures) == 1
    assert "a delay of 0.20 s (20%) was not caught" in check.failures[0]


def test_an_alarm_for_the_same_build_fails() -> None:
    check = SelfCheck(30, 0.2, judged(1.3, 1), [judged(1.0, 2), judged(1.3, 3)], 500)
    assert len(check.failures) == 1
    assert "1 of 2 repeats" in check.failures[0]
    assert "--minimum-effect" in check.failures[0]


def test_a_check_that_judged_nothing_does_not_pass() -> None:
    assert SelfCheck(8).failures
    assert REPEATS == 10


def test_results_and_a_self_check_exclude_each_other() -> None:
    for argv in (("gate",), ("gate", "a", "b", "--self-check"), ("gate", "a")):
        done = testbed(*argv)
        assert done.returncode == 2, done.stderr
        assert "testbed gate BASELINE CANDIDATE" in done.stderr
    done = testbed("gate", "--self-check", "--backend", "htcondor", "--backend", "slurm")
    assert done.returncode == 2
    assert "on one backend" in done.stderr


@pytest.mark.parametrize(
    "rules", [Rules(minimum_effect=0.2), Rules(figures=("ready", "first_cell"))]
)
def test_rules_that_cannot_see_the_delay_are_refused(rules: Rules, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="plants 20%"):
        gate_self_check.run(
            None,  # type: ignore[arg-type] # refused before anything is asked of them
            None,  # type: ignore[arg-type]
            environ={},
            folder=tmp_path,
            loadtests_folder=tmp_path,
            backend="htcondor",
            rounds=20,
            rules=rules,
            say=print,
        )


def test_more_failures_do_not_count_as_a_delay_that_was_seen() -> None:
    random, spread = seeded(7), measured_spread()
    baseline, same = run(random, spread=spread), run(random, spread=spread)
    failing = same.model_copy(
        update={
            "spawns": tuple(
                record.model_copy(update={"outcome": "failed", "reason": "held"})
                if number % 2
                else record
                for number, record in enumerate(same.spawns)
            )
        }
    )
    judgement = gate.judge(Pair(baseline, failing), Rules())
    assert not judgement.ok
    assert not SelfCheck(30, 0.2, judgement).caught
