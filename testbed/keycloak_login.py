"""Log in at Keycloak by plain HTTP, page by page, as a person's browser does."""

import base64
import contextlib
import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pyotp
import requests

from testbed.errors import LoginRefused
from testbed.secret import Secret

CODE_STEP_S = 30
# The page that a person waits for, and how many of them there can be until one is in.
_TIMEOUT_S = 60.0
_MOST_PAGES = 8
# Further apart than this, the clocks are to blame for a code that was not taken.
_CLOCK_TOLERANCE_S = 15
_VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})


@dataclass(frozen=True)
class Entered:
    """A login that worked."""

    page: requests.Response
    enrolled: Secret | None = None  # the seed of a second factor that was set up on the way


class UsedCodes:
    """Which time step each person's last code was of, in a file that processes share.

    Keycloak takes a code once, and with a window of one step also the next step's code. So
    a second login within a step uses the next code early, and a third one waits.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def next_code(self, person: str, seed: Secret) -> Secret:
        """A code of this person that nobody used, waiting for one if need be.

        Args:
            seed: In base32, as an authenticator app takes it.

        Raises:
            LoginRefused: So many logins of one person are under way that the wait would be
                longer than a step.
        """
        step = self._claim(person)
        opens_s = (step - 1) * CODE_STEP_S - time.time()
        if opens_s > 0:
            # Nothing to look at meanwhile: time itself is what is waited for.
            threading.Event().wait(opens_s)
        return Secret(pyotp.TOTP(seed).at(step * CODE_STEP_S))

    def wait_until_fresh(self, person: str) -> None:
        """Wait, at most a step, until this person's next code need not be waited for.

        For who measures a login: what is waited for here is not the facility.
        """
        with self._locked() as used:
            opens_s = used.get(person, 0) * CODE_STEP_S - time.time()
        if opens_s > 0:
            threading.Event().wait(opens_s)

    def present(self, person: str, seed: Secret) -> tuple[Secret, float]:
        """The first code that nobody used yet, for somebody to type, and how long it is good.

        Returns:
            The code, and the seconds until its own time step is over. Nothing is noted.
        """
        try:
            last = int(json.loads(self._path.read_text()).get(person, 0))
        except (OSError, ValueError, AttributeError, TypeError):
            last = 0
        now = time.time()
        step = max(int(now // CODE_STEP_S), last + 1)
        return Secret(pyotp.TOTP(seed).at(step * CODE_STEP_S)), (step + 1) * CODE_STEP_S - now

    def _claim(self, person: str) -> int:
        with self._locked() as used:
            now = int(time.time() // CODE_STEP_S)
            step = max(now, used.get(person, 0) + 1)
            if step > now + 2:
                raise LoginRefused(
                    f"too many logins of {person} at once",
                    seen=f"a code counts once and lasts {CODE_STEP_S} s, and the codes of the "
                    f"next {(step - now - 1) * CODE_STEP_S} s are taken",
                    cure=f"try again in {CODE_STEP_S} s, or log in as several people",
                )
            used[person] = step
            return step

    @contextlib.contextmanager
    def _locked(self) -> Iterator[dict[str, int]]:
        """The file's content, written back at the end; nobody else has it meanwhile."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                used = {str(name): int(step) for name, step in json.load(file).items()}
            except (ValueError, AttributeError, TypeError):
                used = {}  # new, or cut off by a crash: at worst one code is refused
            yield used
            file.seek(0)
            file.truncate()
            json.dump(used, file)


def log_in(
    browser: requests.Session,
    url: str,
    person: str,
    password: Secret,
    totp: Secret | None,
    used: UsedCodes,
    *,
    provider: str | None = None,
) -> Entered:
    """Open a page and log in wherever that leads, until a page behind the login is there.

    Args:
        browser: Keeps the cookies; where it is logged in already, no page is asked for.
        url: What the person wants to see.
        totp: Seed of the second factor in base32; None for who has none or will enrol.
        used: The codes that were used already.
        provider: Alias of the identity provider to choose on the login page; name and
            password are then those that the provider knows.

    Raises:
        LoginRefused: Keycloak said no, in its own words, or asks for what cannot be given.
        requests.RequestException: No answer.
    """
    answer = browser.get(url, timeout=_TIMEOUT_S)
    enrolled: Secret | None = None
    asked: str | None = None
    for _ in range(_MOST_PAGES):
        page = read_page(answer)
        if page is None:
            return Entered(answer, enrolled)
        if page.error:
            raise _refusal(person, page.error, answer, asked)
        asked = page.asks
        if page.asks == "password" and provider:
            answer = browser.get(page.provider_url(provider, person), timeout=_TIMEOUT_S)
            provider = None
            continue
        if page.asks == "password":
            answers = {"username": person, "password": password}
        elif page.asks == "code":
            if not totp:
                raise LoginRefused(
                    f"{person} is asked for a code, and no seed of theirs is known",
                    cure="testbed users",
                )
            answers = {"otp": used.next_code(person, totp)}
        elif page.asks == "enrolment":
            enrolled = page.seed
            code = used.next_code(person, enrolled)
            answers = {"totp": code, "userLabel": "testbed"}
        else:
            raise LoginRefused(
                f"the login asks {person} for what only a person can give",
                seen=f"{page.title} ({urlsplit(answer.url).path})",
                cure=f"log in by a browser: {url}",
            )
        answer = browser.post(
            urljoin(answer.url, page.action), data={**page.fields, **answers}, timeout=_TIMEOUT_S
        )
    raise LoginRefused(
        f"{person} got no further than page {_MOST_PAGES} of the login",
        seen=f"HTTP {answer.status_code} at {urlsplit(answer.url).path}",
        cure="testbed logs keycloak",
    )


