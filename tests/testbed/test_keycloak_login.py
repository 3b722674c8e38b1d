"""The walk through Keycloak's pages, on pages as Keycloak 26.7 served them."""

import json
import re
import threading
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pyotp
import pytest
import requests
from requests.adapters import BaseAdapter

from testbed import keycloak_login
from testbed.errors import LoginRefused
from testbed.keycloak_login import CODE_STEP_S, UsedCodes, log_in, read_page
from testbed.secret import Secret

PAGES = Path(__file__).resolve().parents[1] / "data" / "keycloak"
FRONT = "https://hubs.af.localhost:8443/"
LOGIN = "https://login.af.localhost:8443/realms/af/"
SEED = Secret("JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")
BEHIND = "<html><body><h1>Choose a hub</h1></body></html>"
NOW = 1_800_000_010.0  # ten seconds into a step
STEP = int(NOW // CODE_STEP_S)


class Played(BaseAdapter):
    """Answers each request with the next page of a play and keeps what was sent."""

    def __init__(self, *pages: str, clock: float = NOW) -> None:
        super().__init__()
        self._pages = iter(pages)
        self._clock = clock
        self.sent: list[tuple[str, str, dict[str, list[str]]]] = []

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        body = request.body if isinstance(request.body, str) else ""
        self.sent.append(
            (str(request.method), str(request.url), parse_qs(body, keep_blank_values=True))
        )
        answer = requests.Response()
        page = next(self._pages)
        text = page if page.startswith("<") else (PAGES / f"{page}.html").read_text()
        answer._content = text.encode()
        answer.encoding = "utf-8"
        answer.status_code = 200
        answer.url = FRONT if page.startswith("<") else LOGIN
        answer.headers["Content-Type"] = "text/html;charset=utf-8"
        answer.headers["Date"] = formatdate(self._clock, usegmt=True)
        answer.request = request
        return answer

    def close(self) -> None:
        pass


def browser(play: Played) -> requests.Session:
    session = requests.Session()
    session.mount("https://", play)
    return session


class Clock:
    """The machine's clock and a wait that moves it."""

    def __init__(self) -> None:
        self.now = NOW
        self.waited = 0.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()

    class Event(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            made.now += timeout or 0
            made.waited += timeout or 0
            return False

    monkeypatch.setattr(keycloak_login.time, "time", made.time)
    monkeypatch.setattr(keycloak_login.threading, "Event", Event)
    return made


@pytest.fixture
def used(tmp_path: Path, clock: Clock) -> UsedCodes:  # noqa: ARG001 - codes are counted by it
    return UsedCodes(tmp_path / "state" / "used-codes.json")


def enter(
    play: Played, used: UsedCodes, totp: Secret | None = SEED, provider: str | None = None
) -> keycloak_login.Entered:
    return log_in(browser(play), FRONT, "bob", Secret("pw"), totp, used, provider=provider)


# The walk


def test_password_and_code_lead_to_the_page_behind(used: UsedCodes) -> None:
    """Each form gets what it asks for, and what it holds unseen goes along."""
    play = Played("login", "code", BEHIND)
    entered = enter(play, used)
    assert entered.page.text == BEHIND
    assert entered.enrolled is None
    (_, _, _), (verb, url, sent), (_, _, code) = play.sent
    assert verb == "POST"
    assert url.startswith(LOGIN + "login-actions/authenticate?")
    assert (sent["username"], sent["password"]) == (["bob"], ["pw"])
    assert code["otp"] == [pyotp.TOTP(SEED).at(int(NOW))]
    assert code["selectedCredentialId"] == ["11111111-2222-3333-4444-555555555555"]


def test_who_is_logged_in_already_is_asked_nothing(used: UsedCodes) -> None:
    play = Played(BEHIND)
    assert enter(play, used).page.text == BEHIND
    assert len(play.sent) == 1


def test_enrolment_gives_the_new_seed_and_proves_it(used: UsedCodes) -> None:
    """The seed is the one that a phone would have read off the page."""
    play = Played("login", "enrolment", BEHIND)
    entered = enter(play, used, totp=None)
    assert entered.enrolled is not None
    sent = play.sent[-1][2]
    assert sent["totp"] == [pyotp.TOTP(entered.enrolled).at(int(NOW))]
    assert pyotp.TOTP(entered.enrolled).byte_secret().decode() == sent["totpSecret"][0]


def test_an_explanation_on_the_enrolment_page_is_no_refusal() -> None:
    """'You need to set up …' looks like an error, and is none."""
    page = read_page(answer("enrolment"))
    assert page is not None
    assert (page.asks, page.error) == ("enrolment", "")


def test_the_federation_is_chosen_and_needs_no_code(used: UsedCodes) -> None:
    play = Played("login", "federation", BEHIND)
    entered = enter(play, used, totp=None, provider="federation")
    assert entered.page.text == BEHIND
    assert "/realms/af/broker/federation/login?" in play.sent[1][1]
    assert "/realms/federation/" in play.sent[2][1]


# Refusals


@pytest.mark.parametrize(
    ("pages", "words"),
    [
        (("login", "wrong-password"), "Invalid username or password."),
        (("login", "code", "wrong-code"), "Invalid authenticator code."),
        (("login", "enrolment", "enrolment-wrong-code"), "Invalid authenticator code."),
        (("login", "locked"), "Invalid username or password."),
        (("login", "disabled"), "This account is disabled"),
        (("login", "no-directory"), "the directory of people does not answer"),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)
def test_a_refusal_has_keycloaks_own_words(
    used: UsedCodes, pages: tuple[str, ...], words: str
) -> None:
    with pytest.raises(LoginRefused) as refused:
        enter(Played(*pages), used)
    assert words in refused.value.seen
    assert "Back to" not in refused.value.seen
    assert "pw" not in str(refused.value).split()


def test_who_is_no_member_is_told_so(used: UsedCodes) -> None:
    with pytest.raises(LoginRefused, match="member of one of its experiments"):
        enter(Played("login", "federation", "no-member"), used, provider="federation")


def test_a_provider_that_is_not_offered_is_named(used: UsedCodes) -> None:
    with pytest.raises(LoginRefused, match="it offers federation"):
        enter(Played("login"), used, provider="orcid")


def test_a_code_without_a_seed_is_refused_before_it_is_guessed(used: UsedCodes) -> None:
    play = Played("login", "code")
    with pytest.raises(LoginRefused, match="no seed"):
        enter(play, used, totp=None)
    assert len(play.sent) == 2


def test_a_page_for_a_person_only_is_named(used: UsedCodes) -> None:
    with pytest.raises(LoginRefused, match="Logging out"):
        enter(Played("log-out"), used)


@pytest.mark.parametrize(("ahead_s", "words"), [(95, "ahead of"), (-95, "behind")])
def test_clock_skew_is_named_where_a_code_is_refused(
    used: UsedCodes, ahead_s: int, words: str
) -> None:
    """A wrong clock is told as such, with the cure, and not as a wrong code."""
    with pytest.raises(LoginRefused) as refused:
        enter(Played("login", "code", "wrong-code", clock=NOW + ahead_s), used)
    assert f"its clock is 95 s {words}" in refused.value.seen
    assert "clocks" in refused.value.cure


def test_a_login_that_never_ends_is_broken_off(used: UsedCodes) -> None:
    with pytest.raises(LoginRefused, match="no further"):
        enter(Played(*["login"] * 20), used)


# Codes


def test_a_code_is_given_once_and_the_next_one_early(
    used: UsedCodes, clock: Clock, tmp_path: Path
) -> None:
    """This step's code, then the next one's at once, then the wait for the one after."""
    totp = pyotp.TOTP(SEED)
    assert used.next_code("bob", SEED) == totp.at(STEP * CODE_STEP_S)
    assert used.next_code("bob", SEED) == totp.at((STEP + 1) * CODE_STEP_S)
    assert clock.waited == 0
    assert used.next_code("bob", SEED) == totp.at((STEP + 2) * CODE_STEP_S)
    assert clock.waited == 20
    assert json.loads((tmp_path / "state" / "used-codes.json").read_text()) == {"bob": STEP + 2}


def test_people_do_not_wait_for_each_other(used: UsedCodes, clock: Clock) -> None:
    for person in ("bob", "alice", "bob", "alice"):
        used.next_code(person, SEED)
    assert clock.waited == 0


def test_the_wait_for_a_code_is_bounded(used: UsedCodes, clock: Clock, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(exist_ok=True)
    (tmp_path / "state" / "used-codes.json").write_text(json.dumps({"bob": STEP + 2}))
    with pytest.raises(LoginRefused, match="too many logins of bob"):
        used.next_code("bob", SEED)
    assert clock.waited == 0


@pytest.mark.parametrize("content", ["", "{", "[]", '{"bob": null}'])
def test_a_file_that_a_crash_cut_off_is_begun_anew(
    used: UsedCodes, tmp_path: Path, content: str
) -> None:
    (tmp_path / "state").mkdir()
    path = tmp_path / "state" / "used-codes.json"
    path.write_text(content)
    assert used.next_code("bob", SEED) == pyotp.TOTP(SEED).at(int(NOW))
    assert json.loads(path.read_text()) == {"bob": STEP}


def test_nobody_else_may_read_the_file(used: UsedCodes, tmp_path: Path) -> None:
    used.next_code("bob", SEED)
    assert (tmp_path / "state" / "used-codes.json").stat().st_mode & 0o777 == 0o600


def test_two_processes_never_give_the_same_code(tmp_path: Path) -> None:
    """The file is locked from reading to writing."""
    path = tmp_path / "used-codes.json"
    claimed: list[str] = []

    def claim() -> None:
        claimed.append(UsedCodes(path).next_code("bob", SEED))

    threads = [threading.Thread(target=claim) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({*claimed}) == 2


# Pages


def test_other_pages_are_not_keycloaks() -> None:
    assert read_page(answer(BEHIND)) is None
    picture = answer(BEHIND)
    picture.headers["Content-Type"] = "image/png"
    assert read_page(picture) is None


def test_no_captured_page_holds_a_session_or_a_seed() -> None:
    """What was captured from a running Keycloak was cleaned."""
    for file in PAGES.glob("*.html"):
        text = file.read_text()
        assert not re.search(r"session_code(=|\" value=\")(?!X\b)", text), file.name
        assert "base64, AAAA" in text or "base64" not in text, file.name


def answer(page: str) -> requests.Response:
    return browser(Played(page)).get(LOGIN)
