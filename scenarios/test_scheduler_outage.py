"""A scheduler that does not answer for a while costs nobody their server."""

import time
from collections.abc import Callable

import pytest

from testbed import faults
from testbed.bed import Bed
from testbed.hub_client import HubClient, Spawn
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


def _keeps_answering(running: Session, at_least_s: float, told: Callable[[], bool]) -> None:
    """The kernel answers for so long, and until the hub tells what it should."""
    end = time.monotonic() + at_least_s

    def done() -> bool:
        assert running.remembers()
        return told() and time.monotonic() > end

    expect_within(180, done, what="the hub tells how its scheduler is")


def _error(observer: HubClient, running: Session) -> str | None:
    """What keeps the hub from asking the scheduler, by its own account."""
    said: str | None = observer.get_json("/hub/api/af/queue")[running.backend]["error"]
    return said


def test_server_survives_silent_scheduler(
    bed: Bed, running: Session, jobs_behind: Callable[..., list[Job]], logins: Logins
) -> None:
    """No answer from the scheduler: the hub says so, and the server runs on and is kept."""
    observer = logins.observer(running.client.instance)
    with faults.pause(bed, ANSWERS[running.backend]):
        _keeps_answering(running, OUTAGE_S, lambda: isinstance(_error(observer, running), str))
        assert running.client.servers()[""]["ready"]
    _keeps_answering(running, AFTERMATH_S, lambda: _error(observer, running) is None)
    assert running.client.servers()[""]["ready"]
    assert jobs_behind(running.client) == [running.job]


@pytest.mark.soak
def test_hub_says_that_the_scheduler_is_not_there(
    bed: Bed, running: Session, logins: Logins
) -> None:
    """One that was stopped refuses at once: the hub's account says so, and after it no more."""
    observer = logins.observer(running.client.instance)
    with faults.stop(bed, ANSWERS[running.backend]):
        _keeps_answering(running, 0, lambda: isinstance(_error(observer, running), str))
    _keeps_answering(running, 0, lambda: _error(observer, running) is None)
    assert running.client.servers()[""]["ready"]


def test_spawn_works_after_an_outage(
    bed: Bed, bob: Visitor, batch_backend: str, spawn: Callable[..., Spawn]
) -> None:
    """The first spawn after the scheduler was away works."""
    with faults.stop(bed, ANSWERS[batch_backend]):
        pass
    spawn(bob.on(batch_backend), batch_backend)
