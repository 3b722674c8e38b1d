"""People in a real browser: from the first log-in with a telephone to Log Out and after it.

Each page is kept as a picture in the run's report.
"""

import datetime
from collections.abc import Callable, Iterator
from typing import Any

import pyotp
import pytest

from testbed import entry, faults, front, pages
from testbed.bed import Bed
from testbed.browser import Browser
from testbed.promises import expect_within
from testbed.secret import Secret
from testbed.site import Person, Site

pytestmark = [pytest.mark.needs("front_door", "faults"), pytest.mark.timeout(300)]

Open = Callable[[str], Browser]
Admin = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def enrolling(site: Site, keycloak_admin: Admin) -> Person:
    """Somebody without a second factor, as before their first log-in."""
    person = site.people("person")[-1]
    keycloak_admin("forget-code", person.name)
    return person


def _log_in(browser: Browser, site: Site, person: Person) -> None:
    """Password and code, from the login page to the page behind it."""
    pages.give_password(browser, person.name, site.secret(person, {}))
    browser.see(pages.CODE)
    browser.picture("code")
    pages.give_code(browser, entry.code(site, person, {}))


def _errors(keycloak_admin: Admin, person: Person) -> list[str]:
    """What Keycloak's event log has of a person that went wrong, the oldest first."""
    return [event.get("error", "") for event in keycloak_admin("events", person.name)]


# Landing page


def test_the_landing_page_leads_to_a_hub(
    site: Site, chromium: Open, students: Iterator[Person]
) -> None:
    """The choice of hubs is the first page; a choice leads to the login and then to that hub."""
    person, hub = next(students), site.hubs[1]
    browser = chromium("landing")
    browser.open(f"{str(site.front_door).rstrip('/')}/")
    for each in site.hubs:
        assert browser.has(f'a[href="/{each.name}/"]')
    browser.picture("landing")
    browser.click(f'a[href="/{hub.name}/"]')
    browser.see(pages.LOGIN_FORM)
    browser.picture("login")
    _log_in(browser, site, person)
    browser.arrive(site.entry_url(hub))
    browser.picture("hub")
    browser.open(f"{str(site.front_door).rstrip('/')}/")
    assert person.name in browser.text
    browser.picture("landing-logged-in")


def test_an_announcement_stands_on_the_login_page(bed: Bed, site: Site, chromium: Open) -> None:
    """What is announced shows on the landing page and on the login page, without a restart."""
    words = "Storage is read-only on Thursday"
    browser = chromium("announcement")
    front.announce(bed, words)
    try:
        browser.open(f"{str(site.front_door).rstrip('/')}/")
        browser.until(lambda: words in browser.text, "announcement on the landing page")
        browser.picture("landing")
        browser.open(f"{site.entry_url(site.hubs[0])}/hub/home")
        browser.see(pages.LOGIN_FORM)
        browser.until(lambda: words in browser.text, "announcement on the login page")
        browser.picture("login")
    finally:
        front.announce(bed, "")


# Second factor


def test_first_log_in_enrols_by_the_code_on_the_page(
    site: Site, chromium: Open, enrolling: Person
) -> None:
    """The first log-in shows a QR code that a telephone reads; the next one asks for its code."""
    hub = site.hubs[0]
    browser = chromium("first")
    browser.open(f"{site.entry_url(hub)}/hub/home")
    pages.give_password(browser, enrolling.name, site.secret(enrolling, {}))
    browser.see(pages.QR_CODE)
    browser.picture("qr-code")
    seed = pages.enrol(browser, lambda seed: entry.used_codes(site).next_code(enrolling.name, seed))
    browser.arrive(site.entry_url(hub))
    browser.see(pages.HUB_PAGE)
    browser.picture("hub")
    site.keep_totp(enrolling, seed)

    again = chromium("second")
    again.open(f"{site.entry_url(hub)}/hub/home")
    pages.give_password(again, enrolling.name, site.secret(enrolling, {}))
    again.see(pages.CODE)
    assert not again.has(pages.QR_CODE)
    again.picture("code")
    pages.give_code(again, entry.code(site, enrolling, {}))
    again.arrive(site.entry_url(hub))
    again.see(pages.HUB_PAGE)
    again.picture("hub")


