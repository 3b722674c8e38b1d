"""Servers in steps on one hub: slopes, what broke first, and an end while the machine has room."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from testbed import hub_process, scale_against, scale_steps
from testbed.hub_client import HubClient
from testbed.hub_process import Window
from testbed.results import SpawnRecord
from testbed.scale_crowd import Crowd
from testbed.scale_steps import Extent, Step
from testbed.secret import Secret


def a_step(servers: int, *, held: int | None = None, failed: int = 0, **more: float) -> Step:
    """A step on a hub of 1 CPU s and 100 MiB, and 10 ms and 64 KiB more a server and minute."""
    values = {
        "spawn_p50_s": 1.0, "spawn_p95_s": 2.0, "spawn_p99_s": 3.0, "grow_s": 10.0,
        "grow_cpu_s": 0.1 * servers, "window_s": 60.0, "hub_cpu_s": 1 + 0.01 * servers,
        "hub_memory_mib": 100 + servers / 16, "nodes_memory_mib": 50.0 + 20 * servers,
        "load_1min": 0.5,
    } | more  # fmt: skip
    return Step(
        servers=servers,
        held=servers if held is None else held,
        spawns=servers,
        failed=failed,
        queries={"htcondor": 6.0, "slurm": 12.0},
        **values,
    )


def a_record(number: int, span_s: float, outcome: str = "ready", reason: str = "") -> SpawnRecord:
    return SpawnRecord(
        user="student01",
        server=f"scale-{number:04d}",
        hub="oauth",
        backend=("htcondor", "slurm")[number % 2],
        outcome=outcome,
        reason=reason,
        own_unix_s={"click": 100.0, "ready": 100.0 + span_s} if outcome == "ready" else {},
    )


@pytest.mark.parametrize(
    ("servers", "levels"),
    [(1, [1]), (5, [1, 5]), (100, [1, 10, 30, 100]), (1000, [1, 10, 30, 100, 300, 1000])],
)
def test_steps_end_with_what_was_asked(servers: int, levels: list[int]) -> None:
    """Steps grow about threefold, and the last one is the number that was asked for."""
    assert Extent(servers=servers).levels == levels


def test_a_servers_cost_is_a_slope() -> None:
    """What the hub uses without servers is in no server's share."""
    found = scale_steps.figures([a_step(1), a_step(101)], [a_record(n, 1.0) for n in range(4)])
    assert found["hub_cpu_ms_per_server_min"] == pytest.approx(10, rel=0.01)
    assert found["hub_memory_kib_per_server"] == pytest.approx(64, rel=0.01)
    assert found["node_memory_mib_per_server"] == pytest.approx(20)
    assert found["hub_cpu_ms_per_spawn"] == pytest.approx(100)
    assert found["queries_per_s"] == pytest.approx(0.3)
    assert found["slurm_queries_per_s"] == pytest.approx(0.2)
    assert (found["servers_max"], found["failed"]) == (101, 0)


def test_servers_that_were_lost_are_not_held() -> None:
    """The most that ran at once counts, not the most that was asked for."""
    steps = [a_step(10), a_step(30), a_step(100, held=20)]
    assert scale_steps.figures(steps, [])["servers_max"] == 30


def test_what_broke_is_told_by_its_first_reason() -> None:
    """Short of memory, a failed spawn, a lost server: each in words; nothing broken, no words."""
    bad = a_record(1, 0, "failed", "slurm refuses: no room\nand more")
    told = scale_steps.first_broken(a_step(2, failed=1), [a_record(0, 1), bad],
                                    short_of_memory=False)  # fmt: skip
    assert told == "1 of 2 spawns failed; the first, on slurm: slurm refuses: no room"
    lost = scale_steps.first_broken(a_step(9, held=7), [], short_of_memory=False)
    assert lost == "2 of 9 servers were lost while they ran"
    assert "memory" in scale_steps.first_broken(a_step(9), [], short_of_memory=True)
    assert scale_steps.first_broken(a_step(9), [a_record(0, 1)], short_of_memory=False) == ""


def test_steps_are_kept_with_what_a_server_was(tmp_path: Path) -> None:
    """scale.json says that they were stand-ins, for whoever reads the figures later."""
    path = scale_steps.write(tmp_path, [a_step(1)], "", Extent(servers=1))
    told = json.loads(path.read_text())
    assert told["servers_are"] == "stand-in"
    assert told["steps"][0]["queries"] == {"htcondor": 6.0, "slurm": 12.0}


def test_nothing_is_begun_on_a_machine_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below a gibibyte no server is asked for, and the crowd says why."""
    little = psutil.virtual_memory()._replace(available=2**29)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    nowhere = HubClient("http://127.0.0.1:9/none", "student01", Secret("none"))
    crowd = Crowd("oauth", [nowhere], {"htcondor": {}}, at_once=2, timeout_s=1)
    assert crowd.grow(3, 0) == []
    assert crowd.short_of_memory
    crowd.end()
    assert crowd.left_over == []


def test_a_hubs_cpu_has_that_of_its_commands(tmp_path: Path) -> None:
    """A process that is called jupyterhub is found, with the CPU of a child that it waited for."""
    script = tmp_path / "jupyterhub"
    burn = "import time\nwhile time.process_time() < 0.4: pass"
    script.write_text(
        "import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-c', {burn!r}], check=True)\n"
        "print('ready', flush=True)\nsys.stdin.read()\n"
    )
    hub = subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert hub.stdout is not None
        assert hub.stdout.readline() == b"ready\n"
        done = subprocess.run(
            [sys.executable, "-I", "-c", hub_process._READ],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    finally:
        hub.communicate()
    found = [json.loads(line) for line in done.stdout.splitlines()]
    mine = next(entry for entry in found if entry["pid"] == hub.pid)
    # Four counts of whole ticks of 10 ms: up to 40 ms less than was burnt.
    assert mine["cpu_s"] >= 0.35
    assert mine["memory_mib"] > 1


def test_cells_count_together() -> None:
    found = hub_process.together(
        [Window(60.0, 1.0, 140.0, {"htcondor": 6.0, "slurm": 6.0}),
         Window(60.1, 2.0, 150.0, {"htcondor": 2.0})]
    )  # fmt: skip
    assert found == Window(60.0, 3.0, 290.0, {"htcondor": 8.0, "slurm": 6.0})


def test_stock_hubs_count_together() -> None:
    """One hub of ours is compared with all that stock needs for the same servers."""
    own = Window(60.0, 1.0, 140.0, {"htcondor": 6.0, "slurm": 6.0})
    stock = [Window(60.0, 5.0, 150.0, {"htcondor": 100.0}), Window(60.0, 3.0, 150, {"slurm": 140})]
    found = scale_against.figures(own, stock, 100)
    assert found["hub_cpu_vs_stock_ratio"] == pytest.approx(1 / 8)
    assert found["queries_vs_stock_ratio"] == pytest.approx(12 / 240)
    assert found["stock_queries_per_s"] == pytest.approx(4)
    assert found["against_servers"] == 100
