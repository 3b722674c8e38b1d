"""The spawn form: what each person may use, when it would start, and nothing else gets through."""

import html
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin

import pytest
import requests
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from testbed import entry, orphans, pages
from testbed.bed import Bed
from testbed.browser import Browser
from testbed.hub_client import HubClient, SpawnFailed
from testbed.hub_metrics import QUERIES, HubMetrics
from testbed.logins import Logins, Visitor
from testbed.promises import expect_within
from testbed.site import Hub, Person, Site

pytestmark = [pytest.mark.needs("front_door", "htcondor", "slurm"), pytest.mark.timeout(300)]

# Each is a whole form but for what is forged in it; the answer must name the field, what was asked
# and what is allowed. A list is a field that is sent more than once.
FORGED: list[tuple[dict[str, str | list[str]], str]] = [
    # Where and how large
    ({"choice": "pbs/small"}, "backend pbs asked; this hub offers htcondor, slurm, local"),
    ({"choice": "SLURM/small"}, "backend 'SLURM' asked; the name of a backend is taken"),
    ({"choice": "/"}, "backend '' asked; the name of a backend is taken"),
    ({"choice": "htcondor/huge"}, "class huge asked; htcondor offers you reserved, regular"),
    ({"choice": "htcondor/../../etc"}, "class '../../etc' asked; a name of at most 64"),
    ({"choice": "slurm/small/x"}, "class 'small/x' asked; a name of at most 64"),
    ({"choice": "slurm/reserved"}, "class reserved asked; slurm offers you small, regular"),
    ({"choice": "slurm/wide"}, "class wide asked; slurm offers you small, regular, naf-12"),
    ({"choice": "local/regular"}, "class regular asked; local offers you small"),
    ({"backend": "pbs"}, "backend 'pbs' asked beside 'slurm'; one is taken"),
    ({"backend": "htcondor"}, "backend 'htcondor' asked beside 'slurm'; one is taken"),
    ({"class": "regular"}, "class 'regular' asked beside 'small'; one is taken"),
    ({"choice": ["slurm/small", "htcondor/regular"]}, "choice asked 2 times, ['slurm/small', "),
    ({"environment": "root5"}, "environment root5 asked; slurm offers you python"),
    ({"environment": "stand-in"}, "environment stand-in asked; slurm offers you python"),
    ({"environment": "/opt/hub"}, "environment '/opt/hub' asked; a name of at most 64"),
    ({"environment": "python\n"}, "environment 'python\\n' asked; a name of at most 64"),
    ({"environment": "root5", "now": "yes"}, "environment root5 asked; you are offered accel-"),
    ({"now": "yes", "exec_prefix": "sudo"}, "exec_prefix 'sudo' asked; there is no such option"),
    # Numbers
    ({"cores": "64"}, "64 cores asked; class small allows 1"),
    ({"cores": "0"}, "cores '0' asked; 1 is the least"),
    ({"cores": "1e3"}, "cores '1e3' asked; a whole number is taken"),
    ({"cores": "0x10"}, "cores '0x10' asked; a whole number is taken"),
    ({"cores": "1.5"}, "cores '1.5' asked; a whole number is taken"),
    ({"cores": "nan"}, "cores 'nan' asked; a whole number is taken"),
    ({"cores": "1" + 30 * "0"}, 30 * "0" + " cores asked; class small allows 1"),
    ({"cores": 5000 * "9"}, "cores '99999999"),
    ({"cores": ["1", "64"]}, "cores asked 2 times, ['1', '64']; once is taken"),
    ({"memory_mib": "999999"}, "999999 memory_mib asked; class small allows 1536"),
    ({"memory_mib": "-1"}, "memory_mib '-1' asked; 256 is the least"),
    ({"memory_mib": "2G"}, "memory_mib '2G' asked; a whole number is taken"),
    ({"runtime_min": "99999"}, "99999 runtime_min asked; class small allows 480"),
    ({"runtime_min": "1; sleep 9"}, "runtime_min '1; sleep 9' asked; a whole number is taken"),
    ({"runtime_min": "UNLIMITED"}, "runtime_min 'UNLIMITED' asked; a whole number is taken"),
    # Other people's, and what is nobody's
    ({"partition": "gpu"}, "partition gpu asked; you may use batch, interactive, short"),
    ({"partition": "nudge"}, "partition nudge asked; you may use batch, interactive, short"),
    ({"partition": "cms"}, "partition cms asked; you may use batch, interactive, short"),
    ({"partition": "short", "runtime_min": "11"}, "11 runtime_min asked; partition short with QOS"),
    ({"account": "cms"}, "account cms asked; in partition interactive you may use external"),
    ({"account": "root"}, "account root asked; in partition interactive you may use external"),
    ({"account": "portal"}, "account portal asked; in partition interactive you may use external"),
    ({"choice": "htcondor/regular", "account": "cms"}, "account cms asked; you are in"),
    ({"choice": "htcondor/regular", "partition": "batch"}, "partition batch asked; htcondor has"),
    ({"choice": "htcondor/regular", "qos": "normal"}, "qos normal asked; htcondor has none"),
    ({"choice": "local/small", "reservation": "r1"}, "reservation r1 asked; local has none"),
    ({"qos": "gpu"}, "QOS gpu asked; partition interactive with account external takes"),
    ({"qos": "gold"}, "QOS gold asked; partition interactive with account external takes"),
    ({"gpu_kind": "k40", "gpu_count": "2"}, "2 GPUs k40 asked; partition interactive with QOS"),
    ({"gpu_kind": "a100", "gpu_count": "1"}, "1 GPUs a100 asked; partition interactive with QOS"),
    ({"gpu_kind": "k40", "gpu_count": "99"}, "99 GPUs asked; the facility allows 2"),
    ({"gpu_kind": "k40", "gpu_count": "-1"}, "gpus 'k40:-1' asked; a number is taken, or a kind"),
    ({"gpu_kind": "k40:1,craynetwork", "gpu_count": "1"}, "gpus 'k40:1,craynetwork:1' asked"),
    ({"gpu_kind": "k40", "gpus": "t4:1"}, "gpus 't4:1' asked beside 'k40:1'; one is taken"),
    ({"gpu_count": "$(id)"}, "gpus '$(id)' asked; a number is taken, or a kind, a colon"),
    ({"choice": "htcondor/regular", "gpu_kind": "a100"}, "GPUs a100:1 asked; htcondor has"),
    # Text that somebody behind the form might read as more than a name
    ({"partition": "x\nqueue 1000"}, "partition 'x\\nqueue 1000' asked; a name of at most 64"),
    ({"partition": "x --uid=0"}, "partition 'x --uid=0' asked; a name of at most 64"),
    ({"partition": "batch,gpu"}, "partition 'batch,gpu' asked; a name of at most 64"),
    ({"partition": 65 * "x"}, "partition 'xxxxxxxx"),
    ({"account": "$(id)"}, "account '$(id)' asked; a name of at most 64"),
    ({"account": "`id`"}, "account '`id`' asked; a name of at most 64"),
    ({"account": "a' || TARGET.Memory > 0 || 'a"}, "TARGET.Memory > 0 || 'a\" asked; a name of"),
    ({"account": '"><script>alert(1)</script>'}, "account '\"><script>alert(1)</script>' asked"),
    ({"qos": 'x"; My.Owner = "root'}, "qos 'x\"; My.Owner = \"root' asked; a name of at most 64"),
    ({"qos": "normal\x00"}, "qos 'normal\\x00' asked; a name of at most 64"),
    ({"reservation": "$ENV(PATH)"}, "reservation '$ENV(PATH)' asked; a name of at most 64"),
    ({"reservation": "{{ 7 * 7 }}"}, "reservation '{{ 7 * 7 }}' asked; a name of at most 64"),
    ({"reservation": "r%s%n"}, "reservation 'r%s%n' asked; a name of at most 64"),
    # What only the portal itself, or another spawner, has
    ({"batch_script": "#!/bin/sh\nid"}, "batch_script '#!/bin/sh\\nid' asked; there is no such"),
    ({"req_homedir": "/root"}, "req_homedir '/root' asked; there is no such option, only backend"),
    ({"argv": "/bin/sh"}, "argv '/bin/sh' asked; there is no such option, only backend"),
    ({"person": "alice"}, "person 'alice' asked; there is no such option, only backend"),
    ({"memory_limit_mib": "1"}, "memory_limit_mib '1' asked; there is no such option"),
    ({"reserved": "true"}, "reserved 'true' asked; there is no such option, only backend"),
    ({"__class__": "x"}, "__class__ 'x' asked; there is no such option, only backend"),
]
# As JSON, which has more types than a form.
FORGED_BY_API: list[tuple[dict[str, Any], str]] = [
    ({"class": ["small"]}, "class ['small'] asked; a name of at most 64"),
    ({"partition": {"name": "gpu"}}, "partition {'name': 'gpu'} asked; a name of at most 64"),
    ({"cores": 1.5}, "cores 1.5 asked; a whole number is taken"),
    ({"cores": -(10**20)}, "cores -100000000000000000000 asked; 1 is the least"),
    ({"runtime_min": "480; id"}, "runtime_min '480; id' asked; a whole number is taken"),
    ({"account": None}, "account None asked; a name of at most 64"),
    ({"gpus": 1}, "gpus 1 asked; a number is taken, or a kind"),
    ({"choice": "slurm/small"}, "choice 'slurm/small' asked; there is no such option"),
]


