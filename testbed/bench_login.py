"""`testbed bench login`: how long a log-in takes, and what the front door adds to a call."""

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from testbed import browser as browsers
from testbed import chromium, entry, pages
from testbed.bed import Bed
from testbed.errors import ScenarioFailed, TestbedError, UsageError
from testbed.hub_client import HubClient
from testbed.results import quantile
from testbed.site import Person, Site

Say = Callable[[str], None]

CALLS = 300
_CELL, _ANSWER = "6 * 7", "42"


def run(
    site: Site,
    *,
    environ: Mapping[str, str],
    folder: Path,
    bed: Bed | None,
    people: int = 20,
    browser_rounds: int = 3,
    say: Say = lambda _line: None,
) -> dict[str, float]:
    """Measure, and return the figures of `bench login`.

    Args:
        site: With that many people who are enrolled already, and Keycloak in front.
        folder: Gets the browser's pictures.
        bed: The testbed behind the site; without it `proxy_added_ms` is left out, since only
            there the hub's own port can be reached.
        people: How many log in by plain HTTP, one after the other.
        browser_rounds: How many do so in Chromium; 0 leaves that figure out.

    Raises:
        UsageError: The site has no Keycloak, or too few people.
        ScenarioFailed: Somebody could not log in, or got no server.
        TestbedError: No Chromium, or the probe inside broke.
    """
    if site.login.kind != "keycloak":
        raise UsageError(f"site {site.name} has no front door with Keycloak to measure")
    used = entry.used_codes(site)
    # First those whose present code is unused: a wait for the next is not the facility's.
    unused_s = {
        person: used.present(person.name, seed)[1]
        for person in site.people("student", "person")
        if (seed := site.totp(person, environ))
    }
    crowd = sorted(unused_s, key=lambda person: unused_s[person])
    if len(crowd) < max(people, browser_rounds, 1):
        raise UsageError(
            f"{people} enrolled people are needed", seen=f"{site.name} has {len(crowd)}"
        )
    figures = _by_http(site, crowd[:people], environ, say)
    if bed is not None:
        figures |= _proxy_added(bed, site, crowd[0], environ, say)
    if browser_rounds:
        others = [*crowd[people:], *crowd][:browser_rounds]
        figures |= _by_browser(site, others, environ, folder, say)
    return figures


def _by_http(
    site: Site, crowd: Sequence[Person], environ: Mapping[str, str], say: Say
) -> dict[str, float]:
    """Seconds from the first request to the hub's first page, each in a session of its own."""
    spans = []
    for person in crowd:
        started = time.monotonic()
        with entry.enter(site, site.hubs[0], person, environ):
            spans.append(time.monotonic() - started)
    figures = {
        f"login_http_{name}_s": round(quantile(spans, q) or 0.0, 4)
        for name, q in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))
    }
    say(f"{len(spans)} log-ins by plain HTTP: p50 {figures['login_http_p50_s']} s")
    return {**figures, "logins_http": len(spans)}


def _proxy_added(
    bed: Bed, site: Site, person: Person, environ: Mapping[str, str], say: Say
) -> dict[str, float]:
    """Milliseconds that the API door adds to a hub API call, as the difference of medians.

    One client asks both ways in turn, on connections that stay open, so that both see the
    same moments of the same hub. It runs inside the testbed, in the service `front`, because
    only there the hub's own port can be reached; the API door's name leads to the same proxy.
    """
    hub = site.hubs[0]
    with entry.enter(site, hub, person, environ) as session:
        client = entry.client(site, hub, person, session)
    with_base = f"{urlsplit(client.url).path}/hub/api/user"
    done = bed.exec(
        "front",
        ["python3", "-c", _PROBE],
        environment={
            "PROBE": json.dumps(
                {
                    "ways": [
                        [bed.front_door("api"), with_base],
                        [f"https://hub-{client.instance}:8081", with_base],
                    ],
                    "token": client.token,
                    "ca": Path(str(site.verify)).read_text() if site.ca_bundle else None,
                    "calls": CALLS,
                }
            )
        },
        timeout_s=120,
    )
    client.close()
    if not done.ok:
        raise TestbedError(
            "the probe beside the hub broke", seen=done.stderr[-800:], cure="testbed logs front"
        )
    door, own = (statistics.median(way) for way in json.loads(done.stdout))
    say(f"hub API call: {door:.2f} ms through the API door, {own:.2f} ms at the hub's own port")
    return {
        "proxy_added_ms": round(door - own, 3),
        "call_by_api_door_p50_ms": round(door, 3),
        "call_at_hub_port_p50_ms": round(own, 3),
    }


