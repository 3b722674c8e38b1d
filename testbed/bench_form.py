"""`testbed bench form`: what the form costs its hub, how often it foretells right, and when people
are warned of a limit."""

import re
import statistics
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from testbed import orphans, planted_pools, sessions
from testbed.bed import Bed
from testbed.errors import NotInTime, ScenarioFailed
from testbed.hub_client import HubClient, Options, Spawn
from testbed.logins import Logins
from testbed.planted_pools import Filler
from testbed.results import quantile
from testbed.session_events import SessionEvents
from testbed.site import Hub, Site
from testbed.waiting import wait_until

Say = Callable[[str], None]

ACCOUNTS, PARTITIONS = 200, 50
# What a hub tells of its pools may be as old as 30 s.
_NEXT_ANSWER_S = 120.0
# A job that starts 'now' has by then, on a machine that others use too.
_NOW_S = 20.0
_ASKER, _FILLER = "alice", "bob"
# A job that is warned of its end a minute after its begin, five before the end.
_WARNED_MIN, _MARK_MIN = 6, 5
# Both pools full, for who asks for this.
_FULL = (
    Filler("slurm", 16, 1, 64, partition="short"),
    Filler("htcondor", 60, 1, 512),
)
_WAITS: tuple[Options, ...] = (
    {"backend": "slurm", "class": "small", "partition": "short", "runtime_min": 8},
    {"backend": "htcondor", "class": "regular"},
)


def run(
    site: Site,
    logins: Logins,
    *,
    bed: Bed,
    rounds: int,
    cancels: int,
    states: int,
    seed: int,
    warnings: int,
    say: Say = lambda _line: None,
) -> dict[str, float]:
    """Measure, and return the figures of `bench form`.

    Args:
        rounds: How often the page is asked for, with 200 accounts and 50 partitions.
        cancels: How often a server that waits is cancelled, at each scheduler.
        states: How many states of the pools are planted.
        seed: Of the states.
        warnings: How often a server is watched until its owner is warned, at each scheduler.

    Raises:
        ScenarioFailed: The page was not shown, or a spawn failed for another reason than room.
        TestbedError: A scheduler could not be brought into a state.
    """
    hub = site.hub_for("htcondor", "slurm")
    figures: dict[str, float] = {}
    if rounds:
        say(f"planting {ACCOUNTS} accounts of {_ASKER} and {PARTITIONS} partitions")
        with planted_pools.large(bed, _ASKER, accounts=ACCOUNTS, partitions=PARTITIONS):
            figures |= _page(bed, site, logins, hub, rounds)
        say(f"form: p50 {figures['form_p50_ms']} ms, p95 {figures['form_p95_ms']} ms")
    if cancels:
        say("filling both pools, to cancel what waits")
        with planted_pools.filled(bed, _FULL, site.person(_FILLER)):
            figures |= _cancels(bed, logins.client(_ASKER, hub=hub), cancels)
        say(f"cancel while queued: median {figures['cancel_queued_s']} s until the job is gone")
    if warnings:
        say("servers of six minutes, to see when their owner is warned")
        figures |= _warnings(bed, site, logins, hub, warnings)
        say(f"warned {figures['warning_error_s']} s beside the mark at most")
    if states:
        figures |= _states(bed, site, logins, hub, states, seed, say)
    return figures


def _page(bed: Bed, site: Site, logins: Logins, hub: Hub, rounds: int) -> dict[str, float]:
    """Milliseconds that the hub itself logs for the page, one after the other."""
    client = logins.client(_ASKER, hub=hub)

    def seen() -> dict[str, Any] | None:
        (slurm,) = (b for b in client.get_json("/hub/api/af/offer")["backends"]
                    if b["name"] == "slurm")  # fmt: skip
        all_there = len(slurm["accounts"]) > ACCOUNTS and len(slurm["partitions"]) > PARTITIONS
        return slurm if all_there else None

    wait_until(seen, _NEXT_ANSWER_S, what="the form has all accounts and partitions", poll_s=2)
    browser = logins.browser(_ASKER)
    url = f"{site.entry_url(hub)}/hub/spawn/{_ASKER}"
    service = f"hub-{client.instance}"
    logged = re.compile(rf" 200 GET \S+/hub/spawn/{_ASKER} .*?([0-9.]+)ms$", re.MULTILINE)
    before = len(logged.findall(bed.logs(service)))
    for _ in range(rounds):
        answer = browser.get(url, timeout=60)
        if answer.status_code != 200 or "planted007" not in answer.text:
            raise ScenarioFailed(f"{url} does not show the form", seen=answer.text[:500])
    size_kib = len(answer.content) / 1024

    def times() -> list[float] | None:
        found = [float(ms) for ms in logged.findall(bed.logs(service))[before:]]
        return found if len(found) >= rounds else None

    spans = wait_until(times, 30, what="the hub's log has every page", poll_s=1)
    return {
        "form_p50_ms": round(statistics.median(spans), 2),
        "form_p95_ms": round(quantile(spans, 0.95) or 0.0, 2),
        "form_max_ms": round(max(spans), 2),
        "form_kib": round(size_kib, 1),
        "form_pages": len(spans),
    }


