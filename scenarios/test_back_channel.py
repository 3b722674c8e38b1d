"""Inside JupyterLab people see their session's limits, are warned of them, and can act."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509

from testbed import orphans, pages, sessions
from testbed.bed import Bed
from testbed.browser import Browser
from testbed.guests import Guest
from testbed.hub_client import HubClient, HubUnreachable, Spawn
from testbed.kernels import Kernel, KernelDied
from testbed.logins import Logins, Visitor
from testbed.promises import expect_within
from testbed.session_events import SessionEvents, session_of
from testbed.site import Site

pytestmark = pytest.mark.needs("front_door", "faults")

POP_UP = ".Toastify__toast"
# Every certificate that a session holds, with those of the authorities that it trusts.
READ_CERTIFICATES = """
import json, os, pathlib
folder = pathlib.Path(os.environ["AF_SECRETS"])
found = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.pem")}
# A key's name may end so too, as coffea-casa has it.
held = {name: pem for name, pem in found.items() if "BEGIN CERTIFICATE" in pem}
print(json.dumps(held))
"""


def options(site: Site, backend: str, **more: str | int) -> dict[str, str | int]:
    return {"backend": backend, **site.backend(backend).options, **more}


def ask(client: HubClient, what: str, body: dict[str, Any]) -> Any:
    return client.request("POST", f"{client.server_path()}/api/af/session/{what}", json=body)


@pytest.mark.timeout(600)
def test_what_is_told_of_a_session(
    bed: Bed,
    alice: Visitor,
    batch_backend: str,
    spawn: Callable[..., Spawn],
    jobs_behind: Callable[..., list[orphans.Job]],
) -> None:
    """Its machine, job, memory and end are those of its scheduler."""
    client = alice.on(batch_backend)
    spawn(client, batch_backend)
    (job,) = jobs_behind(client)
    told = expect_within(
        30,
        lambda: (s := session_of(client))["time"].get("ends_s") and s["memory"]["used_mib"] and s,
        what="the session knows its end and its memory",
    )
    assert (told["backend"], told["job"]) == (batch_backend, job.job_id)
    assert told["node"] == client.spawn_account()["node"]
    assert abs(told["time"]["ends_s"] - sessions.ends_s(bed, job)) <= 1
    assert 10 < told["memory"]["used_mib"] < told["memory"]["limit_mib"]
    assert told["warnings"] == []


@dataclass(frozen=True)
class Ending:
    """A server that its scheduler ends soon.

    Args:
        ends_s: When, as it began, unix seconds.
    """

    client: HubClient
    job: orphans.Job
    ends_s: float


@pytest.fixture(scope="module")
def ending(bed: Bed, site: Site, logins: Logins) -> Iterator[dict[str, Ending]]:
    """Three servers at once: `short` has a minute, `htcondor` and `slurm` have six."""
    wanted = {"short": ("dave", "htcondor", 1), "htcondor": ("bob", "htcondor", 6),
              "slurm": ("carol", "slurm", 6)}  # fmt: skip
    found: dict[str, Ending] = {}
    try:
        for name, (person, backend, minutes) in wanted.items():
            client = logins.client(person, backend)
            client.spawn(options(site, backend, runtime_min=minutes))
            (job,) = (j for j in orphans.jobs(bed) if j.server == f"{person}/")
            found[name] = Ending(client, job, sessions.ends_s(bed, job))
        yield found
    finally:
        for person, backend, _ in wanted.values():
            logins.client(person, backend).stop(timeout_s=120)


@pytest.mark.needs("htcondor", "slurm")
@pytest.mark.timeout(600)
def test_more_time_on_htcondor(bed: Bed, ending: dict[str, Ending]) -> None:
    """Within the class's ceiling its scheduler is told; beyond it is refused."""
    client, job, first_s = ending["short"].client, ending["short"].job, ending["short"].ends_s
    told = session_of(client)["time"]
    assert told["longest_s"] > first_s
    refused = ask(client, "more-time", {"minutes": 100_000})
    assert refused.status_code == 400, refused.text
    assert "100000 minutes more asked; its class allows" in refused.text
    for wrong in ({}, {"minutes": 0}, {"minutes": "60"}, {"minutes": True}):
        assert ask(client, "more-time", wrong).status_code == 400
    assert sessions.ends_s(bed, job) == first_s
    with SessionEvents(client) as events:
        answer = ask(client, "more-time", {"minutes": 60})
        assert answer.ok, answer.text
        assert answer.json()["warnings"] == []
        events.until(lambda told: not told.limits["warnings"], "that the warning is over", 30)
        assert sessions.ends_s(bed, job) == first_s + 3600


