"""What a scheduler is about to do to a machine is told to who works there, and taken back."""

import contextlib
from collections.abc import Callable

import pytest

from testbed import faults, pages, sessions
from testbed.bed import Bed
from testbed.browser import Browser
from testbed.hub_client import HubClient
from testbed.logins import Logins
from testbed.orphans import Job
from testbed.session_events import SessionEvents, Told, session_of
from testbed.site import Site

pytestmark = [pytest.mark.needs("faults", "htcondor", "slurm"), pytest.mark.timeout(300)]

# A hub asks each half a minute.
TOLD_WITHIN_S = 60.0
REASON = "new disks"


def test_a_machine_that_is_drained_is_announced_and_taken_back(
    bed: Bed,
    site: Site,
    logins: Logins,
    chromium: Callable[[str], Browser],
    stopped_after: Callable[..., HubClient],
    jobs_behind: Callable[..., list[Job]],
) -> None:
    """On both schedulers at once, with the operators' reason; nobody's job ends of it.

    HTCondor says when it ends the job, and that is its end from then on; Slurm names maintenance.
    """
    people = {"htcondor": "alice", "slurm": "bob"}
    clients = {s: stopped_after(logins.client(name, s)) for s, name in people.items()}
    for scheduler, client in clients.items():
        client.spawn({"backend": scheduler, **site.backend(scheduler).options})
    nodes = {scheduler: client.spawn_account()["node"] for scheduler, client in clients.items()}
    (job,) = jobs_behind(clients["htcondor"])
    ends_s = sessions.ends_s(bed, job)
    assert session_of(clients["htcondor"])["time"]["longest_s"] > ends_s

    browser = chromium("bob")
    pages.open_lab(browser, site, site.hub_for("slurm"), "bob")
    pages.show_panel(browser)

    with contextlib.ExitStack() as streams:
        events = {s: streams.enter_context(SessionEvents(client)) for s, client in clients.items()}
        with contextlib.ExitStack() as announced:
            for scheduler, node in nodes.items():
                announced.enter_context(faults.drained(bed, scheduler, node, REASON))
            announced.enter_context(faults.maintenance(bed, nodes["slurm"], "rack-7", in_min=20))
            condor = events["htcondor"].until(drain, "HTCondor's drain", TOLD_WITHIN_S)
            slurm = events["slurm"].until(drain, "Slurm's drain", TOLD_WITHIN_S)
            warning = drain(condor)
            assert warning is not None
            assert warning["words"] == REASON
            # It lets the job have the time that it asked for.
            assert abs(warning["ends_s"] - ends_s) <= 15
            assert session_of(clients["htcondor"])["time"]["longest_s"] is None
            warning, coming = drain(slurm), slurm.warning("maintenance")
            assert warning is not None
            assert warning["words"] == REASON
            assert warning["ends_s"] is None
            assert coming is not None
            assert coming["words"] == "rack-7"
            assert 15 * 60 < coming["at_s"] - slurm.at_s <= 20 * 60
            for words in (
                f"taken out of use ({REASON})",
                "Maintenance of its machine begins",
                "rack-7",
            ):
                browser.until(lambda words=words: words in browser.text, words)
            browser.picture("announced")
        for scheduler, stream in events.items():
            stream.until(calm, f"that {scheduler} takes it back", TOLD_WITHIN_S)
        browser.until(lambda: REASON not in browser.see(pages.PANEL).text, "a panel without it")
        browser.picture("taken-back")
    for scheduler, client in clients.items():
        assert client.servers()[""]["ready"], scheduler


def drain(told: Told) -> dict[str, object] | None:
    return told.warning("drain")


def calm(told: Told) -> bool:
    return not told.limits["warnings"]
