"""A scheduler that does not answer for a while costs nobody their server."""

import time
from collections.abc import Callable

import pytest

from testbed import faults
from testbed.bed import Bed
from testbed.hub_client import Spawn
from testbed.logins import Logins, Visitor
from testbed.orphans import Job
from testbed.promises import expect_within
from testbed.sessions import Session

pytestmark = pytest.mark.needs("faults")

# Longer than the 12 s after which the stock spawner was seen to orphan a job.
OUTAGE_S = 14.0
# What the hub may need to have asked again, and to have drawn a wrong conclusion.
AFTERMATH_S = 15.0
ANSWERS = {"htcondor": "condor-ap-hub", "slurm": "slurmrestd"}


def _keeps_answering(running: Session, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert running.remembers()


def test_server_survives_silent_scheduler(
    bed: Bed, running: Session, jobs_behind: Callable[..., list[Job]]
) -> None:
    """14 s without an answer from the scheduler: the server runs on and the hub keeps it."""
    with faults.pause(bed, ANSWERS[running.backend]):
        _keeps_answering(running, OUTAGE_S)
        assert running.client.servers()[""]["ready"]
    _keeps_answering(running, AFTERMATH_S)
    assert running.client.servers()[""]["ready"]
    assert jobs_behind(running.client) == [running.job]


def test_hub_says_that_the_scheduler_is_silent(bed: Bed, running: Session, logins: Logins) -> None:
    """While a scheduler does not answer the hub's account of it says so, and after it no more."""
    observer = logins.observer(running.client.instance)
    with faults.stop(bed, ANSWERS[running.backend]):
        error = expect_within(
            120,
            lambda: observer.get_json("/hub/api/af/queue")[running.backend]["error"],
            what="the hub says that its scheduler does not answer",
        )
        assert isinstance(error, str)
        assert running.remembers()
    expect_within(
        120,
        lambda: observer.get_json("/hub/api/af/queue")[running.backend]["error"] is None,
        what="the hub says that its scheduler answers again",
    )
    assert running.client.servers()[""]["ready"]


def test_spawn_works_after_an_outage(
    bed: Bed, bob: Visitor, batch_backend: str, spawn: Callable[..., Spawn]
) -> None:
    """The first spawn after the scheduler was away works."""
    with faults.stop(bed, ANSWERS[batch_backend]):
        pass
    spawn(bob.on(batch_backend), batch_backend)