@pytest.mark.needs("htcondor", "slurm")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["short", "slurm"])
def test_no_certificate_ends_before_its_server(ending: dict[str, Ending], name: str) -> None:
    """Nor before the latest time that more time may bring it to; tokens are renewed on the way."""
    client = ending[name].client
    time = session_of(client)["time"]
    with Kernel.start(client) as kernel:
        held = json.loads(kernel.run(READ_CERTIFICATES).stdout)
    assert {"dask/scheduler.pem", "dask/worker.pem", "dask/client.pem", "tls/server.pem"} < set(
        held
    )
    latest_s = time["longest_s"] or time["ends_s"]
    for path, pem in held.items():
        for certificate in x509.load_pem_x509_certificates(pem.encode()):
            assert certificate.not_valid_after_utc.timestamp() >= latest_s, path


@pytest.mark.needs("htcondor", "slurm")
@pytest.mark.timeout(600)
def test_a_time_limit_is_warned_of(bed: Bed, ending: dict[str, Ending], batch_backend: str) -> None:
    """Five minutes before the end, by the scheduler's clock."""
    server = ending[batch_backend]

    def warned() -> dict[str, Any] | None:
        found = (w for w in session_of(server.client)["warnings"] if w["kind"] == "time")
        # Half an hour before was past at its start: that was told at once.
        return next((w for w in found if w["id"].endswith(" 5")), None)

    warning = expect_within(200, warned, what="it warns of the last five minutes")
    assert abs(warning["since_s"] - (server.ends_s - 300)) <= 15, (warning, server.ends_s)
    assert abs(warning["ends_s"] - sessions.ends_s(bed, server.job)) <= 1


@pytest.mark.needs("slurm")
def test_on_slurm_it_says_who_can(
    site: Site, alice: Visitor, stopped_after: Callable[..., HubClient]
) -> None:
    """Slurm lets operators alone give more time: whom to ask, and for which job."""
    client = stopped_after(alice.on("slurm"))
    client.spawn(options(site, "slurm", runtime_min=10))
    refused = ask(client, "more-time", {"minutes": 60})
    assert refused.status_code == 400, refused.text
    job_id = client.spawn_account()["job_id"]
    for words in ("Only an operator of Slurm", f"name job {job_id}"):
        assert words in refused.text
        assert words in session_of(client)["time"]["words"]


@pytest.mark.timeout(600)
def test_memory_is_warned_of_before_the_kill(
    site: Site,
    alice: Visitor,
    batch_backend: str,
    stopped_after: Callable[..., HubClient],
) -> None:
    """A cell that takes more and more: the page is told first, then the limit strikes."""
    client = stopped_after(alice.on(batch_backend))
    client.spawn(options(site, batch_backend))
    grow = "import time; hog = []\nwhile True: hog.append(bytearray(b'x') * 2**26); time.sleep(.4)"
    with SessionEvents(client) as events, Kernel.start(client) as kernel:
        kernel.ask_to_run(grow)
        told = events.until(lambda told: told.warning("memory"), "memory that runs out", 120)
        warning = told.warning("memory")
        assert warning is not None
        assert 0.9 <= warning["used_mib"] / warning["limit_mib"] < 1
        with pytest.raises((KernelDied, HubUnreachable)):
            kernel.run("'the limit has struck'", timeout_s=120)


