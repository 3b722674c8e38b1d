"""The self-check is honest: it passes only where the gate catches what it must and nothing else."""

from testbed import gate
from testbed.comparability import Pair
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