# Asks each way in turn and prints the milliseconds of each call.
_PROBE = """
import http.client, json, os, ssl, time, urllib.parse
asked = json.loads(os.environ["PROBE"])
def connection(url):
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https":
        context = ssl.create_default_context(cadata=asked["ca"])
        context.load_verify_locations("/keys/inside-tls/ca.pem")
        return http.client.HTTPSConnection(parts.hostname, parts.port, context=context)
    return http.client.HTTPConnection(parts.hostname, parts.port)
ways = [(connection(url), path, []) for url, path in asked["ways"]]
headers = {"Authorization": "token " + asked["token"]}
for number in range(asked["calls"] + 10):
    for line, path, spans in ways:
        begin = time.perf_counter()
        line.request("GET", path, headers=headers)
        answer = line.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path}: HTTP {answer.status}")
        if number >= 10:
            spans.append(1000 * (time.perf_counter() - begin))
print(json.dumps([spans for _, _, spans in ways]))
"""


def _by_browser(
    site: Site, crowd: Sequence[Person], environ: Mapping[str, str], folder: Path, say: Say
) -> dict[str, float]:
    """Seconds from the login page that is shown to the first cell's output, browser cold."""
    found = chromium.ensure(say)
    hub, url = site.hubs[0], site.entry_url(site.hubs[0])
    backend = hub.backends[0] if hub.backends else next(iter(site.backends))
    spans = []
    for number, person in enumerate(crowd, start=1):
        pictures = folder / "browser" / person.name
        trusted = [browsers.spki(url, verify=site.verify)] if site.ca_bundle else []
        try:
            with browsers.Browser(found, trusted=trusted, pictures=pictures) as browser:
                spans.append(_walk(site, url, backend, person, environ, browser))
        finally:
            _stop(site, person, environ)
        say(f"Chromium {number} of {len(crowd)}: {spans[-1]:.2f} s to the first cell's output")
    return {"login_browser_first_cell_s": round(statistics.median(spans), 3)}


def _walk(
    site: Site,
    url: str,
    backend: str,
    person: Person,
    environ: Mapping[str, str],
    browser: browsers.Browser,
) -> float:
    # Taken before the clock starts: a wait for the next code is not the facility's.
    code = entry.code(site, person, environ)
    browser.open(f"{url}/hub/spawn/{person.name}")
    browser.see(pages.LOGIN_FORM)
    started = time.monotonic()
    pages.give_password(browser, person.name, site.secret(person, environ))
    pages.give_code(browser, code)
    pages.begin_spawn(browser, backend)
    pages.wait_for_lab(browser, url)
    said = pages.run_first_cell(browser, _CELL)
    took_s = time.monotonic() - started
    browser.picture("first-cell")
    if said.strip() != _ANSWER:
        raise ScenarioFailed(f"{_CELL} gave {said!r} in the browser")
    return took_s


def _stop(site: Site, person: Person, environ: Mapping[str, str]) -> None:
    with entry.enter(site, site.hubs[0], person, environ) as session:
        client: HubClient = entry.client(site, site.hubs[0], person, session)
    client.stop(timeout_s=120)
    client.close()
