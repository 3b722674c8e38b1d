"""Index of the scenarios' fixtures. The first two kinds come from `testbed.pytest_plugin`.

Configuration (data; nothing is started)
    site                the facility under judgement: its front door, backends, people
    backend             each of htcondor, slurm, local that the site has, one after the other
    batch_backend       the same without local
    notebook            each notebook of `notebooks/`, one after the other

Stand-up (once a session)
    bed                 one's own testbed, up; for scenarios that need `faults`
    logins              everybody of the site, logged in when first asked for
    observer            who may list everybody's servers and read the metrics
    people              two different people; `alice` and `bob` are the first and the second

Action (one deed, undone when the test ends)
    spawn               spawn(client, backend, …): a ready server
    stopped_after       notes a client whose server shall be stopped at the end
    running             alice's server on `batch_backend`, with a kernel that remembers a value
    full_partition      the Slurm partition `short`, full of bob's jobs
    run_folder          a folder in the run's report

After each scenario the plugin looks for jobs without a server and servers without a job.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed import notebooks, orphans
from testbed.bed import Bed
from testbed.errors import TestbedError
from testbed.hub_client import HubClient, Spawn
from testbed.promises import expect_within
from testbed.sessions import Session
from testbed.site import Site
from testbed.waiting import wait_until

NOTEBOOKS = notebooks.find(Path(__file__).parent / "notebooks")


def _needing(name: str) -> object:
    return pytest.param(name, marks=pytest.mark.needs(name), id=name)


# Configuration


@pytest.fixture(params=[_needing("htcondor"), _needing("slurm"), _needing("local")])
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend of the site."""
    return str(request.param)


@pytest.fixture(params=[_needing("htcondor"), _needing("slurm")])
def batch_backend(request: pytest.FixtureRequest) -> str:
    """Each backend of the site that has a queue."""
    return str(request.param)


@pytest.fixture(
    params=[
        pytest.param(notebook, marks=pytest.mark.needs(*notebook.needs), id=notebook.name)
        for notebook in NOTEBOOKS
    ]
)
def notebook(request: pytest.FixtureRequest) -> notebooks.Notebook:
    """Each notebook."""
    found: notebooks.Notebook = request.param
    return found


# Action


@pytest.fixture
def running(
    bed: Bed, alice: HubClient, batch_backend: str, spawn: Callable[..., Spawn]
) -> Iterator[Session]:
    """Alice's server on a batch backend, with a kernel that remembers a value."""
    spawn(alice, batch_backend)
    (job,) = jobs_of(bed, alice)
    session = Session.begin(alice, batch_backend, job)
    yield session
    session.kernel.shut_down()


@pytest.fixture
def full_partition(bed: Bed, site: Site, bob: HubClient) -> Iterator[str]:
    """A Slurm partition where nothing is free, because bob's jobs fill it."""
    partition = "short"
    person = site.person(bob.user)
    done = bed.exec(
        "slurm-node",
        ["sbatch", "--parsable", f"--partition={partition}", "--array=0-15", "--ntasks=1",
         "--mem=64", "--time=00:09:00", "--job-name=filler", "--output=/dev/null",
         "--chdir=/", "--wrap=exec sleep 540"],
        user=f"{person.uid}:{person.gid}",
    )  # fmt: skip
    if not done.ok:
        raise TestbedError("the partition could not be filled", seen=done.stderr)
    filler = done.stdout.strip().split(";")[0]

    def full() -> bool:
        seen = bed.exec(
            "slurmctld",
            ["squeue", "--all", "--noheader", "--array", f"--job={filler}", "--format=%T"],
        )
        return {"RUNNING", "PENDING"} <= set(seen.stdout.split())

    try:
        wait_until(
            full, 30, what=f"partition {partition} full", hint="testbed exec slurmctld squeue"
        )
        yield partition
    finally:
        bed.exec("slurmctld", ["scancel", filler])
        wait_until(
            lambda: (
                not bed.exec(
                    "slurmctld", ["squeue", "--all", "--noheader", f"--job={filler}"]
                ).stdout.strip()
            ),
            60,
            what="the partition emptied",
        )


# What several scenarios look at


def jobs_of(bed: Bed, client: HubClient, server: str = "") -> list[orphans.Job]:
    """The jobs behind a person's server, by what the schedulers say."""
    return [job for job in orphans.jobs(bed) if job.server == f"{client.user}/{server}"]


@pytest.fixture
def jobs_behind(bed: Bed) -> Callable[..., list[orphans.Job]]:
    """jobs_behind(client, server=""): the jobs that the schedulers have for a server."""

    def look(client: HubClient, server: str = "") -> list[orphans.Job]:
        return jobs_of(bed, client, server)

    return look


@pytest.fixture
def expect_no_job(bed: Bed) -> Callable[..., None]:
    """expect_no_job(client, server=""): fails unless the schedulers soon have none."""

    def look(client: HubClient, server: str = "", timeout_s: float = 20) -> None:
        expect_within(
            timeout_s,
            lambda: not jobs_of(bed, client, server),
            what=f"no job of {client.user}/{server} in any queue",
            poll_s=0.5,
        )

    return look
