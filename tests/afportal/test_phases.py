"""Stamps of a spawn keep their order whatever other machines' clocks say."""

from __future__ import annotations

import time

from afportal.phases import PHASES, Stamps


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
