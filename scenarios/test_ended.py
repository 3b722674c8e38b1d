"""When a server ends its owner is told why, what it used, and can start it again with one click."""

import html
import re
from collections.abc import Callable, Iterator
from urllib.parse import urljoin

import pytest

from testbed import entry, faults, pages, sessions
from testbed.bed import Bed
from testbed.browser import Browser
from testbed.hub_client import HubClient, HubUnreachable, Spawn
from testbed.kernels import Kernel, KernelDied
from testbed.logins import Logins, Visitor
from testbed.markup import text_of
from testbed.orphans import Job
from testbed.promises import expect_within
from testbed.sessions import Session
from testbed.site import Hub, Site

pytestmark = pytest.mark.needs("front_door", "faults")


def end_page(logins: Logins, site: Site, client: HubClient, hub: Hub) -> str:
    """What this person's browser shows at the server that is no more."""
    answer = logins.browser(client.user).get(
        f"{site.entry_url(hub)}/user/{client.user}/lab", timeout=60
    )
    assert answer.status_code == 424, answer.text[:500]
    return answer.text


def until_gone(client: HubClient, timeout_s: float = 60) -> None:
    expect_within(
        timeout_s, lambda: "" not in client.servers(), what="the hub has noticed the server's end"
    )


@pytest.fixture(scope="module")
def minutes(site: Site, logins: Logins) -> Iterator[dict[str, HubClient]]:
    """A server of one minute on each scheduler; they end while the next scenarios run."""
    clients = {
        backend: logins.client(name, backend)
        for backend, name in {"htcondor": "dave", "slurm": "frank"}.items()
    }
    try:
        for backend, client in clients.items():
            options = {"backend": backend, **site.backend(backend).options, "runtime_min": 1}
            client.spawn(options)
        yield clients
    finally:
        for client in clients.values():
            client.stop(timeout_s=120)


@pytest.mark.usefixtures("minutes")  # looked at below: test_a_time_limit_is_told
def test_a_removed_job_is_told_with_its_memory(
    bed: Bed, site: Site, logins: Logins, running: Session
) -> None:
    """Removed by an operator: the page says so, with the most memory that was in use."""
    client = running.client
    used = running.kernel.run("hog = bytearray(b'x') * (200 << 20); len(hog) >> 20").value
    assert used == "200"
    account = expect_within(
        60,
        lambda: (a := client.spawn_account())["present"] and a["peak_mib"] > 200 and a,
        what="the session has told of its memory",
    )
    sessions.remove(bed, running.job)
    until_gone(client)
    ended = client.spawn_account()["ended"]
    assert ended["cause"] == "removed"
    assert ended["peak_mib"] >= account["peak_mib"]
    page = end_page(logins, site, client, site.hub_for(running.backend))
    assert 'data-af-ended="removed"' in page
    told = text_of(page)
    assert "It was removed from the queue" in told
    assert f"At most {ended['peak_mib']} of {ended['limit_mib']} MiB of memory were in use." in told
    home = logins.browser(client.user).get(
        f"{site.entry_url(site.hub_for(running.backend))}/hub/home", timeout=60
    )
    assert 'data-af-ended="removed"' in home.text


@pytest.mark.needs("slurm")
def test_more_memory_is_one_click(
    site: Site,
    logins: Logins,
    chromium: Callable[[str], Browser],
    stopped_after: Callable[..., HubClient],
) -> None:
    """Where memory ran out the page offers the next larger class, and starts it."""
    hub = site.hub_for("slurm")
    person = site.person("erin")
    client = stopped_after(logins.client("erin", hub=hub))
    client.spawn({"backend": "slurm", "class": "small"})
    with Kernel.start(client) as kernel, pytest.raises((KernelDied, HubUnreachable)):
        kernel.run("hog = [bytearray(b'x') * 2**26 for _ in range(160)]", timeout_s=120)
    expect_within(
        60,
        lambda: (a := client.spawn_account())["notice"] or a["reason"],
        what="the hub has been told why",
    )
    if "" in client.servers():  # control groups of version 1 end a process, not the job
        client.stop()
    browser = chromium("erin")
    browser.open(f"{site.entry_url(hub)}/user/erin/lab")
    pages.give_password(browser, "erin", site.secret(person, {}))
    browser.see(pages.CODE)
    pages.give_code(browser, entry.code(site, person, {}))
    browser.see("[data-af-ended]")
    assert "out of memory" in browser.text.lower()
    browser.picture("ended")
    browser.leave("[data-af-larger]")
    pages.wait_for_lab(browser, site.entry_url(hub))
    server = client.servers()[""]
    assert (server["user_options"]["class"], server["ready"]) == ("regular", True)


