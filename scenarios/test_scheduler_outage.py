"""A scheduler that does not answer for a while costs nobody their server."""

import contextlib
import time
from collections.abc import Callable, Sequence

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


def _keep_answering(
    sessions: Sequence[Session], at_least_s: float, told: Callable[[Session], bool]
) -> None:
    """The kernels answer for so long, and until the hubs tell what they should."""
    end = time.monotonic() + at_least_s

    def done() -> bool:
        assert all(session.remembers() for session in sessions)
        return all(told(session) for session in sessions) and time.monotonic() > end

    expect_within(180, done, what="the hubs tell how their schedulers are")


@pytest.fixture
def error(logins: Logins) -> Callable[[Session], str | None]:
    """error(session): what keeps its hub from asking its scheduler, by the hub's own account."""

    def look(session: Session) -> str | None:
        observer = logins.observer(session.client.instance)
        said: str | None = observer.get_json("/hub/api/af/queue")[session.backend]["error"]
        return said

    return look


@pytest.mark.needs("htcondor", "slurm")
def test_servers_survive_silent_schedulers(
    bed: Bed,
    running_on: Callable[[str], Session],
    jobs_behind: Callable[..., list[Job]],
    error: Callable[[Session], str | None],
) -> None:
    """No answer from either scheduler: the hubs say so, and the servers run on and are kept."""
    sessions = [running_on(backend) for backend in ANSWERS]
    with contextlib.ExitStack() as silent:
        for service in ANSWERS.values():
            silent.enter_context(faults.pause(bed, service))
        _keep_answering(sessions, OUTAGE_S, lambda session: isinstance(error(session), str))
        assert all(session.client.servers()[""]["ready"] for session in sessions)
    _keep_answering(sessions, AFTERMATH_S, lambda session: error(session) is None)
    for session in sessions:
        assert session.client.servers()[""]["ready"]
        assert jobs_behind(session.client) == [session.job]


@pytest.mark.soak
def test_hub_says_that_the_scheduler_is_not_there(
    bed: Bed, running: Session, error: Callable[[Session], str | None]
) -> None:
    """One that was stopped refuses at once: the hub's account says so, and after it no more."""
    with faults.stop(bed, ANSWERS[running.backend]):
        _keep_answering([running], 0, lambda session: isinstance(error(session), str))
    _keep_answering([running], 0, lambda session: error(session) is None)
    assert running.client.servers()[""]["ready"]


def test_spawn_works_after_an_outage(
    bed: Bed, bob: Visitor, batch_backend: str, spawn: Callable[..., Spawn]
) -> None:
    """The first spawn after the scheduler was away works."""
    with faults.stop(bed, ANSWERS[batch_backend]):
        pass
    spawn(bob.on(batch_backend), batch_backend)
