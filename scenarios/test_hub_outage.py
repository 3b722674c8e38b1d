"""Servers outlive their hub, and a hub that died in the middle leaves nothing behind."""

import contextlib
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


@pytest.fixture
def sessions(running_on: Callable[[str], Session]) -> list[Session]:
    """Alice's servers on both schedulers, each at a hub of its own."""
    return [running_on(backend) for backend in ("htcondor", "slurm")]


def expect_known(sessions: list[Session], jobs_behind: Callable[..., list[Job]]) -> None:
    """The hubs know the servers again, kernels have their state, and there is no other job."""
    for session in sessions:
        assert session.remembers()
        server = expect_within(
            30,
            lambda client=session.client: client.servers().get(""),
            what="the hub knows the server again",
        )
        assert server["ready"]
        assert jobs_behind(session.client) == [session.job]


@pytest.mark.needs("htcondor", "slurm")
def test_servers_survive_a_hub_restart(
    bed: Bed, sessions: list[Session], jobs_behind: Callable[..., list[Job]]
) -> None:
    """Through a restart of the hubs kernels keep their state, and the hubs know them after."""
    with contextlib.ExitStack() as stopped:
        for session in sessions:
            stopped.enter_context(faults.stop(bed, hub_of(session.client)))
        # The proxies and the jobs carry on without a hub.
        assert all(session.remembers() for session in sessions)
    expect_known(sessions, jobs_behind)
    for session in sessions:
        expect_within(
            120,
            lambda client=session.client: client.spawn_account()["present"],
            what="the session holds its connection with the new hub",
        )


@pytest.mark.needs("htcondor", "slurm")
def test_servers_survive_a_hub_crash(
    bed: Bed, sessions: list[Session], jobs_behind: Callable[..., list[Job]]
) -> None:
    """Hubs that are killed and come back find their servers running."""
    with contextlib.ExitStack() as killed:
        for session in sessions:
            killed.enter_context(faults.kill(bed, hub_of(session.client)))
        assert all(session.remembers() for session in sessions)
    expect_known(sessions, jobs_behind)


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
