"""`testbed bench share`: from the click on a link's page to the open notebook, in a browser."""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from testbed import browser as browsers
from testbed import chromium, entry, pages
from testbed.errors import ScenarioFailed
from testbed.hub_client import HubClient
from testbed.logins import Logins
from testbed.share_links import Link, Owner, notebook
from testbed.site import Site

Say = Callable[[str], None]

_OWNER, _READER = "alice", "bob"
_PATH = "bench-share.ipynb"
_OPEN_TIMEOUT_S = 120


def run(
    site: Site,
    logins: Logins,
    *,
    environ: Mapping[str, str],
    folder: Path,
    running: int,
    new: int,
    say: Say = lambda _line: None,
) -> dict[str, float]:
    """Measure, and return the figures of `bench share`.

    Args:
        folder: Gets the browser's pictures.
        running: How often a link is opened in a server that runs.
        new: How often in a new one; the spawn, by the hub's own stamps, is taken off.

    Raises:
        ScenarioFailed: A copy did not open.
        TestbedError: No Chromium.
    """
    found = chromium.ensure(say)
    hub = site.hub_for("htcondor")
    owner, reader = (logins.client(name, hub=hub) for name in (_OWNER, _READER))
    figures: dict[str, float] = {}
    try:
        for client in (owner, reader):
            client.spawn({"backend": "htcondor", **site.backend("htcondor").options})
        link = _link(owner)
        key = browsers.spki(str(site.front_door), verify=site.verify) if site.ca_bundle else ""
        with browsers.Browser(
            found, trusted=[key] if key else [], pictures=folder / "share"
        ) as browser:
            _log_in(browser, site, environ, link)
            # The first of a browser loads JupyterLab itself: it is told apart.
            figures["first_click_to_open_s"] = round(_click(browser, link, "running"), 3)
            if running:
                figures |= _in_running(browser, link, running, say)
            if new:
                spans = [_in_new(browser, reader, link) for _ in range(new)]
                figures |= _said("click_to_open_new_minus_spawn", spans, say)
    finally:
        for client in (owner, reader):
            client.stop(timeout_s=120)
    return figures


def _link(client: HubClient) -> Link:
    owner = Owner(client)
    owner.write(_PATH, notebook("6 * 7", "42"))
    return owner.share(_PATH)


def _log_in(browser: browsers.Browser, site: Site, environ: Mapping[str, str], link: Link) -> None:
    person = site.person(_READER)
    browser.open(link.url)
    pages.give_password(browser, person.name, site.secret(person, environ))
    browser.see(pages.CODE)
    pages.give_code(browser, entry.code(site, person, environ))
    browser.see("[data-af-share]")


def _click(browser: browsers.Browser, link: Link, where: str) -> float:
    """Seconds from the click to a cell that can be typed in."""
    browser.open(link.url)
    button = browser.see(f"[data-af-{where}]")
    started = time.monotonic()
    button.click()
    browser.until(lambda: _is_open(browser), "the notebook, open", _OPEN_TIMEOUT_S)
    took_s = time.monotonic() - started
    browser.picture(where)
    return took_s


def _is_open(browser: browsers.Browser) -> bool:
    """Whether the notebook of the address, and no other, is in front."""
    path = urlsplit(browser.url).path
    return "/lab/tree/shared/" in path and pages.notebook_in_front(browser, path.rpartition("/")[2])


def _in_running(browser: browsers.Browser, link: Link, rounds: int, say: Say) -> dict[str, float]:
    """In turns with JupyterLab alone, as it opens a notebook that is there: what the copy adds."""
    clicks, alone = [], []
    for _ in range(rounds):
        # With nothing else open: else each round has one notebook more to restore.
        alone.append(_load(browser, f"{browser.url.partition('?')[0]}?reset"))
        clicks.append(_click(browser, link, "running"))
    added_s = statistics.median(clicks) - statistics.median(alone)
    say(f"of which the copy: {added_s:.2f} s, the rest is JupyterLab's own")
    return {
        **_said("click_to_open_running", clicks, say),
        **_said("jupyterlab_alone", alone, say),
        "copy_added_s": round(added_s, 3),
    }


def _load(browser: browsers.Browser, url: str) -> float:
    """Seconds until a notebook at that address is open."""
    browser.open("about:blank")
    started = time.monotonic()
    browser.open(url)
    browser.until(lambda: _is_open(browser), "the notebook, open", _OPEN_TIMEOUT_S)
    return time.monotonic() - started


def _in_new(browser: browsers.Browser, reader: HubClient, link: Link) -> float:
    """The same with a server that is started for it, less what its start took."""
    reader.stop(timeout_s=120)
    took_s = _click(browser, link, "new")
    phases: dict[str, float] = reader.spawn_account()["phases"]
    if not {"accepted", "routed"} <= set(phases):
        raise ScenarioFailed("the hub has no stamps of the spawn", seen=str(phases))
    return took_s - (phases["routed"] - phases["accepted"])


def _said(name: str, spans: list[float], say: Say) -> dict[str, float]:
    middle = statistics.median(spans)
    say(f"{name}: median {middle:.2f} s, at most {max(spans):.2f} s (n = {len(spans)})")
    return {
        f"{name}_p50_s": round(middle, 3),
        f"{name}_max_s": round(max(spans), 3),
        f"{name}_n": len(spans),
    }
