"""The simulated hub: what can be said of it without one."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.errors import UsageError
from testbed.scale_model import Costs, Morning, check, simulate, whole_steps

COSTS = Costs(
    start_cpu_s=0.1,
    start_alone_s=0.7,
    server_cpu_s_per_min=0.003,
    base_cpu_s_per_min=0.3,
    base_mib=140,
    server_mib=0.25,
    queries_per_s=0.07,
)


def step(held: int, p50: float = 0.7, **more: float) -> dict[str, object]:
    return {
        "held": held, "spawns": held, "spawn_p50_s": p50, "grow_cpu_s": 0.1 * held,
        "window_s": 60.0, "hub_cpu_s": 0.3 + 0.003 * held, "hub_memory_mib": 140 + 0.25 * held,
        "queries": {"htcondor": 2.0, "slurm": 2.2},
    } | more  # fmt: skip


def test_costs_are_slopes_between_steps() -> None:
    found = Costs.measured([step(1), step(10), step(31)])
    assert found.start_cpu_s == pytest.approx(0.1)
    assert found.server_cpu_s_per_min == pytest.approx(0.003)
    assert found.base_cpu_s_per_min == pytest.approx(0.3)
    assert (found.base_mib, found.server_mib) == (pytest.approx(140), pytest.approx(0.25))
    assert found.queries_per_s == pytest.approx(0.07)


def test_one_step_says_nothing_of_growth() -> None:
    with pytest.raises(UsageError, match="slopes"):
        Costs.measured([step(1)])


def test_one_person_has_the_hub_alone() -> None:
    alone = simulate(COSTS, Morning(1, within_s=0))
    assert alone.ready_p50_s == pytest.approx(COSTS.start_alone_s, rel=0.15)


def test_all_at_once_wait_for_the_hubs_one_thread() -> None:
    """500 starts of 0.1 s of one thread take 50 s; two cells take half of it."""
    one = simulate(COSTS, Morning(500, within_s=0))
    assert one.all_ready_s == pytest.approx(50, rel=0.1)
    two = simulate(COSTS, Morning(500, cells=2, within_s=0))
    assert two.all_ready_s == pytest.approx(one.all_ready_s / 2, rel=0.1)


def test_spread_out_nobody_waits() -> None:
    calm = simulate(COSTS, Morning(500, within_s=600))
    assert calm.ready_p50_s < 1.2 * COSTS.start_alone_s
    assert calm.busiest_cores < 0.2


def test_running_servers_cost_what_was_measured() -> None:
    held = simulate(COSTS, Morning(1000, within_s=600, watched_s=1200))
    expected = (COSTS.base_cpu_s_per_min + 1000 * COSTS.server_cpu_s_per_min) / 60
    assert held.calm_cores == pytest.approx(expected, rel=0.1)
    assert held.hub_mib == pytest.approx(140 + 250)


def test_few_cores_for_sessions_hold_everybody_up() -> None:
    few = simulate(COSTS, Morning(100, within_s=0, session_cpu_s=0.5, cores=2))
    assert few.all_ready_s == pytest.approx(25, rel=0.15)


def test_starts_one_after_the_other() -> None:
    """With so many at a time and no more, a start waits for few others."""
    some = simulate(COSTS, Morning(200, within_s=0, at_once=4))
    assert some.ready_p95_s < 2 * COSTS.start_alone_s
    assert simulate(COSTS, Morning(200, within_s=0)).ready_p50_s > 5


def test_the_same_seed_the_same_morning() -> None:
    assert simulate(COSTS, Morning(50)) == simulate(COSTS, Morning(50))


def test_people_that_cells_do_not_share_evenly() -> None:
    """The cell that has one more is the one that counts: nobody is left out."""
    odd = simulate(COSTS, Morning(1001, cells=2))
    assert odd.hub_mib == pytest.approx(2 * (COSTS.base_mib + 501 * COSTS.server_mib))


def test_what_the_servers_were_is_told(tmp_path: Path) -> None:
    """Costs of stand-ins are told as theirs, to a person and to a program."""
    run = {
        "servers_are": "stand-in", "at_once": 8, "cores": 2,
        "steps": [step(n, spawn_p95_s=1, servers=n) for n in (1, 10, 30)],
    }  # fmt: skip
    file = tmp_path / "scale.json"
    file.write_text(json.dumps(run))
    for option in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "testbed", "bench", "predict", str(file), *option],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert "stand-in" in done.stdout


def test_more_cells_than_people() -> None:
    with pytest.raises(UsageError, match="fewer"):
        simulate(COSTS, Morning(3, cells=4))


def test_a_simulated_run_foretells_its_own_last_step() -> None:
    """Steps that the simulation made are met again by what the check learns of them."""

    def played(level: int, before: int) -> dict[str, object]:
        morning = Morning(level - before, within_s=0, at_once=8, session_cpu_s=0.5, cores=2)
        found = simulate(COSTS, morning, seed=level)
        return step(
            level, found.ready_p50_s, servers=level, spawns=level - before,
            spawn_p95_s=found.ready_p95_s, grow_cpu_s=0.1 * (level - before),
        )  # fmt: skip

    levels = (0, 1, 10, 30, 100)
    steps = [played(level, before) for before, level in itertools.pairwise(levels)]
    found = check({"at_once": 8, "cores": 2, "steps": steps})
    assert found.session_cpu_s == pytest.approx(0.5, rel=0.2)
    assert found.simulated_p50_s == pytest.approx(found.measured_p50_s, rel=0.2)
    assert found.simulated_p95_s == pytest.approx(found.measured_p95_s, rel=0.3)


def test_a_step_that_broke_teaches_nothing() -> None:
    """A last step that lost servers is neither learned from nor foretold."""
    steps = [step(n, spawn_p95_s=1, servers=n) for n in (1, 10, 30)]
    assert len(whole_steps({"steps": steps, "first_broken": ""})) == 3
    assert len(whole_steps({"steps": steps, "first_broken": "9 of 30 spawns failed"})) == 2


def test_two_steps_are_not_enough_for_a_check() -> None:
    with pytest.raises(UsageError, match="three steps"):
        check(
            {"at_once": 8, "cores": 2, "steps": [step(1, spawn_p95_s=1), step(10, spawn_p95_s=1)]}
        )


@pytest.mark.parametrize(
    "text", ["", "[]", '{"steps": []}', "{",
             '{"servers_are": "stand-in", "steps": [], "at_once": 8, "cores": 2, "cells": 4}'],
)  # fmt: skip
def test_another_file_is_refused(text: str, tmp_path: Path) -> None:
    """A file that is none, one cut short, one without what is needed, one of several hubs."""
    file = tmp_path / "scale.json"
    file.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "testbed", "bench", "predict", str(file)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "scale run" in done.stderr or "bench scale" in done.stderr