@pytest.fixture
def hub(site: Site) -> Hub:
    """The hub that offers both schedulers."""
    return site.hub_for("htcondor", "slurm")


@pytest.fixture
def grace(logins: Logins, hub: Hub) -> HubClient:
    """Of the group external, with the account of that name and no GPU."""
    return logins.client("grace", hub=hub)


def offer(client: HubClient) -> dict[str, dict[str, Any]]:
    found = client.get_json("/hub/api/af/offer")
    return {backend["name"]: backend for backend in found["backends"]}


def forecast(client: HubClient, **fields: str) -> dict[str, Any]:
    answer = client.request("GET", "/hub/api/af/forecast", params=fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_each_person_is_offered_what_is_theirs(logins: Logins, hub: Hub, grace: HubClient) -> None:
    """Partitions, accounts and GPUs by Slurm's own rules: alice is in cms and gpu, grace is not."""
    alices = offer(logins.client("alice", hub=hub))["slurm"]
    graces = offer(grace)["slurm"]
    assert {p["name"] for p in alices["partitions"]} == {
        "interactive", "batch", "short", "gpu", "cms",
    }  # fmt: skip
    assert {p["name"] for p in graces["partitions"]} == {"interactive", "batch", "short"}
    assert [a["name"] for a in alices["accounts"]] == ["cms"]
    assert [a["name"] for a in graces["accounts"]] == ["external"]
    assert {"k40", "t4"} <= set(alices["gpus"])
    assert {b["name"] for b in map(dict, offer(grace).values())} == {"htcondor", "slurm", "local"}


def test_forged_forms_are_refused_by_name(
    bed: Bed,
    site: Site,
    logins: Logins,
    hub: Hub,
    grace: HubClient,
    stopped_after: Callable[..., HubClient],
) -> None:
    """Forms with something forged in each: the page names it, and no job was submitted.

    Field, request and limit are named, by a form and by a script's JSON alike.
    """
    stopped_after(grace)
    browser = logins.browser("grace")
    before = orphans.jobs(bed)
    wrong = []
    for forged, told in FORGED:
        fields = {"choice": "slurm/small", "environment": "python", **forged}
        status, message = send(browser, site.entry_url(hub), fields)
        if status != 400 or told not in message:
            wrong.append(f"{forged}: HTTP {status}, {message[:300]!r} instead of {told!r}")
        if status == 302:  # it was taken
            grace.stop()
    for options, told in FORGED_BY_API:
        asked = {"backend": "slurm", **options}
        answer = grace.request("POST", "/hub/api/users/grace/server", json=asked)
        message = answer.json().get("message", "") if answer.content else ""
        if answer.status_code != 400 or told not in message:
            wrong.append(f"{asked}: HTTP {answer.status_code}, {message[:300]!r}, not {told!r}")
        if answer.ok:
            grace.stop()
    assert wrong == []
    assert len({str(forged) for forged, _ in FORGED}) >= 30
    assert {job.job_id for job in orphans.jobs(bed)} <= {job.job_id for job in before}
    assert not grace.servers()


def send(
    browser: requests.Session, url: str, fields: dict[str, str | list[str]]
) -> tuple[int, str]:
    """Send the form of a person's default server; the status, and what the page says is wrong."""
    page = browser.get(f"{url}/hub/spawn", timeout=60)
    action = re.search(r'id="spawn_form"\s+action="([^"]+)"', page.text)
    assert action, page.text[:500]
    answer = browser.post(
        urljoin(page.url, html.unescape(action[1])),
        data=fields,
        timeout=60,
        allow_redirects=False,
    )
    return answer.status_code, " ".join(html.unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())


def test_a_full_partition_is_told_and_its_end_foreseen(
    full_partition: str, hub: Hub, logins: Logins
) -> None:
    """Where nothing is free the form says until when, and who waits; elsewhere it starts now."""
    client = logins.client("alice", hub=hub)
    wanted = {"choice": "slurm/small", "partition": full_partition, "runtime_min": "5"}
    found = expect_within(
        90,  # an answer is good for 30 s
        lambda: (now := forecast(client, **wanted))["standing"] != "now" and now,
        what=f"a forecast that {full_partition} is full",
        poll_s=2,
    )
    assert found["standing"] == "later", found
    assert 0 < found["at_s"] - found_now(client) <= 60 * 60
    assert found["ahead"] > 0
    assert forecast(client, choice="slurm/small")["standing"] == "now"


def found_now(client: HubClient) -> float:
    """The time at which the pool was asked, by a choice that starts then."""
    return float(forecast(client, choice="slurm/small")["at_s"])


@pytest.mark.needs("metrics")
def test_a_form_asks_schedulers_once_in_a_while(logins: Logins, hub: Hub, grace: HubClient) -> None:
    """Twenty forms in a moment, by two people: each kind of question is asked once at most."""
    observer = logins.observer(grace.instance)
    of_slurm = ("nodes", "partitions", "associations", "qos", "jobs", "jobs-counted")
    kinds = [("htcondor", "slots"), ("htcondor", "jobs"), *(("slurm", kind) for kind in of_slurm)]

    def asked() -> dict[tuple[str, str], float]:
        metrics = HubMetrics.read(observer)
        return {(s, kind): metrics.total(QUERIES, scheduler=s, kind=kind) for s, kind in kinds}

    offer(grace)
    before = asked()
    for _ in range(10):
        offer(grace)
        offer(logins.client("alice", hub=hub))
    rise = {kind: count - before[kind] for kind, count in asked().items()}
    assert max(rise.values()) <= 1, rise
    assert min(before.values()) >= 1, before


# In a browser


@pytest.fixture
def at_the_form(
    site: Site, hub: Hub, chromium: Callable[[str], Browser]
) -> Callable[[str], Browser]:
    """at_the_form(person): a browser that shows that person's form."""

    def deed(name: str) -> Browser:
        person: Person = site.person(name)
        browser = chromium(name)
        browser.open(f"{site.entry_url(hub)}/hub/spawn")
        pages.give_password(browser, name, site.secret(person, {}))
        browser.see(pages.CODE)
        pages.give_code(browser, entry.code(site, person, {}))
        browser.arrive(site.entry_url(hub))
        browser.see(pages.CHOICE)
        return browser

    return deed


def choices(browser: Browser, name: str) -> list[str]:
    """What a field's list lets one choose now, 'none chosen' left out."""
    options = browser.driver.find_elements(By.CSS_SELECTOR, f"#af-{name} option:not([disabled])")
    return [str(o.get_attribute("value")) for o in options if o.get_attribute("value")]


def test_fields_follow_the_choices(
    at_the_form: Callable[[str], Browser], site: Site, hub: Hub
) -> None:
    """Slurm's fields are there for Slurm alone; the account, QOS and GPUs are a partition's.

    The form's link says what was chosen.
    """
    browser = at_the_form("alice")
    browser.picture("simple")
    browser.click("#af-advanced > summary")
    browser.click(f'{pages.CHOICE}[value="htcondor/reserved"]')
    browser.until(lambda: not browser.driver.find_element(By.ID, "af-partition").is_displayed(),
                  "no partition for HTCondor")  # fmt: skip
    browser.click(f'{pages.CHOICE}[value="slurm/small"]')
    browser.see("#af-partition")
    assert set(choices(browser, "partition")) == {"interactive", "batch", "short", "gpu", "cms"}
    assert set(choices(browser, "qos")) == {"normal", "short", "gpu"}
    browser.see("#af-partition").send_keys("gpu")
    browser.until(lambda: choices(browser, "qos") == ["gpu"], "the QOS of partition gpu alone")
    browser.until(
        lambda: browser.see("#af-runtime_min").get_attribute("max") == "240",
        "no more minutes than the partition allows",
    )
    browser.see("#af-gpu_kind").send_keys("k40")
    browser.until(
        lambda: browser.see("#af-gpu_count").get_attribute("max") == "1", "as many as a node has"
    )
    browser.until(lambda: "This choice:" in browser.see("#af-status").text, "a forecast")
    link = str(browser.see("#af-link").get_attribute("href"))
    assert link.startswith(f"{site.entry_url(hub)}/hub/spawn?")
    assert {"opt-choice=slurm%2Fsmall", "opt-partition=gpu", "opt-gpu_kind=k40"} <= {
        *link.partition("?")[2].split("&")
    }
    browser.picture("advanced")


def test_the_form_on_a_telephone_and_by_keyboard(
    at_the_form: Callable[[str], Browser], site: Site, hub: Hub
) -> None:
    """Nothing is wider than the screen, every field has a label, and arrows choose.

    Why a link was refused has the focus.
    """
    browser = at_the_form("erin")
    browser.driver.set_window_size(390, 800)
    browser.click("#af-advanced > summary")
    browser.picture("telephone")
    wide = browser.driver.execute_script(
        "return document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"
    )
    assert wide <= 0
    unnamed = browser.driver.execute_script(
        "return [...document.querySelectorAll('#af-form input, #af-form select')]"
        ".filter((f) => f.labels.length === 0).map((f) => f.outerHTML)"
    )
    assert unnamed == []
    first = browser.driver.find_element(By.CSS_SELECTOR, f"{pages.CHOICE}:checked")
    first.send_keys(Keys.ARROW_DOWN)
    second = browser.driver.find_element(By.CSS_SELECTOR, f"{pages.CHOICE}:checked")
    assert second.get_attribute("value") != first.get_attribute("value")
    browser.open(f"{site.entry_url(hub)}/hub/spawn?opt-choice=htcondor/huge")
    browser.see(".spawn-error-msg")
    browser.until(
        lambda: "class huge asked" in browser.driver.switch_to.active_element.text,
        "the focus on the refusal",
    )


def test_what_would_start_now_is_one_click(
    at_the_form: Callable[[str], Browser],
    site: Site,
    hub: Hub,
    logins: Logins,
    stopped_after: Callable[..., HubClient],
) -> None:
    """The button starts the first choice that is free, and JupyterLab is there."""
    stopped_after(logins.client("frank", hub=hub))
    browser = at_the_form("frank")
    browser.leave("#af-now")
    pages.wait_for_lab(browser, site.entry_url(hub))
    browser.picture("started")
    account = logins.client("frank", hub=hub).spawn_account()
    assert account["backend"] == "htcondor"


def test_the_last_choice_is_proposed_again(
    alice_at_hub: HubClient, site: Site, hub: Hub, logins: Logins
) -> None:
    """What started last is checked in the form; what failed is not."""
    alice_at_hub.spawn({"backend": "slurm", "class": "regular"})
    alice_at_hub.stop()
    assert proposed(logins, site, hub) == "slurm/regular"
    with pytest.raises(SpawnFailed):
        # Slurm itself refuses it, once it is submitted.
        alice_at_hub.spawn({"backend": "slurm", "class": "regular", "reservation": "none-such"})
    assert proposed(logins, site, hub) != "slurm/regular"


def proposed(logins: Logins, site: Site, hub: Hub) -> str:
    """The choice that is checked in alice's form."""
    page = logins.browser("alice").get(f"{site.entry_url(hub)}/hub/spawn", timeout=60).text
    found = re.search(r'value="([^"]*)" checked', page)
    assert found, page[:500]
    return found[1]


@pytest.fixture
def alice_at_hub(alice: Visitor, hub: Hub, stopped_after: Callable[..., HubClient]) -> HubClient:
    """Alice at that hub; her server is stopped afterwards."""
    return stopped_after(alice.at(hub))
