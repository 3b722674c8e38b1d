"""Hits and misses are told apart in what XRootD 5.8.1 really sent."""

import importlib.machinery
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from testbed.data_client import is_hit, is_miss

ROOT = Path(__file__).resolve().parents[2]
DATAGRAM = (ROOT / "tests" / "data" / "xrootd" / "g-stream.txt").read_bytes()
MONITOR = ROOT / "compose/images/xrootd/files/usr/local/bin/xrootd-monitor"


@pytest.fixture
def monitor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The collector's program, keeping its records in a folder of the test's."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # it lies where images are made from
    loader = importlib.machinery.SourceFileLoader("xrootd_monitor", str(MONITOR))
    spec = importlib.util.spec_from_loader("xrootd_monitor", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    monkeypatch.setattr(module, "RECORDS", tmp_path / "records.jsonl")
    monkeypatch.setattr(module, "TOTALS", tmp_path / "totals.json")
    return module


def test_a_datagram_is_taken_apart(monitor: ModuleType) -> None:
    """Each record is kept with the header that says which server sent it."""
    first, second = monitor.records(DATAGRAM + b"\0")
    assert first["lfn"] == second["lfn"] == "/data/cms/judge/a.bin"
    assert first["from"]["sid"] == 191404062517805


def test_a_miss_and_a_hit_are_told_apart(monitor: ModuleType) -> None:
    """A miss says `b_hit` too, so that is not what decides."""
    first, second = monitor.records(DATAGRAM)
    assert (is_miss(first), is_hit(first)) == (True, False)
    assert (is_miss(second), is_hit(second)) == (False, True)


def test_the_older_half_goes_when_it_is_too_much(
    monitor: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "MOST_BYTES", 100)
    for number in range(10):
        monitor.keep([{"event": "file_close", "lfn": f"/data/{number}"}])
    kept = monitor.RECORDS.read_text().splitlines()
    assert len(kept) < 10
    assert '"/data/9"' in kept[-1]


def test_totals_say_what_readers_got_and_what_it_cost(monitor: ModuleType) -> None:
    """One miss and one hit, and not what a service's own check reads."""
    monitor.keep(monitor.records(DATAGRAM))
    monitor.keep([{"event": "file_close", "lfn": "/data/health/alive", "b_hit": 6}])
    assert json.loads(monitor.TOTALS.read_text()) == {
        "hit": 1, "miss": 1, "read_bytes": 2 * 20971520, "fetched_bytes": 20971520,
        "checksum_errors": 0,
    }  # fmt: skip


def test_totals_outlive_the_collector(monitor: ModuleType) -> None:
    """They go on where they were, and begin anew only where they cannot be read."""
    monitor.keep(monitor.records(DATAGRAM))
    monitor.keep(monitor.records(DATAGRAM))
    assert json.loads(monitor.TOTALS.read_text())["hit"] == 2
    monitor.TOTALS.write_text("{half")
    monitor.keep(monitor.records(DATAGRAM))
    assert json.loads(monitor.TOTALS.read_text())["hit"] == 1
