"""Sessions end together, and only when they should: Log Out, an administrator, services away."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from testbed import entry, faults, loopback
from testbed.bed import Bed
from testbed.errors import LoginRefused
from testbed.guests import Guest
from testbed.hub_client import HubUnreachable
from testbed.kernels import Kernel
from testbed.promises import expect_within
from testbed.site import Person, Site

pytestmark = pytest.mark.needs("front_door", "faults")

Enter = Callable[..., Guest]


def _everywhere(guest: Guest) -> list[Guest]:
    """The same browser at every hub, logged in there without another code."""
    for hub in guest.site.hubs:
        entry.enter(guest.site, hub, guest.person, {}, browser=guest.browser)
    return [Guest(guest.site, hub, guest.person, guest.browser) for hub in guest.site.hubs]


def _is_in(guest: Guest) -> bool:
    """Whether these cookies still show a page of the hub."""
    return guest.get("/hub/home", headers={"Accept": "text/html"}).status_code == 200


def test_one_log_in_serves_every_hub(come_in: Enter) -> None:
    """After one password and one code every hub opens, the one that asks Keycloak itself too."""
    for guest in _everywhere(come_in()):
        assert guest.who() == guest.person.name, guest.hub.name


def test_log_out_ends_every_session_and_no_server(bed: Bed, come_in: Enter) -> None:
    """Log Out ends the sessions at all hubs, at the door and at Keycloak, for copied cookies
    too; running servers and tokens go on."""
    guest = come_in()
    places = _everywhere(guest)
    client = guest.client()
    client.spawn({"backend": "local"}, timeout_s=120)
    with Kernel.start(client) as kernel:
        kernel.run("remembered = 41")
        stolen = [place.copy() for place in places]
        assert all(_is_in(place) for place in stolen)
        page = guest.browser.get(f"{bed.front_door_url}/logout", timeout=60)
        assert page.status_code == 200
        assert "logged out" in page.text.lower()
        for place in (*places, *stolen):
            assert not _is_in(place), f"still in at {place.hub.name}"
        # Keycloak's session is over as well: the way in begins with the password.
        asked = stolen[0].get("/hub/home", follow=True, headers={"Accept": "text/html"})
        assert "kc-form-login" in asked.text
        assert kernel.run("remembered + 1").value == "42"
        assert client.servers()[""]["ready"]
    client.stop(timeout_s=120)
    client.close()


def test_a_log_out_from_another_site_asks_first(bed: Bed, come_in: Enter) -> None:
    """A link on somebody else's page does not end anybody's session."""
    guest = come_in()
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate",
               "Referer": "https://evil.example/", "Accept": "text/html"}  # fmt: skip
    guest.browser.get(f"{bed.front_door_url}/logout", headers=headers, timeout=60)
    assert _is_in(guest)


def test_an_administrators_log_out_ends_all_sessions(
    come_in: Enter, keycloak_admin: Callable[..., object]
) -> None:
    """What an administrator ends in Keycloak ends at every hub within seconds."""
    guest = come_in()
    places = _everywhere(guest)
    keycloak_admin("log-out", guest.person.name)
    expect_within(
        20, lambda: not any(_is_in(place) for place in places), what="every session is over"
    )


def test_the_announcement_changes_while_all_runs(bed: Bed, site: Site) -> None:
    """An announcement shows on the landing page and is handed to the login page at once."""
    from testbed import front

    words = "Storage is read-only on Thursday"
    with loopback.session(site.verify) as browser:
        front.announce(bed, words)
        try:
            assert words in browser.get(f"{bed.front_door_url}/", timeout=30).text
            for name in ("hubs", "login"):
                told = browser.get(f"{bed.front_door(name)}/-/announcement", timeout=30)
                assert words in told.text
        finally:
            front.announce(bed, "")
        assert words not in browser.get(f"{bed.front_door_url}/", timeout=30).text


def test_the_landing_page_needs_no_login(bed: Bed, site: Site) -> None:
    """It offers the hubs, says what a person consents to, and whom to ask."""
    with loopback.session(site.verify) as browser:
        page = browser.get(f"{bed.front_door_url}/", timeout=30)
    assert page.status_code == 200
    assert page.url == f"{bed.front_door_url}/"
    for hub in site.hubs:
        assert f'href="/{hub.name}/"' in page.text
    for words in ("Notice", "Useful links", "Whom to ask"):
        assert words in page.text


# Services away


def _refused(site: Site, person: Person, run_folder: Path) -> str:
    """What somebody new is told; the page is kept."""
    with loopback.session(site.verify) as browser:
        kept: list[requests.Response] = []
        browser.hooks["response"].append(lambda answer, *_a, **_k: kept.append(answer))
        with pytest.raises((LoginRefused, HubUnreachable)) as refusal:
            entry.enter(site, site.hubs[0], person, {}, browser=browser)
        (run_folder / "refusal.html").write_text(kept[-1].text, encoding="utf-8")
        return f"{refusal.value}\n{kept[-1].text}"


def test_without_the_directory_sessions_go_on(
    bed: Bed, site: Site, come_in: Enter, students: Iterator[Person], run_folder: Path
) -> None:
    """LDAP down: who is logged in works and starts servers, who is new is told clearly."""
    guest = come_in()
    client = guest.client()
    client.spawn({"backend": "local"}, timeout_s=120)
    with Kernel.start(client) as kernel, faults.stop(bed, "ldap"):
        assert _is_in(guest)
        assert guest.who() == guest.person.name
        assert kernel.run("6 * 7").value == "42"
        told = _refused(site, next(students), run_folder)
        assert "Traceback" not in told
        assert any(word in told.lower() for word in ("directory", "try again", "unavailable"))
    client.stop(timeout_s=120)
    client.close()
    assert come_in().who()


def test_without_keycloak_sessions_go_on(
    bed: Bed, site: Site, come_in: Enter, students: Iterator[Person], run_folder: Path
) -> None:
    """Keycloak down: who is logged in works, who is new gets a page that says so."""
    guest = come_in()
    client = guest.client()
    client.spawn({"backend": "local"}, timeout_s=120)
    with Kernel.start(client) as kernel, faults.stop(bed, "keycloak"):
        assert _is_in(guest)
        assert guest.who() == guest.person.name
        assert kernel.run("6 * 7").value == "42"
        told = _refused(site, next(students), run_folder)
        assert "login service" in told.lower()
        assert "logged in already" in told.lower()
    client.stop(timeout_s=120)
    client.close()
    assert come_in().who()
