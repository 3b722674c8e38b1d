"""What hubs do by themselves, round by round: end servers that nobody uses, and jobs without one.

No server is ended that computes, and none whose owner is there.
"""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from testbed import faults, orphans
from testbed.bed import Bed
from testbed.errors import NotInTime
from testbed.hub_client import HubClient, Spawn
from testbed.kernels import Kernel
from testbed.logins import Logins, Visitor
from testbed.promises import expect_within
from testbed.secret import Secret
from testbed.session_events import SessionEvents
from testbed.site import Hub, Site

pytestmark = [pytest.mark.needs("front_door", "faults"), pytest.mark.timeout(900)]

END_AFTER_MIN, WARN_MIN = 1.0, 0.5
# Rounds come each quarter of a minute then; on a busy machine the rest takes its time too.
PATIENCE_S = 300.0
# Says nothing, until there is a file that comes when the others were judged.
END = "af-enough"
COMPUTE = f"""
import os, time
until = time.monotonic() + {2 * PATIENCE_S}
while not os.path.exists("{END}") and time.monotonic() < until:
    time.sleep(0.2)
os.remove("{END}")
"""


@dataclass(frozen=True)
class LostJob:
    """A job on Slurm that says it is a server's, of a cell that has no such server."""

    hub: Hub
    cell: str
    job_id: str


@pytest.fixture(scope="module")
def lost(bed: Bed, site: Site, logins: Logins) -> LostJob:
    """Submitted now; rounds come each minute, while the next scenario runs."""
    hub = site.hub_for("slurm")
    owner = site.person("alice")
    cell = logins.client("heidi", hub=hub).instance
    done = bed.exec(
        "slurm-node",
        ["sbatch", "--parsable", f"--job-name=af-{cell}", "--comment=alice/lost", "--mem=64",
         "--time=00:09:00", "--output=/dev/null", "--chdir=/", "--wrap=exec sleep 500"],
        user=f"{owner.uid}:{owner.gid}",
    )  # fmt: skip
    assert done.ok, done.stderr
    return LostJob(hub, cell, done.stdout.strip().split(";")[0])


@pytest.mark.usefixtures("lost")  # looked at below
@pytest.mark.needs("htcondor", "slurm")
def test_the_idle_one_ends_and_the_busy_one_computes_on(
    bed: Bed,
    site: Site,
    logins: Logins,
    people: tuple[Visitor, Visitor],
    spawn: Callable[..., Spawn],
    expect_no_job: Callable[..., None],
) -> None:
    """Three servers: in one a cell runs that prints nothing, one is left alone, and the owner of
    the third is told that it will be ended, and says in time that somebody is there."""
    busy, idle = (visitor.on("htcondor") for visitor in people)
    there = logins.client(site.people("person")[2].name, "htcondor")
    spawn(busy, "htcondor")
    spawn(there, "htcondor")
    with Kernel.start(busy) as kernel:
        asked = kernel.ask_to_run(COMPUTE)
        spawn(idle, "htcondor")
        over = threading.Event()
        with (
            faults.impatience(bed, END_AFTER_MIN, WARN_MIN),
            ThreadPoolExecutor(1) as beside,
            contextlib.ExitStack() as at_the_end,
        ):
            at_the_end.callback(over.set)
            kept = beside.submit(says_so, there, over)

            def gone() -> bool:
                # Who does not read cannot answer the server's pings either.
                kernel.receive(1)
                return "" not in idle.servers()

            expect_within(PATIENCE_S, gone, what="the idle server is ended", poll_s=0)
            ended = idle.spawn_account()["ended"]
            assert ended["cause"] == "idle", ended
            assert "nobody used it" in ended["words"]
            assert there.servers()[""]["ready"], there.spawn_account()
            over.set()
            assert kept.result(timeout=60) >= 1, "the owner who is there was never told"
            expect_no_job(idle)
            assert busy.servers()[""]["ready"], busy.spawn_account()
            file = {"type": "file", "format": "text", "content": ""}
            path = f"{busy.server_path()}/api/contents/{END}"
            assert busy.request("PUT", path, json=file).status_code == 201
            assert done_with(kernel, asked), "the busy kernel did not end its cell"
            assert busy.servers()[""]["ready"], busy.spawn_account()


def says_so(client: HubClient, over: threading.Event) -> int:
    """Whenever the page is told that nobody uses this server, say that somebody does; how often."""
    path, times = f"{client.server_path()}/api/af/session/used", 0
    with SessionEvents(client) as events:
        while not over.wait(0.1):
            with contextlib.suppress(NotInTime):
                events.until(lambda told: told.warning("idle"), "that nobody uses it", 5)
                answer = client.request("POST", path, json={})
                assert answer.json()["warnings"] == [], answer.text
                times += 1
    return times


def done_with(kernel: Kernel, asked: str) -> bool:
    """Whether the kernel answers this request at last."""

    def look() -> bool:
        message = kernel.receive(5)
        return bool(
            message
            and message["msg_type"] == "execute_reply"
            and message["parent_header"].get("msg_id") == asked
            and message["content"]["status"] == "ok"
        )

    return expect_within(PATIENCE_S + 60, look, what="the cell ends", poll_s=0)


@pytest.mark.needs("slurm")
def test_a_job_without_a_server_is_cancelled_and_shown(
    bed: Bed, site: Site, logins: Logins, lost: LostJob
) -> None:
    """It goes within two rounds, and the page says which and why; to nobody else."""
    expect_within(
        180,  # two rounds of a minute, and one that may have begun
        lambda: lost.job_id not in {job.job_id for job in orphans.slurm_jobs(bed)},
        what=f"job {lost.job_id} is cancelled",
        poll_s=2,
    )
    page = logins.browser("heidi").get(f"{site.entry_url(lost.hub)}/hub/af/jobs", timeout=60)
    assert page.status_code == 200, page.text[:500]
    (row,) = [row for row in page.text.split("<tr ") if f"slurm {lost.job_id}<" in row]
    assert 'data-af-done="cancelled"' in row
    assert "alice/lost" in row
    assert "no server of this hub has it" in row
    told = logins.observer(lost.cell).get_json("/hub/api/af/reconciler")
    assert [deed["what"] for deed in told["deeds"] if deed["job_id"] == lost.job_id] == [
        "cancelled"
    ]
    assert told["round"]["took_s"] < 60
    # Every one of the scopes is needed, not any of them.
    heidi = logins.client("heidi", hub=lost.hub)
    made = heidi.request(
        "POST", "/hub/api/users/heidi/tokens", json={"scopes": ["read:metrics"], "expires_in": 300}
    )
    assert made.status_code == 201, made.text
    token = Secret(made.json()["token"])
    narrow = HubClient(site.api_url(lost.hub), "heidi", token, verify=site.verify)
    assert narrow.request("GET", "/hub/api/af/queue").status_code == 200
    answer = narrow.request("GET", "/hub/api/af/reconciler")
    assert answer.status_code == 403, answer.text
    narrow.close()
    logins.client("dave", hub=lost.hub)
    answer = logins.browser("dave").get(f"{site.entry_url(lost.hub)}/hub/af/jobs", timeout=60)
    assert answer.status_code in (403, 404)
