"""Index of the scenarios' fixtures. The first two kinds come from `testbed.pytest_plugin`.

Configuration (data; nothing is started)
    site                the facility under judgement: its front door, backends, people
    backend             each of htcondor, slurm, local that the site has, one after the other
    batch_backend       the same without local
    notebook            each notebook of `notebooks/`, one after the other

Stand-up (once a session)
    bed                 one's own testbed, up; for scenarios that need `faults`
    logins              everybody of the site, logged in when first asked for
    people              two different people; `alice` and `bob` are the first and the second.
                        `alice.on(backend)` is her client at the first hub that offers it
    neighbours          two people whose servers on HTCondor are one hub instance's
    students            people who are not logged in yet, one after the other
    guest               a browser session of a student at the first hub, to be left as it is
    hubs_client         the client that data tokens come from
    data_browser        a session in which alice, of cms, is logged in at Keycloak
    flawed              what makes tokens of alice that are wrong in one way, by its name

Action (one deed, undone when the test ends)
    spawn               spawn(client, backend, …): a ready server
    come_in             come_in(person=None, hub=None): a new browser session at a hub
    chromium            chromium(name): a real browser with an empty profile
    keycloak_admin      keycloak_admin(deed, person): what only an administrator may do
    stopped_after       notes a client whose server shall be stopped at the end
    running             alice's server on `batch_backend`, with what secrets the site has and a
                        kernel that remembers a value
    alices              alice's session on HTCondor with a kernel for Dask, one a module
    kernel_at           kernel_at(client, backend): a kernel in a new server
    full_partition      the Slurm partition `short`, full of bob's jobs
    alice_reads         alice on a compute node, with a data token of hers; carol_reads: of atlas
    new_file            new_file(content or MiB): a file at the origin that no cache has seen
    run_folder          a folder in the run's report

After each scenario the plugin looks for jobs without a server and servers without a job.
"""

import contextlib
import itertools
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from testbed import chromium as browsers
from testbed import data_tokens, entry, flawed_tokens, notebooks, orphans
from testbed.bed import Bed
from testbed.browser import Browser, spki
from testbed.dask_sessions import DaskSession
from testbed.data_client import DataClient, at_node, file_at_origin
from testbed.errors import TestbedError
from testbed.guests import Guest
from testbed.hub_client import HubClient, Spawn
from testbed.kernels import Kernel
from testbed.logins import Logins, Visitor
from testbed.progress import say
from testbed.promises import expect_within
from testbed.pytest_plugin import cannot_judge
from testbed.secret import Secret
from testbed.sessions import Session
from testbed.site import Hub, Person, Site
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


# Stand-up


@pytest.fixture(scope="session")
def hubs_client(bed: Bed) -> data_tokens.Client:
    """The client that data tokens come from."""
    return data_tokens.hubs_client(bed)


@pytest.fixture(scope="module")
def data_browser(site: Site, hubs_client: data_tokens.Client) -> Iterator[requests.Session]:
    """A session in which alice, of cms, is logged in at Keycloak."""
    with data_tokens.session(site, site.person("alice"), hubs_client, {}) as session:
        yield session


@pytest.fixture(scope="session")
def neighbours(
    site: Site, logins: Logins, pytestconfig: pytest.Config
) -> tuple[HubClient, HubClient]:
    """Two people whom the front door sends to the same instance of the HTCondor hub."""
    first_at: dict[str, HubClient] = {}
    for person in site.people("person"):
        client = logins.client(person.name, "htcondor")
        first = first_at.setdefault(client.instance, client)
        if first is not client:
            return first, client
    return cannot_judge(pytestconfig, f"no two people of site {site.name} are at one hub instance")


@pytest.fixture(scope="session")
def students(site: Site) -> Iterator[Person]:
    """Students one after the other, from the last: a code of one person counts only once."""
    return itertools.cycle(reversed(site.people("student")))


@pytest.fixture(scope="session")
def guest(site: Site, students: Iterator[Person]) -> Iterator[Guest]:
    """A student's browser session at the first hub, for tests that leave it as it is."""
    person = next(students)
    with entry.enter(site, site.hubs[0], person, {}) as browser:
        yield Guest(site, site.hubs[0], person, browser)


# Action


@pytest.fixture
def come_in(site: Site, students: Iterator[Person]) -> Iterator[Callable[..., Guest]]:
    """come_in(person=None, hub=None): a new browser session; by default the next student's."""
    made: list[Guest] = []

    def deed(person: str | None = None, hub: Hub | None = None) -> Guest:
        who = site.person(person) if person else next(students)
        at = hub or site.hubs[0]
        made.append(Guest(site, at, who, entry.enter(site, at, who, {})))
        return made[-1]

    yield deed
    for each in made:
        each.browser.close()


