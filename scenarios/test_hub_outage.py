"""Servers outlive their hub, and a hub that died in the middle leaves nothing behind."""

from collections.abc import Callable

import pytest

from testbed import faults
from testbed.bed import Bed
from testbed.errors import ScenarioFailed
from testbed.hub_client import HubClient, HubUnreachable, Spawn
from testbed.logins import Logins
from testbed.orphans import Job
from testbed.promises import expect_within
from testbed.sessions import Session
from testbed.site import Site

pytestmark = pytest.mark.needs("faults")


def hub_of(client: HubClient) -> str:
    """The service that a person's servers depend on."""
    return f"hub-{client.instance}"


def test_servers_survive_a_hub_restart(
    bed: Bed, running: Session, jobs_behind: Callable[..., list[Job]]
) -> None:
    """Through a restart of the hub kernels keep their state, and the hub knows them after."""
    with faults.stop(bed, hub_of(running.client)):
        # The proxy and the job carry on without a hub.
        assert running.remembers()
    assert running.remembers()
    server = expect_within(
        30,
        lambda: running.client.servers().get(""),
        what="the hub knows the server again",
    )
    assert server["ready"]
    assert jobs_behind(running.client) == [running.job]
    expect_within(
        120,
        lambda: running.client.spawn_account()["present"],
        what="the session holds its connection with the new hub",
    )


def test_servers_survive_a_hub_crash(
    bed: Bed, running: Session, jobs_behind: Callable[..., list[Job]]
) -> None:
    """A hub that is killed and comes back finds its servers running."""
    with faults.kill(bed, hub_of(running.client)):
        assert running.remembers()
    assert running.remembers()
    server = expect_within(
        30, lambda: running.client.servers().get(""), what="the hub knows the server again"
    )
    assert server["ready"]
    assert jobs_behind(running.client) == [running.job]


def test_hub_killed_between_submit_and_ready(
    bed: Bed,
    site: Site,
    logins: Logins,
    batch_backend: str,
    stopped_after: Callable[..., HubClient],
    spawn: Callable[..., Spawn],
) -> None:
    """A hub that dies after submitting leaves no orphan, and the person can spawn again."""
    # Somebody who has no claim on a machine yet, so that the start takes its time.
    client = stopped_after(logins.client(site.people("person")[3].name, batch_backend))
    asked = Spawn(
        client.user, "", {"backend": batch_backend, **site.backend(batch_backend).options}
    )
    try:
        for event in client.follow(asked):
            if event.phase == "submitted":
                with faults.kill(bed, hub_of(client)):
                    pass
    except (HubUnreachable, ScenarioFailed):
        pass
    assert "submitted" in asked.hub_unix_s
    # Adopted or cancelled: either way the two sides agree, and a new start works.
    client.stop(timeout_s=60)
    spawn(client, batch_backend)