# Pages

_FORMS = {
    "kc-form-login": "password",
    "kc-otp-login-form": "code",
    "kc-totp-settings-form": "enrolment",
}


@dataclass(frozen=True)
class Page:
    """A page of Keycloak's: what it asks for and what it complains of."""

    url: str
    title: str
    asks: str = ""  # password, code, enrolment, or empty: something else
    action: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)  # what the form holds unseen
    error: str = ""
    providers: Mapping[str, str] = field(default_factory=dict)  # alias → address

    @property
    def seed(self) -> Secret:
        """The seed that an enrolment page offers, in base32 as it is shown to people."""
        return Secret(base64.b32encode(self.fields["totpSecret"].encode()).decode().rstrip("="))

    def provider_url(self, alias: str, person: str) -> str:
        """Where the button of an identity provider leads.

        Raises:
            LoginRefused: The page has no such button.
        """
        if alias not in self.providers:
            raise LoginRefused(
                f"{person} cannot log in by way of {alias}: the login page does not offer it",
                seen=f"it offers {', '.join(self.providers) or 'none'}",
                cure="testbed logs keycloak",
            )
        return urljoin(self.url, self.providers[alias])


def read_page(answer: requests.Response) -> Page | None:
    """What a page of Keycloak's asks for; None for any other page."""
    if "html" not in answer.headers.get("Content-Type", ""):
        return None
    reader = _Reader()
    reader.feed(answer.text)
    if not reader.is_keycloak:
        return None
    form_id = next((name for name in _FORMS if name in reader.forms), "")
    action, fields = reader.forms.get(form_id, ("", {}))
    return Page(
        url=answer.url,
        title=reader.text("kc-page-title"),
        asks=_FORMS.get(form_id, ""),
        action=action,
        fields=fields,
        error=reader.complaint,
        providers=reader.providers,
    )


class _Reader(HTMLParser):
    """Collects forms, texts by element id, complaints and providers of a page.

    Source: keycloak-themes 26.7, `theme/keycloak.v2/login/*.ftl`; the ids are those of the
    older theme too.
    """

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.is_keycloak = False
        self.forms: dict[str, tuple[str, dict[str, str]]] = {}
        self.providers: dict[str, str] = {}
        self._texts: dict[str, list[str]] = {}
        self._open: list[tuple[str, str]] = []  # tag and what its text is kept under
        self._form = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        name = values.get("id", "")
        classes = values.get("class", "").split()
        if tag == "body" and (
            name == "keycloak-bg" or values.get("data-page-id", "").startswith("login-")
        ):
            self.is_keycloak = True
        if tag == "form":
            self._form = name
            self.forms[name] = (values.get("action", ""), {})
        elif tag == "input" and self._form and values.get("type") == "hidden":
            self.forms[self._form][1][values.get("name", "")] = values.get("value", "")
        elif tag == "a" and name.startswith("social-"):
            self.providers[name.removeprefix("social-")] = values.get("href", "")
        if tag in _VOID:
            return
        key = name
        # An alert may also only explain what is asked for.
        if name.startswith("input-error-container"):
            key = ""
        elif name.startswith("input-error") or {"pf-m-danger", "alert-error"} & {*classes}:
            key = "complaint"
        self._open.append((tag, key))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = ""
        # Whatever was left open inside ends with it.
        for index in range(len(self._open) - 1, -1, -1):
            if self._open[index][0] == tag:
                del self._open[index:]
                return

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1][0] in ("script", "style", "a"):
            return
        for key in {key for _, key in self._open if key}:
            self._texts.setdefault(key, []).append(data)

    def text(self, name: str) -> str:
        return " ".join("".join(self._texts.get(name, [])).split())

    @property
    def complaint(self) -> str:
        """What is shown as an error; empty on a page that only asks."""
        return self.text("complaint") or self.text("kc-error-message")


def _refusal(person: str, words: str, answer: requests.Response, asked: str | None) -> LoginRefused:
    host = urlsplit(answer.url).hostname or "the login"
    if asked in ("code", "enrolment") and abs(skew := clock_skew_s(answer)) > _CLOCK_TOLERANCE_S:
        return LoginRefused(
            f"{person}'s code was not taken at {host}: the clocks differ",
            seen=f"{words}; its clock is {abs(skew):.0f} s "
            f"{'ahead of' if skew > 0 else 'behind'} this machine's",
            cure="set both clocks (timedatectl set-ntp true), then testbed restart keycloak",
        )
    return LoginRefused(
        f"{person} could not log in at {host}",
        seen=words,
        cure="testbed users shows who can log in with what; testbed logs keycloak says why not",
    )


def clock_skew_s(answer: requests.Response) -> float:
    """How far the server's clock is ahead of this machine's; 0 if it does not tell."""
    try:
        stamp = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return 0.0
    return stamp - time.time()