def test_wrong_password(
    site: Site, chromium: Open, students: Iterator[Person], keycloak_admin: Admin
) -> None:
    """A wrong password is told on the page, and stands in the event log."""
    person = next(students)
    browser = chromium("wrong-password")
    browser.open(f"{site.entry_url(site.hubs[0])}/hub/home")
    pages.give_password(browser, person.name, Secret("swordfish"))
    assert "invalid" in pages.login_error(browser).lower()
    browser.picture("refused")
    expect_within(
        10,
        lambda: "invalid_user_credentials" in _errors(keycloak_admin, person),
        what="the wrong password in the event log",
    )
    _log_in(browser, site, person)
    browser.arrive(site.entry_url(site.hubs[0]))


def test_wrong_code(
    site: Site, chromium: Open, students: Iterator[Person], keycloak_admin: Admin
) -> None:
    """A wrong code is told on its page; the right one then still works."""
    person = next(students)
    seed = site.totp(person, {})
    assert seed
    right = {pyotp.TOTP(seed).at(pyotp.TOTP(seed).timecode(_now()) * 30 + step) for step in _STEPS}
    wrong = next(code for code in ("000000", "111111", "222222", "333333") if code not in right)
    browser = chromium("wrong-code")
    browser.open(f"{site.entry_url(site.hubs[0])}/hub/home")
    pages.give_password(browser, person.name, site.secret(person, {}))
    pages.give_code(browser, wrong)
    assert "invalid" in pages.login_error(browser).lower()
    browser.picture("refused")
    expect_within(
        10,
        lambda: "invalid_user_credentials" in _errors(keycloak_admin, person),
        what="the wrong code in the event log",
    )
    pages.give_code(browser, entry.code(site, person, {}))
    browser.arrive(site.entry_url(site.hubs[0]))


def test_guessing_locks_the_account(
    site: Site, chromium: Open, students: Iterator[Person], keycloak_admin: Admin
) -> None:
    """Wrong passwords in a row lock the account for a while: the right one is refused then.

    The page says no more than before, so that nobody learns which names exist; the event log
    says what it was.
    """
    person = next(students)
    browser = chromium("lock-out")
    browser.open(f"{site.entry_url(site.hubs[0])}/hub/home")

    def locked() -> bool:
        return "user_temporarily_disabled" in _errors(keycloak_admin, person)

    try:
        for _ in range(_GUESSES):
            pages.give_password(browser, person.name, Secret("swordfish"))
            pages.login_error(browser)
            if locked():
                break
        pages.give_password(browser, person.name, site.secret(person, {}))
        assert pages.login_error(browser)
        browser.picture("locked")
        expect_within(10, locked, what="user_temporarily_disabled in the event log")
    finally:
        keycloak_admin("unlock", person.name)
    _log_in(browser, site, person)
    browser.arrive(site.entry_url(site.hubs[0]))


_GUESSES = 12
_STEPS = (-60, -30, 0, 30, 60)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


# The other organisation


def _through_the_federation(browser: Browser, site: Site, person: Person) -> None:
    browser.open(f"{site.entry_url(site.hubs[0])}/hub/home")
    browser.see(pages.LOGIN_FORM)
    browser.picture("login")
    browser.click(f"#social-{person.provider}")
    browser.until(lambda: f"/realms/{person.provider}/" in browser.url, "the other organisation")
    browser.picture("other-organisation")
    pages.give_password(browser, person.name, site.secret(person, {}))


def test_a_member_of_the_experiment_comes_from_another_organisation(
    site: Site, chromium: Open
) -> None:
    """Who is a member logs in where they are at home, and is in."""
    nora = site.person("nora")
    browser = chromium("member")
    _through_the_federation(browser, site, nora)
    browser.arrive(site.entry_url(site.hubs[0]))
    browser.see(pages.HUB_PAGE)
    browser.picture("hub")
    assert nora.name in browser.driver.page_source


@pytest.mark.parametrize("name", ["otto", "eve"])
def test_who_is_no_member_is_told_so(site: Site, chromium: Open, name: str) -> None:
    """Who logs in elsewhere and is no member gets a page that says why, and no session."""
    stranger = site.person(name)
    browser = chromium("no-member")
    _through_the_federation(browser, site, stranger)
    browser.until(
        lambda: "experiment" in browser.text and f"/realms/{stranger.provider}/" not in browser.url,
        "word on membership",
    )
    browser.picture("refused")
    browser.open(f"{site.entry_url(site.hubs[0])}/hub/home")
    browser.see(pages.LOGIN_FORM)


