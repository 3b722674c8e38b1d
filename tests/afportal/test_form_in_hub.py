"""The spawn page of a whole hub: what it takes and what it refuses."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from traitlets.config import Config

from tests.afportal.fakes import NeverMatched
from tests.afportal.portal_in_process import RunningPortal, running_portal

CATALOGUE = """\
environments:
  - {name: python, title: Python, prefix: /opt/envs/python}
  - {name: theirs, title: Of cms, prefix: /opt/envs/theirs, groups: [cms]}
classes:
  - {name: small, title: Small, backends: [near, far], cores: 1, memory_mib: 512, runtime_min: 60}
  - {name: large, title: Large, backends: [far], cores: 8, memory_mib: 4096, runtime_min: 60,
     groups: [cms]}
"""


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPortal]:
    """A hub with two backends that take every job and start none; bob is in no group."""
    folder = tmp_path_factory.mktemp("hub")
    (folder / "catalogue.yaml").write_text(CATALOGUE)
    settings = folder / "portal.yaml"
    settings.write_text("catalogue: catalogue.yaml\nbackends: {near: {}, far: {}}\n")
    config = Config()
    config.PortalSpawner.req_homedir = "/home/{username}"
    patch = pytest.MonkeyPatch()
    patch.setattr("afportal.portal.backend_of", lambda _: NeverMatched)
    with running_portal(folder, settings, config) as running:
        yield running
    patch.undo()


@pytest.fixture(scope="module")
def bob(portal: RunningPortal) -> requests.Session:
    return portal.browser("bob")


def submitted(portal: RunningPortal) -> list[Any]:
    return [r for backend in portal.portal.backends.values() for r in backend.requests]  # type: ignore[attr-defined]


def sent(portal: RunningPortal, browser: requests.Session, fields: Any) -> tuple[int, str]:
    """Send a form; the status, and the page's words."""
    url = f"{portal.hub.url}/hub/spawn?_xsrf={browser.cookies['_xsrf']}"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = browser.post(url, fields, timeout=60, allow_redirects=False, headers=headers)
    return answer.status_code, words(answer.text)


def words(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"choice": "far/large"}, "class large asked; far offers you small"),
        ({"choice": "near/large"}, "class large asked; near offers you small"),
        ({"environment": "theirs"}, "environment theirs asked; near offers you python"),
        ({"environment": "theirs", "now": "1"}, "environment theirs asked; you are offered python"),
        ({"backend": "far"}, "backend 'far' asked beside 'near'; one is taken"),
        ({"choice": ["near/small", "far/small"]}, "choice asked 2 times"),
        ({"cores": ["1", "1"]}, "cores asked 2 times, ['1', '1']; once is taken"),
        ({"cores": "-8"}, "cores '-8' asked; 1 is the least"),
        ({"account": "$(id)"}, "account '$(id)' asked; a name of at most 64"),
        ({"account": '"><script>x</script>'}, "account '\"><script>x</script>' asked"),
        ({"partition": "a\nb%s"}, "partition 'a\\nb%s' asked; a name of at most 64"),
        ({"gpu_count": "1;id"}, "gpus '1;id' asked; a number is taken"),
        ({"argv": "sh"}, "argv 'sh' asked; there is no such option, only backend, class, "),
    ],
)
def test_a_forged_form_is_refused_by_name(
    portal: RunningPortal, bob: requests.Session, fields: dict[str, Any], told: str
) -> None:
    """The page names field, request and limit, as text; nothing is submitted."""
    status, message = sent(portal, bob, {"choice": "near/small", **fields})
    assert (status, told in message) == (400, True), message
    assert submitted(portal) == []


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (b"choice=near/small&account=%ff%00id", "account b'\\xff\\x00id' asked; text in UTF-8 is"),
        (
            b"choice=%c3%28&qos=ok&cores=%80",
            "choice b'\\xc3(' asked; text in UTF-8 is taken; co",
        ),
        (b"choice=near/small&account=\xe4", "account b'\\xe4' asked; text in UTF-8 is taken"),
    ],
)
def test_bytes_that_are_no_text_are_refused_by_name(
    portal: RunningPortal, bob: requests.Session, fields: bytes, told: str
) -> None:
    """A form is answered as any that is refused; no fault of the hub's."""
    status, message = sent(portal, bob, fields)
    assert (status, told in message) == (400, True), message
    assert submitted(portal) == []