@pytest.mark.needs("htcondor")
@pytest.mark.timeout(900)
def test_in_the_browser(
    site: Site,
    logins: Logins,
    chromium: Callable[[str], Browser],
    stopped_after: Callable[..., HubClient],
) -> None:
    """Panel, pop-up, more time by two clicks; then on in a new job, with the same file open."""
    hub = site.hub_for("htcondor")
    client = stopped_after(logins.client("frank", hub=hub))
    asked = options(site, "htcondor", runtime_min=4)
    client.spawn(asked)
    browser = chromium("frank")
    pages.open_lab(browser, site, hub, "frank")
    pages.run_first_cell(browser, "import os; print('AF', os.getpid())")
    browser.see(POP_UP)
    browser.until(lambda: "This server ends in" in browser.text, "the pop-up's words")
    pages.show_panel(browser)
    browser.see(f"{pages.PANEL} .af-Session-meter")
    told = browser.see(pages.PANEL).text
    for words in (client.spawn_account()["node"], "HTCondor, job", "Time left", "MiB"):
        assert words in told, told
    browser.picture("warned")
    browser.click(f'{pages.PANEL} button[title="Let this server run longer"]')
    browser.see(".jp-Dialog")
    browser.picture("how-much-longer")
    browser.click(".jp-Dialog .jp-mod-accept")
    browser.until(lambda: "This server runs until" in browser.text, "that there is more time")
    browser.until(lambda: "This server ends in" not in browser.text, "no warning any more")
    browser.picture("more-time")

    old = client.spawn_account()["job_id"]
    notebook = browser.see(".jp-NotebookPanel").get_attribute("id")
    assert notebook
    browser.leave(f'{pages.PANEL} button[title*="kernels start anew"]')
    browser.see("[data-af-continue]")
    browser.picture("continue")
    browser.leave("[data-af-go-on]")
    pages.wait_for_lab(browser, site.entry_url(hub))
    assert urlsplit(browser.url).path.startswith(f"{urlsplit(site.entry_url(hub)).path}/user/frank")
    account = client.spawn_account()
    assert account["job_id"] != old
    chosen = client.servers()[""]["user_options"]
    assert {name: str(chosen.get(name)) for name in asked} == {n: str(v) for n, v in asked.items()}
    browser.until(lambda: "print('AF', os.getpid())" in browser.text, "the same notebook, open", 60)
    browser.picture("continued")


@pytest.mark.needs("htcondor")
def test_nobody_else_ends_a_server_by_that_page(
    site: Site,
    logins: Logins,
    alice: Visitor,
    spawn: Callable[..., Spawn],
    come_in: Callable[..., Guest],
) -> None:
    """The page to go on is its owner's, and takes no post that did not come from it."""
    client = alice.on("htcondor")
    hub = site.hub_for("htcondor")
    spawn(client, "htcondor")
    page = f"{site.entry_url(hub)}/hub/af/continue/{alice.name}"
    shown = logins.browser(alice.name).get(page, timeout=60)
    assert shown.status_code == 200
    assert "Kernels and terminals start anew" in shown.text
    stranger = come_in(hub=hub)
    for deed in ("get", "post"):
        answer = stranger.browser.request(deed, page, timeout=60)
        assert answer.status_code in (403, 404), answer.text[:500]
    forged = logins.browser(alice.name).post(page, data={"class": "reserved"}, timeout=60)
    assert forged.status_code == 403, forged.text[:500]
    # What would be refused afterwards ends nothing.
    xsrf = re.search(r'name="_xsrf" value="([^"]+)"', shown.text)
    assert xsrf
    unknown = {"_xsrf": xsrf[1], "backend": "htcondor", "class": "no-such-class"}
    refused = logins.browser(alice.name).post(page, data=unknown, timeout=60)
    assert refused.status_code == 409, refused.text[:500]
    assert "no-such-class asked" in refused.text
    assert client.servers()[""]["ready"]


@pytest.mark.needs("htcondor", "slurm")
@pytest.mark.timeout(600)
def test_a_lengthened_server_runs_on(bed: Bed, ending: dict[str, Ending]) -> None:
    """It runs past its first end, and as long again as the shadow takes between two looks."""
    client, job, first_s = ending["short"].client, ending["short"].job, ending["short"].ends_s
    with Kernel.start(client) as kernel:
        kernel.run(f"import time; time.sleep(max(0, {first_s} + 60 - time.time()))", timeout_s=180)
    assert job.job_id in [j.job_id for j in orphans.jobs(bed)]
    assert client.servers()[""]["ready"]