# A working day


def test_from_login_to_log_out(site: Site, chromium: Open, students: Iterator[Person]) -> None:
    """Log in, spawn by the form, run a cell, log out; the back button shows nothing after it."""
    person, hub = next(students), site.hubs[0]
    url = site.entry_url(hub)
    browser = chromium("day")
    browser.open(f"{url}/hub/spawn/{person.name}")
    browser.see(pages.LOGIN_FORM)
    browser.picture("login")
    _log_in(browser, site, person)
    browser.see(pages.CHOICE)
    browser.picture("form")
    pages.begin_spawn(browser, "local")
    pages.wait_for_lab(browser, url)
    browser.picture("lab")
    try:
        assert pages.run_first_cell(browser, "6 * 7").strip() == "42"
        browser.picture("first-cell")
        lab = browser.url
        browser.open(f"{url}/hub/home")
        browser.see("#stop")
        browser.picture("home")
        browser.click("#logout")
        browser.until(lambda: "logged out" in browser.text.lower(), "the page after Log Out")
        browser.picture("logged-out")
        browser.driver.back()
        browser.until(
            lambda: browser.has(pages.LOGIN_FORM) or not browser.has("#stop"),
            "nothing of the session behind the back button",
        )
        browser.picture("back-button")
        assert not browser.has("#stop")
        browser.open(lab)
        browser.see(pages.LOGIN_FORM)
        browser.picture("lab-after-log-out")
    finally:
        _stop_server(site, person)


def test_an_administrators_log_out_reaches_the_browser(
    site: Site, chromium: Open, students: Iterator[Person], keycloak_admin: Admin
) -> None:
    """After an administrator ended a session in Keycloak the next click leads to the login."""
    person, url = next(students), site.entry_url(site.hubs[0])
    browser = chromium("administrator")
    browser.open(f"{url}/hub/home")
    _log_in(browser, site, person)
    browser.see(pages.HUB_PAGE)
    keycloak_admin("log-out", person.name)

    def sent_to_login() -> bool:
        browser.open(f"{url}/hub/home")
        return browser.has(pages.LOGIN_FORM)

    browser.until(sent_to_login, "login page after the administrator's log-out", 20)
    browser.picture("login-again")


# Services away, as people see it


def test_a_dead_instances_page_leads_elsewhere(
    bed: Bed, site: Site, chromium: Open, students: Iterator[Person]
) -> None:
    """The page of an instance that died has a button, and behind it the hub goes on."""
    person, hub = next(students), site.hubs[0]
    url = site.entry_url(hub)
    browser = chromium("dead-instance")
    browser.open(f"{url}/hub/home")
    _log_in(browser, site, person)
    browser.see(pages.HUB_PAGE)
    route = browser.cookie(f"route_{hub.name}")
    with faults.kill(bed, f"hub-{route}"):
        browser.open(f"{url}/hub/home")
        browser.see(f'form[action="/-/elsewhere/{hub.name}"]')
        assert route in browser.text
        browser.picture("dead")
        browser.click(f'form[action="/-/elsewhere/{hub.name}"] button')
        browser.see(pages.HUB_PAGE)
        assert browser.cookie(f"route_{hub.name}") != route
        browser.picture("elsewhere")


def test_without_keycloak_the_page_says_so(bed: Bed, site: Site, chromium: Open) -> None:
    """Who wants to log in while Keycloak is away reads that, and that nothing else is lost."""
    browser = chromium("no-keycloak")
    with faults.stop(bed, "keycloak"):
        browser.open(f"{site.entry_url(site.hubs[0])}/hub/home")
        browser.until(lambda: "login service" in browser.text.lower(), "word on the login service")
        browser.picture("down")
    browser.open(f"{site.entry_url(site.hubs[0])}/hub/home")
    browser.see(pages.LOGIN_FORM)


def _stop_server(site: Site, person: Person) -> None:
    with entry.enter(site, site.hubs[0], person, {}) as session:
        client = entry.client(site, site.hubs[0], person, session)
    client.stop(timeout_s=120)
    client.close()
