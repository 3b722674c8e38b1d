"""A wait ends with the condition, or raises with the last thing that was seen."""

import pytest

from testbed.errors import TestbedError
from testbed.waiting import wait_until


def test_the_result_is_returned() -> None:
    results = iter([None, 0, "ad"])
    assert wait_until(lambda: next(results), 5, what="x", poll_s=0.001) == "ad"


def test_a_timeout_names_wish_time_sight_and_next_command() -> None:
    with pytest.raises(TestbedError) as raised:
        wait_until(list, 0.01, what="schedd in the collector", poll_s=0.001, hint="do this")
    assert str(raised.value) == (
        "schedd in the collector: not so after 0.01 s: last seen []\n  try: do this"
    )


def test_an_awaited_error_counts_as_not_yet_and_is_shown() -> None:
    def refused() -> None:
        raise ConnectionError("refused")

    with pytest.raises(TestbedError, match="last seen ConnectionError: refused"):
        wait_until(refused, 0.01, what="x", poll_s=0.001, retry_on=(ConnectionError,))


def test_another_error_passes_through() -> None:
    def broken() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        wait_until(broken, 5, what="x", retry_on=(ConnectionError,))


def test_the_state_is_described_only_at_the_end() -> None:
    asked = []
    wait_until(lambda: True, 1, what="x", last_seen=lambda: asked.append(1) or "")
    assert asked == []
    with pytest.raises(TestbedError, match="last seen 3 slots"):
        wait_until(lambda: False, 0, what="x", last_seen=lambda: "3 slots")


def test_the_condition_is_asked_once_more_at_the_deadline() -> None:
    """A zero time-out still asks once."""
    assert wait_until(lambda: 1, 0, what="x") == 1