def test_what_was_asked_is_asked_again(
    site: Site, alice: Visitor, logins: Logins, spawn: Callable[..., Spawn]
) -> None:
    """'Start it again' sends the last choice, checked like any other form."""
    hub = site.hub_for("slurm")
    client = alice.at(hub)
    spawn(client, "slurm")
    chosen = client.servers()[""]["user_options"]
    client.stop()
    page = end_page(logins, site, client, hub)
    assert 'data-af-ended="stopped"' in page
    form = re.search(r'<form method="post" action="([^"]+)".*?</form>', page, re.DOTALL)
    assert form
    fields = dict(re.findall(r'name="([^"]*)" value="([^"]*)"', form[0]))
    fields = {name: html.unescape(value) for name, value in fields.items()}
    answer = logins.browser("alice").post(
        urljoin(site.entry_url(hub), html.unescape(form[1])),
        data=fields, timeout=60, allow_redirects=False,
    )  # fmt: skip
    assert answer.status_code == 302, answer.text[:500]
    server = expect_within(
        60, lambda: (s := client.servers().get("")) and s["ready"] and s, what="it runs again"
    )
    assert server["user_options"] == chosen


@pytest.mark.needs("htcondor")
def test_a_held_job_is_told(
    bed: Bed, site: Site, logins: Logins, alice: Visitor, spawn: Callable[..., Spawn],
    jobs_behind: Callable[..., list[Job]],
) -> None:  # fmt: skip
    """A running server's job that somebody holds: the page has the hold's reason, no job stays."""
    client = alice.on("htcondor")
    spawn(client, "htcondor")
    (job,) = jobs_behind(client)
    done = bed.exec("condor-ap-hub", ["condor_hold", "-reason", "<b>disk</b> broken", job.job_id])
    assert done.ok, done.stderr
    until_gone(client)
    assert client.spawn_account()["ended"]["cause"] == "held"
    page = end_page(logins, site, client, site.hub_for("htcondor"))
    assert "Its scheduler put it on hold" in text_of(page)
    assert "&lt;b&gt;disk&lt;/b&gt; broken" in page
    expect_within(60, lambda: not jobs_behind(client), what="the held job is removed")


@pytest.mark.needs("htcondor", "slurm")
@pytest.mark.timeout(600)
def test_a_time_limit_is_told(site: Site, logins: Logins, minutes: dict[str, HubClient]) -> None:
    """A server whose minute is over has ended for that reason, on either scheduler."""
    for backend, client in minutes.items():
        # Slurm looks each minute, and lets a job have half a minute to end.
        until_gone(client, timeout_s=300)
        assert client.spawn_account()["ended"]["cause"] == "time", client.spawn_account()
        page = end_page(logins, site, client, site.hub_for(backend))
        assert "Its time was over" in text_of(page)


@pytest.mark.soak  # HTCondor waits for the job's lease, Slurm for SlurmdTimeout
@pytest.mark.needs("htcondor", "slurm")
@pytest.mark.timeout(900)
def test_a_lost_machine_is_told(
    bed: Bed, site: Site, logins: Logins, stopped_after: Callable[..., HubClient]
) -> None:
    """All machines of both pools lose their power: both servers' pages say that it was that."""
    clients = {
        backend: stopped_after(logins.client(name, backend))
        for backend, name in {"htcondor": "alice", "slurm": "bob"}.items()
    }
    for backend, client in clients.items():
        client.spawn({"backend": backend, **site.backend(backend).options})
    with faults.kill(bed, "condor-ep"), faults.kill(bed, "slurm-node"):
        for client in clients.values():
            until_gone(client, timeout_s=400)
            assert client.spawn_account()["ended"]["cause"] == "node", client.spawn_account()
    for backend, client in clients.items():
        page = end_page(logins, site, client, site.hub_for(backend))
        assert "Its machine was lost" in text_of(page)
