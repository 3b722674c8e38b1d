"""Enter a facility as a browser does, page by page and by plain HTTP: log in, make a token."""

import re
from collections.abc import Iterable, Mapping
from html import unescape
from http.cookiejar import Cookie
from urllib.parse import quote, urlsplit

import requests

from testbed import loopback
from testbed.errors import LoginRefused, UsageError
from testbed.hub_client import REQUEST_TIMEOUT_S, HubClient, HubUnreachable, brief, expect_ok
from testbed.keycloak_login import UsedCodes, log_in
from testbed.secret import Secret
from testbed.site import Hub, Person, Site

_TOKEN_LIFE_S = 24 * 3600


def used_codes(site: Site) -> UsedCodes:
    """Which of people's codes were used up from here: none is taken twice."""
    return UsedCodes(site.folder / "used-codes.json")


def enter(
    site: Site,
    hub: Hub,
    person: Person,
    environ: Mapping[str, str],
    *,
    browser: requests.Session | None = None,
) -> requests.Session:
    """Log a person in at a hub and return the session, whose cookies stand for them.

    Somebody who enrols a second factor at this log-in has its seed kept beside the site file.

    Args:
        environ: Where secrets named by variable are looked up.
        browser: A session that the person used before: one that is logged in at the front
            door needs no password for a second hub. By default a new one.

    Raises:
        LoginRefused: Name, password or code were not taken, or the person may not use this hub.
        HubUnreachable: No answer.
        UsageError: A secret of theirs cannot be had.
    """
    browser = browser or loopback.session(site.verify)
    url = site.entry_url(hub)
    password = site.secret(person, environ)
    try:
        if site.login.kind == "form":
            _fill_form(browser, url, person.name, password)
            return browser
        entered = log_in(
            browser,
            f"{url}/hub/token",
            person.name,
            password,
            site.totp(person, environ),
            used_codes(site),
            provider=person.provider,
        )
    except requests.RequestException as error:
        raise HubUnreachable(
            f"no login at {url}", seen=brief(error), cure="testbed status"
        ) from error
    if entered.enrolled:
        site.keep_totp(person, entered.enrolled)
    if entered.page.status_code >= 500:
        raise HubUnreachable(
            f"no page of {url}",
            seen=f"HTTP {entered.page.status_code}: {_title(entered.page.text)}",
            cure="testbed status",
        )
    if entered.page.status_code >= 400 or not entered.page.url.startswith(f"{url}/"):
        raise LoginRefused(
            f"{person.name} is logged in, but gets no page of {url}",
            seen=f"HTTP {entered.page.status_code} at {urlsplit(entered.page.url).path}: "
            f"{_title(entered.page.text)}",
            cure="testbed status",
        )
    return browser


def code(site: Site, person: Person, environ: Mapping[str, str]) -> Secret:
    """A code of somebody's second factor that was not used before, and now counts as used.

    Waits for the next one, up to half a minute, where the present one is used up.

    Raises:
        UsageError: They are not enrolled, as far as is known here.
    """
    seed = site.totp(person, environ)
    if seed is None:
        raise UsageError(f"{person.name} has no second factor yet, so there is no code")
    return used_codes(site).next_code(person.name, seed)


def client(site: Site, hub: Hub, person: Person, browser: requests.Session) -> HubClient:
    """Make a token, as a person does on the hub's token page, and a client that uses it.

    Raises:
        HubRefused: The hub makes none for this person.
        HubUnreachable: No answer.
    """
    url = site.entry_url(hub)
    path = f"/hub/api/users/{quote(person.name)}/tokens"
    try:
        made = browser.post(
            url + path,
            headers={"X-XSRFToken": xsrf(browser, url), "Referer": f"{url}/hub/token"},
            json={"note": "af-testbed judges", "expires_in": _TOKEN_LIFE_S},
            timeout=REQUEST_TIMEOUT_S,
        )
    except requests.RequestException as error:
        raise HubUnreachable(
            f"no token made at {url}", seen=brief(error), cure="testbed status"
        ) from error
    expect_ok(made, f"POST {path}")
    token = made.json()
    return HubClient(
        site.api_url(hub),
        person.name,
        Secret(token["token"]),
        verify=site.verify,
        token_id=str(token.get("id", "")),
    )


def leave(site: Site, hub: Hub, browser: requests.Session) -> None:
    """Log out, as a person does by the page's own link: servers and tokens go on.

    Raises:
        HubUnreachable: No answer.
    """
    if site.login.kind == "keycloak":
        url = f"{str(site.front_door).rstrip('/')}/logout"
    else:
        url = f"{site.entry_url(hub)}/hub/logout"
    try:
        browser.get(url, timeout=REQUEST_TIMEOUT_S)
    except requests.RequestException as error:
        raise HubUnreachable(
            f"no answer of {url}", seen=brief(error), cure="testbed status"
        ) from error


def fetch_data_token(site: Site, hub: Hub, browser: requests.Session) -> None:
    """Have a hub fetch the data token of whoever is logged in in this browser.

    Raises:
        LoginRefused: It got none.
        HubUnreachable: No answer.
    """
    url = f"{site.entry_url(hub)}/hub/data-token"
    try:
        page = browser.get(url, timeout=REQUEST_TIMEOUT_S)
    except requests.RequestException as error:
        raise HubUnreachable(
            f"no answer of {url}", seen=brief(error), cure="testbed status"
        ) from error
    if page.status_code != 200 or urlsplit(page.url).path.endswith("data-token"):
        raise LoginRefused(
            f"{hub.name} got no data token",
            seen=f"HTTP {page.status_code} at {urlsplit(page.url).path}: {_title(page.text)}",
            cure="testbed logs keycloak",
        )


def xsrf(browser: requests.Session, url: str) -> str:
    """A hub's XSRF cookie; it makes a new one when a person logs in.

    Args:
        url: The hub's address: each hub behind one name has a cookie of its own.

    Raises:
        UsageError: There is none.
    """
    path = urlsplit(url).path + "/hub/"
    cookies: Iterable[Cookie] = iter(browser.cookies)
    found = [
        cookie.value
        for cookie in sorted(cookies, key=lambda cookie: len(cookie.path))
        if cookie.name == "_xsrf" and cookie.value and path.startswith(cookie.path)
    ]
    if not found:
        raise UsageError("the login page sets no XSRF cookie", seen=f"is a JupyterHub at {url}?")
    return found[-1]


def _fill_form(browser: requests.Session, url: str, user: str, password: Secret) -> None:
    """Log in by JupyterHub's own form."""
    page = browser.get(f"{url}/hub/login", timeout=REQUEST_TIMEOUT_S)
    page.raise_for_status()
    answer = browser.post(
        f"{url}/hub/login",
        params={"next": f"{urlsplit(url).path}/hub/token"},
        data={"_xsrf": xsrf(browser, url), "username": user, "password": password},
        timeout=REQUEST_TIMEOUT_S,
    )
    if answer.status_code in (401, 403) or answer.url.startswith(f"{url}/hub/login"):
        raise LoginRefused(
            f"{user} could not log in at {url}",
            seen=f"HTTP {answer.status_code}: {_login_error(answer.text)}",
            cure="testbed users",
        )
    answer.raise_for_status()


def _login_error(page: str) -> str:
    match = re.search(r'class="login_error"[^>]*>(.*?)<', page, re.DOTALL)
    return unescape(match.group(1)).strip() if match else "no word why"


def _title(page: str) -> str:
    match = re.search(r"<title>(.*?)</title>", page, re.DOTALL)
    return " ".join(unescape(match.group(1)).split()) if match else "no title"