def test_a_link_that_is_no_text_is_refused_by_name(
    portal: RunningPortal, bob: requests.Session
) -> None:
    page = bob.get(f"{portal.hub.url}/hub/spawn?opt-choice=near/small&opt-qos=%e4", timeout=60)
    assert page.status_code == 400
    assert "opt-qos b'\\xe4' asked; text in UTF-8 is taken" in words(page.text)
    assert submitted(portal) == []


@pytest.mark.parametrize(
    ("person", "link"),
    [
        ("carol", "class=small&backend=far&runtime_min=30"),
        ("dave", "opt-class=small&opt-backend=far&opt-runtime_min=30&from=mail"),
        ("erin", "opt-choice=far/small&opt-runtime_min=30&opt-environment=python&opt-cores="),
    ],
)
def test_a_link_starts_what_it_says(portal: RunningPortal, person: str, link: str) -> None:
    """In JupyterHub's form with `opt-`, the older one without, and as the form makes it."""
    browser = portal.browser(person)
    started = browser.get(
        f"{portal.hub.url}/hub/spawn?{link}", timeout=60, allow_redirects=False
    )  # fmt: skip
    assert started.status_code == 302, words(started.text)
    assert f"/hub/spawn-pending/{person}" in started.headers["location"]
    (request,) = [r for r in submitted(portal) if r.person == person]
    assert (request.cores, request.memory_mib, request.runtime_min) == (1, 512, 30)
    assert portal.ask("GET", f"/af/spawns/{person}").json()["backend"] == "far"
    cancel(portal, person)


def cancel(portal: RunningPortal, person: str) -> None:
    """Give up a server that waits, and see that its spawn has failed."""
    assert portal.ask("DELETE", f"/af/spawns/{person}").status_code == 204
    assert "cancelled by its owner" in portal.spawn_failed(person)


def test_a_link_that_is_refused_shows_the_form(
    portal: RunningPortal, bob: requests.Session
) -> None:
    """With the reason, and what may be had."""
    before = len(submitted(portal))
    page = bob.get(f"{portal.hub.url}/hub/spawn?opt-class=large&opt-backend=far", timeout=60)
    assert page.status_code == 400
    assert "class large asked; far offers you small" in words(page.text)
    assert proposed(page.text) == "near/small"
    assert len(submitted(portal)) == before


def proposed(page: str) -> str:
    found = re.search(r'value="([^"]*)" checked', page)
    assert found, page[:500]
    return found[1]


@pytest.mark.parametrize(("person", "end"), [("frank", "cancelled"), ("grace", "too late")])
def test_a_choice_that_failed_is_forgotten(portal: RunningPortal, person: str, end: str) -> None:
    """Neither a cancelled one nor one that took too long is proposed, or taken, again."""
    browser = portal.browser(person)
    spawner = portal.hub.app.users[person].spawners[""]
    if end == "too late":
        spawner.start_timeout = 1
    started = portal.ask(
        "POST", f"/users/{person}/server", json={"backend": "far", "class": "small"}
    )  # fmt: skip
    assert started.status_code == 202, started.text
    assert spawner.orm_spawner.user_options == {"backend": "far", "class": "small"}
    if end == "cancelled":
        cancel(portal, person)
    else:
        portal.spawn_failed(person)
    page = browser.get(f"{portal.hub.url}/hub/spawn", timeout=60)
    assert proposed(page.text) == "near/small"
    assert portal.hub.app.users[person].spawners[""].orm_spawner.user_options == {}


def test_each_choice_is_named_with_its_place(portal: RunningPortal, bob: requests.Session) -> None:
    """A screen reader tells two classes of one name apart, and finds what describes a field."""
    page = bob.get(f"{portal.hub.url}/hub/spawn", timeout=60).text
    groups = re.findall(r'role="group" aria-labelledby="([^"]*)"', page)
    assert groups == ["af-at-near", "af-at-far"]
    described = re.findall(r'aria-describedby="([^"]*)"', page)
    assert "af-environment-text" in described
    for name in (*groups, *described):
        assert f'id="{name}"' in page