@pytest.fixture
def chromium(site: Site, run_folder: Path) -> Iterator[Callable[[str], Browser]]:
    """chromium(name): a browser with an empty profile; its pictures are kept by that name."""
    found = browsers.ensure(say)
    key = spki(str(site.front_door), verify=site.verify) if site.ca_bundle else ""
    opened: list[Browser] = []

    def deed(name: str) -> Browser:
        trusted = [key] if key else []
        opened.append(Browser(found, trusted=trusted, pictures=run_folder / name))
        return opened[-1]

    yield deed
    for each in opened:
        each.picture("at-the-end")
        each.close()


@pytest.fixture
def keycloak_admin(bed: Bed) -> Callable[..., list[dict[str, Any]]]:
    """keycloak_admin(deed, person): `log-out`, `unlock`, `forget-code`, `events`, `offline`, ….

    Returns what the deed shows, the oldest first.
    """

    def deed(name: str, person: str) -> list[dict[str, Any]]:
        done = bed.exec("keycloak", ["keycloak-ctl", name, person], user="root")
        if not done.ok:
            raise TestbedError(f"keycloak-ctl {name} {person} failed", seen=done.stderr[-800:])
        return [json.loads(line) for line in done.stdout.splitlines()]

    return deed


@pytest.fixture
def running_on(
    bed: Bed, site: Site, alice: Visitor, spawn: Callable[..., Spawn]
) -> Iterator[Callable[[str], Session]]:
    """running_on(backend): alice's server there, with a kernel that remembers a value."""
    with contextlib.ExitStack() as at_the_end:

        def begin(backend: str) -> Session:
            client = alice.on(backend)
            if "data" in site.needs:
                alice.fetch_data_token(backend)
            spawn(client, backend)
            (job,) = jobs_of(bed, client)
            session = Session.begin(client, backend, job)
            at_the_end.callback(session.kernel.shut_down)
            return session

        yield begin


@pytest.fixture
def running(batch_backend: str, running_on: Callable[[str], Session]) -> Session:
    """Alice's server on a batch backend, with a kernel that remembers a value."""
    return running_on(batch_backend)


@pytest.fixture(scope="module")
def alices(site: Site, logins: Logins) -> Iterator[DaskSession]:
    """Alice's session on HTCondor, with a kernel in which scenarios of Dask work."""
    with DaskSession.begin(site, Visitor("alice", logins), "htcondor") as session:
        yield session


@pytest.fixture
def kernel_at(spawn: Callable[..., Spawn]) -> Iterator[Callable[[HubClient, str], Kernel]]:
    """kernel_at(client, backend): a kernel in a new server; ended with the scenario."""
    with contextlib.ExitStack() as open_ones:

        def begin(client: HubClient, backend: str) -> Kernel:
            spawn(client, backend)
            return open_ones.enter_context(Kernel.start(client))

        yield begin


@pytest.fixture
def full_partition(bed: Bed, site: Site, bob: Visitor) -> Iterator[str]:
    """A Slurm partition where nothing is free, because bob's jobs fill it."""
    partition = "short"
    person = site.person(bob.name)
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


# Data


@pytest.fixture
def alice_reads(
    bed: Bed, site: Site, data_browser: requests.Session, hubs_client: data_tokens.Client
) -> Iterator[DataClient]:
    """Alice on a compute node, with a data token of hers."""
    token = data_tokens.fetch(data_browser, hubs_client, *data_tokens.ALL_SCOPES).access
    with at_node(bed, site.person("alice"), token) as client:
        yield client


@pytest.fixture
def carol_reads(bed: Bed, site: Site, hubs_client: data_tokens.Client) -> Iterator[DataClient]:
    """Carol, of atlas, with as good a token as she can get."""
    carol = site.person("carol")
    with data_tokens.session(site, carol, hubs_client, {}) as session:
        token = data_tokens.fetch(session, hubs_client, *data_tokens.ALL_SCOPES).access
    with at_node(bed, carol, token) as client:
        yield client


@pytest.fixture(scope="module")
def flawed(
    bed: Bed, data_browser: requests.Session, hubs_client: data_tokens.Client
) -> Iterator[dict[str, Callable[[], Secret | None]]]:
    """Tokens of alice that are wrong in one way each, by the name of the flaw."""
    with flawed_tokens.minter(bed, data_browser, hubs_client) as made:
        yield made


# What several scenarios look at


def jobs_of(bed: Bed, client: HubClient, server: str = "") -> list[orphans.Job]:
    """The jobs behind a person's server, by what the schedulers say."""
    wanted = (client.instance, f"{client.user}/{server}")
    return [job for job in orphans.jobs(bed) if (job.cell, job.server) == wanted]


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


@pytest.fixture
def new_file(bed: Bed) -> Iterator[Callable[[bytes | int], tuple[str, str]]]:
    """new_file(content or MiB): a file at the origin that no cache has seen: path, SHA-256."""
    with contextlib.ExitStack() as files:
        yield lambda content: files.enter_context(
            file_at_origin(bed, f"{uuid.uuid4().hex}.bin", content)
        )