def _cancels(bed: Bed, client: HubClient, rounds: int) -> dict[str, float]:
    """Seconds from the cancel of a waiting server, as the page asks for it, to its job's end."""
    spans = []
    for number in range(2 * rounds):
        asked = Spawn(client.user, "", _WAITS[number % 2])
        events = client.follow(asked, timeout_s=60)
        if not any(event.phase == "submitted" for event in events):
            raise ScenarioFailed(f"{asked.options} was not submitted")
        job_id = client.spawn_account()["job_id"]
        begun_s = time.monotonic()
        client.stop()
        wait_until(
            lambda job_id=job_id: job_id not in {job.job_id for job in orphans.jobs(bed)},  # type: ignore[misc]
            60, what=f"job {job_id} is gone", poll_s=0.02,
        )  # fmt: skip
        spans.append(time.monotonic() - begun_s)
    return {
        "cancel_queued_s": round(statistics.median(spans), 2),
        "cancel_queued_max_s": round(max(spans), 2),
        "cancels": len(spans),
    }


def _warnings(bed: Bed, site: Site, logins: Logins, hub: Hub, rounds: int) -> dict[str, float]:
    """Seconds between five minutes before a server's end and the moment that its page is told.

    The end is the job's, by its scheduler.
    """
    errors = []
    for number in range(2 * rounds):
        backend = ("htcondor", "slurm")[number % 2]
        client = logins.client(_ASKER, hub=hub)
        client.spawn(
            {"backend": backend, **site.backend(backend).options, "runtime_min": _WARNED_MIN}
        )
        try:
            with SessionEvents(client) as events:
                told = events.until(
                    lambda told: (w := told.warning("time")) and w["id"].endswith(f" {_MARK_MIN}"),
                    f"{_MARK_MIN} minutes before the end",
                    60 * (_WARNED_MIN - _MARK_MIN) + 60,
                )
            (job,) = (j for j in orphans.jobs(bed) if j.server == f"{_ASKER}/")
            mark_s = sessions.ends_s(bed, job) - 60 * _MARK_MIN
        finally:
            client.stop(timeout_s=60)
        errors.append(abs(told.at_s - mark_s))
    return {
        "warning_error_s": round(max(errors), 2),
        "warning_error_p50_s": round(statistics.median(errors), 2),
        "warnings": len(errors),
    }


def _states(
    bed: Bed, site: Site, logins: Logins, hub: Hub, states: int, seed: int, say: Say
) -> dict[str, float]:
    """Compare what would start now with what then starts, in one planted state after the other.

    In each the choice of the button 'Start what would start now', or the first one where there is
    none; and one of the others.
    """
    random = Random(seed)  # noqa: S311 - nothing secret
    client = logins.client(_ASKER, hub=hub)
    filler = site.person(_FILLER)
    right = {"chosen": 0, "all": 0}
    asked = {"chosen": 0, "all": 0}
    for number in range(1, states + 1):
        fillers = planted_pools.drawn(random)
        with planted_pools.filled(bed, fillers, filler):
            foretold = _foretold(client, time.time())
            first = next((choice for choice, now in foretold.items() if now), next(iter(foretold)))
            others = [choice for choice in foretold if choice != first]
            for choice in (first, random.choice(others)):
                if choice != first:
                    foretold = _foretold(client, time.time())
                now = foretold[choice]
                starts = _starts(client, choice)
                asked["all"] += 1
                right["all"] += starts == now
                if choice == first:
                    asked["chosen"] += 1
                    right["chosen"] += starts == now
                if starts != now:
                    say(f"state {number}: {choice} foretold {'now' if now else 'later'}, "
                        f"{'started' if starts else 'waited'}; {_words(fillers)}")  # fmt: skip
        say(f"state {number} of {states}: {right['chosen']} of {asked['chosen']} right, "
            f"{right['all']} of {asked['all']} over all choices")  # fmt: skip
    return {
        "would_start_right_ratio": round(right["chosen"] / asked["chosen"], 3),
        "forecasts_right_ratio": round(right["all"] / asked["all"], 3),
        "states": states,
        "forecasts": asked["all"],
    }


def _words(fillers: Sequence[planted_pools.Filler]) -> str:
    return "; ".join(map(str, fillers)) or "empty pools"


def _foretold(client: HubClient, since_s: float) -> dict[str, bool]:
    """Choice → whether it would start now, of each batch class, by answers after that time."""

    def fresh() -> list[dict[str, Any]] | None:
        found = [
            b for b in client.get_json("/hub/api/af/offer")["backends"] if b["name"] != "local"
        ]
        return found if all((b["asked_at"] or 0) > since_s for b in found) else None

    backends = wait_until(fresh, _NEXT_ANSWER_S, what="forecasts of the planted state", poll_s=2)
    return {
        f"{backend['name']}/{class_['name']}": class_["forecast"]["standing"] == "now"
        for backend in backends
        for class_ in backend["classes"]
    }


def _starts(client: HubClient, choice: str) -> bool:
    """Whether a job of this choice begins to run at once; it is ended either way."""
    backend, _, class_ = choice.partition("/")
    asked = Spawn(client.user, "", {"backend": backend, "class": class_})
    try:
        events = client.follow(asked, timeout_s=_NOW_S)
        return any(event.phase in ("executing", "hello", "routed") for event in events)
    except NotInTime:
        return False
    finally:
        client.stop(timeout_s=60)
