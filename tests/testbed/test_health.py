"""States are read from what the engine really writes."""

from typing import Any

import pytest

from testbed import health


def entry(state: str, status: str) -> dict[str, Any]:
    return {"State": state, "Status": status, "Image": "af-testbed/x"}


@pytest.mark.parametrize(
    ("state", "status", "expected"),
    [
        ("running", "Up 3 seconds (health: starting)", "starting"),
        ("running", "Up 2 minutes (healthy)", "healthy"),
        ("running", "Up About a minute (unhealthy)", "unhealthy"),
        ("running", "Up 2 hours", "running"),
        ("exited", "Exited (0) 5 seconds ago", "exited"),
        ("restarting", "Restarting (7) Less than a second ago", "restarting"),
        ("paused", "Up 10 minutes (Paused)", "paused"),
        ("created", "Created", "created"),
        ("dead", "Dead", "exited"),
    ],
)
def test_one_container(state: str, status: str, expected: str) -> None:
    assert health.of_container(entry(state, status)) == expected


def test_a_one_shot_is_done_only_with_code_0() -> None:
    done, failed = entry("exited", "Exited (0) 1 second ago"), entry("exited", "Exited (5) 1 s ago")
    assert health.of_service("keys", [done], one_shot=True).ok
    assert not health.of_service("keys", [entry("running", "Up 1 second")], one_shot=True).ok
    assert health.of_service("keys", [failed], one_shot=True).state == "exited"
    assert not health.of_service("ldap", [done]).ok


def test_a_service_is_as_well_as_its_worst_container() -> None:
    well, ill = entry("running", "Up 1 m (healthy)"), entry("running", "Up 1 m (unhealthy)")
    found = health.of_service("condor-ep", [well, ill, well])
    assert (found.state, found.ok, found.containers) == ("unhealthy", False, 3)
    assert found.detail == "Up 1 m (unhealthy)"


def test_no_container_is_absent() -> None:
    assert health.of_service("hub", []).state == "absent"


def test_since_is_the_bare_age() -> None:
    assert health.of_service("x", [entry("running", "Up 2 minutes (healthy)")]).since == "2 minutes"
