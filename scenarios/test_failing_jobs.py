"""What goes wrong with a job reaches the person, at once and in the scheduler's words."""

import re
import time
from collections.abc import Callable, Iterator

import pytest

from testbed import faults, sessions
from testbed.bed import Bed
from testbed.hub_client import (
    HubClient,
    HubUnreachable,
    Progress,
    Spawn,
    SpawnFailed,
)
from testbed.kernels import Kernel, KernelDied
from testbed.logins import Logins, Visitor
from testbed.orphans import Job
from testbed.promises import expect_within
from testbed.sessions import Session
from testbed.site import Site

pytestmark = pytest.mark.needs("faults")

# 'At once' on a busy machine: a few rounds of the hub's queue monitor.
AT_ONCE_S = 15.0


def until_waiting(
    client: HubClient, asked: Spawn, jobs_behind: Callable[..., list[Job]]
) -> tuple[Job, Iterator[Progress]]:
    """Follow a spawn until its job is in the queue; returns the job and the rest of the stream."""
    events = client.follow(asked, timeout_s=120)
    for event in events:
        if event.phase == "submitted":
            break
    (job,) = expect_within(10, lambda: jobs_behind(client), what="the job is in the queue")
    return job, events


@pytest.fixture
def newcomer(site: Site, logins: Logins) -> Visitor:
    """Somebody without a claim on any machine, whose job has to be matched."""
    return logins.visitor(site.people("person")[4].name)


@pytest.mark.needs("htcondor")
def test_held_job_fails_the_spawn(
    bed: Bed,
    site: Site,
    newcomer: Visitor,
    stopped_after: Callable[..., HubClient],
    jobs_behind: Callable[..., list[Job]],
    expect_no_job: Callable[..., None],
) -> None:
    """A held HTCondor job fails the spawn at once with its hold reason, and is removed."""
    reason = "the quota of this home is exceeded"
    client = stopped_after(newcomer.on("htcondor"))
    # Without a negotiator the job stays in the queue until it is held.
    with faults.stop(bed, "condor-cm"):
        asked = Spawn(client.user, "", {"backend": "htcondor", **site.backend("htcondor").options})
        job, events = until_waiting(client, asked, jobs_behind)
        held = bed.exec("condor-ap-hub", ["condor_hold", "-reason", reason, job.job_id])
        assert held.ok, held.stderr
        begin = time.monotonic()
        with pytest.raises(SpawnFailed) as failure:
            for _ in events:
                pass
        assert time.monotonic() - begin < AT_ONCE_S
    assert reason in str(failure.value)
    assert reason in client.spawn_account()["reason"]
    expect_no_job(client)


def test_job_removed_while_it_waits(
    bed: Bed,
    site: Site,
    newcomer: Visitor,
    stopped_after: Callable[..., HubClient],
    batch_backend: str,
    jobs_behind: Callable[..., list[Job]],
) -> None:
    """A job removed before its server said hello fails the spawn at once, and says so."""
    standstill = {
        "htcondor": lambda: faults.stop(bed, "condor-cm"),
        # Stopped, they would leave the partition, and Slurm would refuse the job.
        "slurm": lambda: faults.pause(bed, "slurm-node"),
    }
    client = stopped_after(newcomer.on(batch_backend))
    with standstill[batch_backend]():
        asked = Spawn(
            client.user, "", {"backend": batch_backend, **site.backend(batch_backend).options}
        )
        job, events = until_waiting(client, asked, jobs_behind)
        sessions.remove(bed, job)
        begin = time.monotonic()
        with pytest.raises(SpawnFailed) as failure:
            for _ in events:
                pass
        assert time.monotonic() - begin < AT_ONCE_S
    assert re.search(r"removed|cancel", str(failure.value), re.IGNORECASE), failure.value


def test_job_removed_behind_the_hubs_back(bed: Bed, running: Session) -> None:
    """When an operator removes a running server's job the hub notices, and knows why."""
    expect_within(
        60, lambda: running.client.spawn_account()["present"], what="the session holds a connection"
    )
    sessions.remove(bed, running.job)
    expect_within(
        60,
        lambda: "" not in running.client.servers(),
        what="the hub has noticed that the job is gone",
    )
    reason = running.client.spawn_account()["reason"]
    assert re.search(r"removed|cancel", reason, re.IGNORECASE), reason


@pytest.mark.needs("slurm")
@pytest.mark.parametrize("way", ["cancel", "stop"])
def test_full_partition_shows_why_and_can_be_left(
    alice: Visitor,
    full_partition: str,
    stopped_after: Callable[..., HubClient],
    expect_no_job: Callable[..., None],
    way: str,
) -> None:
    """While a partition is full the progress gives Slurm's reason, and the wait can be ended."""
    client = stopped_after(alice.on("slurm"))
    asked = Spawn(
        client.user, "", {"backend": "slurm", "partition": full_partition, "runtime_min": 8}
    )
    told = []
    for event in client.follow(asked, timeout_s=90):
        told.append(event.message)
        why = re.search(r"resources|priority|MaxCpuPerNode|QOSMax", event.message, re.IGNORECASE)
        # With its place in the queue: bob's jobs have a time limit, so the end of one is known.
        if why and "UTC at the latest" in event.message:
            break
    else:
        pytest.fail(f"the spawn went through a full partition, or no place was told: {told}")
    begin = time.monotonic()
    if way == "cancel":
        answer = client.request("DELETE", f"/hub/api/af/spawns/{client.user}")
        assert answer.status_code == 204
    else:
        client.stop()
    expect_within(
        AT_ONCE_S, lambda: "" not in client.servers(), what="the waiting server is given up"
    )
    assert time.monotonic() - begin < AT_ONCE_S
    expect_no_job(client)


def test_memory_hog_is_stopped_at_its_limit(running: Session) -> None:
    """A cell that eats more memory than was granted is ended, and the hub knows why.

    Where control groups end the whole job (version 2) the server goes with it; where they
    end only the biggest process (version 1) the kernel is reported dead and the server
    lives on. Either way memory and the limit are named.
    """
    # 10 GiB in pieces that are really touched, well beyond any class's limit.
    with pytest.raises((KernelDied, HubUnreachable)):
        running.kernel.run("hog = [bytearray(b'x') * 2**26 for _ in range(160)]", timeout_s=120)

    def told() -> str:
        account = running.client.spawn_account()
        return str(account["notice"] or account["reason"])

    why = expect_within(60, told, what="the hub has been told why")
    assert re.search(r"memory", why, re.IGNORECASE), why
    assert re.search(r"\d+ MiB", why), why
    if "" in running.client.servers():
        with Kernel.start(running.client) as again:
            assert again.run("6 * 7").value == "42"
