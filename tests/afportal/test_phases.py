"""Stamps of a spawn keep their order whatever other machines' clocks say."""

from __future__ import annotations

import re
import time
from pathlib import Path

from prometheus_client import REGISTRY

from afportal.phases import CAUSES, PHASES, Stamps, expect


def test_a_clock_that_is_off_cannot_spoil_a_record() -> None:
    """A job's stamp lies between the hub's own stamps around it."""
    stamps = Stamps()
    accepted = stamps.stamp("accepted")
    assert stamps.stamp("executing", accepted - 3600) == accepted
    assert stamps.stamp("hello", time.time() + 3600) <= time.time()


def test_a_late_word_of_an_early_phase_fits_in() -> None:
    """'matched' may be heard of after 'executing'; it is stamped no later."""
    stamps = Stamps()
    stamps.stamp("submitted", 100.0)
    stamps.stamp("executing", 101.0)
    assert stamps.stamp("matched", 105.0) == 101.0
    assert list(stamps.as_dict()) == ["submitted", "matched", "executing"]


def test_a_phase_is_stamped_once() -> None:
    """The first stamp of a phase stays."""
    stamps = Stamps()
    first = stamps.stamp("hello")
    assert stamps.stamp("hello", 5.0) == first


def test_the_order_is_the_spawns() -> None:
    """The names and their order are what results.json and the metrics use."""
    assert PHASES == (
        "accepted", "submitted", "matched", "executing", "hello", "http", "routed",
    )  # fmt: skip


def test_a_backends_figures_are_there_before_its_first_spawn() -> None:
    """Prometheus sees a rise only of what it saw before."""

    def figure(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(name, {"backend": "unused", **labels})

    assert figure("afportal_spawn_seconds_count") is None
    expect("unused")
    assert figure("afportal_spawn_seconds_count") == 0
    for cause in CAUSES:
        assert figure("afportal_spawns_failed_total", cause=cause) == 0


def test_every_cause_of_a_failure_is_expected() -> None:
    """Those that the spawner names are those that are shown as 0."""
    folder = Path(__file__).resolve().parents[2] / "src" / "afportal"
    named = {
        cause
        for file in folder.glob("*.py")
        for cause in re.findall(r'\bfailure\("(\w+)"', file.read_text())
    }
    assert named == set(CAUSES)
