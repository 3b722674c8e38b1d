"""What would keep a server from starting is told before anything is submitted."""

from collections.abc import Callable

import pytest

from testbed import faults, orphans
from testbed.bed import Bed
from testbed.hub_client import HubClient, SpawnFailed, SpawnRefused
from testbed.logins import Logins
from testbed.site import Site

pytestmark = pytest.mark.needs("front_door", "faults")


def refusal(client: HubClient, backend: str, site: Site) -> str:
    with pytest.raises((SpawnFailed, SpawnRefused)) as failure:
        client.spawn({"backend": backend, **site.backend(backend).options})
    return str(failure.value)


def test_a_full_home_is_told_and_nothing_is_submitted(
    bed: Bed,
    site: Site,
    logins: Logins,
    batch_backend: str,
    stopped_after: Callable[..., HubClient],
) -> None:
    """The message names the home, what is free and what is needed; with room it starts."""
    client = stopped_after(logins.client("frank", batch_backend))
    before = {job.job_id for job in orphans.jobs(bed)}
    with faults.small_folder(bed, "/home/frank"):
        told = refusal(client, batch_backend, site)
    assert "your home /home/frank is full: 0 MiB free, and a server needs 10 MiB" in told
    assert {job.job_id for job in orphans.jobs(bed)} <= before
    client.spawn({"backend": batch_backend, **site.backend(batch_backend).options})


def test_a_missing_environment_is_told(
    bed: Bed, site: Site, logins: Logins, stopped_after: Callable[..., HubClient]
) -> None:
    """Where the login node has no such Python, no node has it."""
    client = stopped_after(logins.client("frank", "slurm"))
    python = "/opt/envs/notebook/bin/python"
    hidden = bed.exec("login-node", ["mv", python, f"{python}.away"], user="root")
    assert hidden.ok, hidden.stderr
    try:
        told = refusal(client, "slurm", site)
    finally:
        assert bed.exec("login-node", ["mv", f"{python}.away", python], user="root").ok
    assert f"{python} is missing" in told
