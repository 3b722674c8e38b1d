"""How many scheduler queries idle servers cost: with many as with one, if the hub asks in bulk."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from testbed.errors import ScenarioFailed
from testbed.hub_client import HubClient
from testbed.hub_metrics import QUERIES, HubMetrics
from testbed.logins import Logins
from testbed.site import Site


def idle_queries_ratio(
    site: Site,
    logins: Logins,
    *,
    backend: str,
    many: int = 20,
    window_s: float = 150.0,
    say: Callable[[str], None] = lambda _line: None,
) -> dict[str, float]:
    """Measure a hub's scheduler queries with one idle server and then with `many`.

    Where a hub has several instances each asks for itself, and people are spread over them:
    counts are those of one instance, the mean of all that have a server of ours.

    Args:
        site: With that many people to spawn for, and an observer.
        backend: Whose queries are counted.
        window_s: How long each count takes; a calm hub asks every 30 s.
        say: Gets a line of progress now and then.

    Returns:
        `idle_queries_20_vs_1_ratio` (named by `many`) and both counts a minute.

    Raises:
        ScenarioFailed: The hub does not export its count, or a spawn failed.
    """
    people = [person.name for person in site.people("student", "person")][:many]
    if len(people) < many:
        raise ScenarioFailed(f"{many} people are needed", seen=f"{site.name} has {len(people)}")
    options = {"backend": backend, **site.backend(backend).options}
    clients = [logins.client(name, backend) for name in people]
    observers = logins.observers()
    HubMetrics.read(*observers).require(QUERIES)
    started: list[HubClient] = []
    try:
        say("one idle server")
        _spawn_all(clients[:1], options, started)
        one = _count(_of(observers, started), backend, window_s)
        say(f"{many} idle servers")
        _spawn_all(clients[1:], options, started)
        all_of_them = _count(_of(observers, started), backend, window_s)
    finally:
        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(lambda client: client.stop(timeout_s=120), started))
    return {
        f"idle_queries_{many}_vs_1_ratio": round(all_of_them / one, 3) if one else float(many),
        "idle_queries_1_per_min": round(one, 2),
        f"idle_queries_{many}_per_min": round(all_of_them, 2),
    }


def _spawn_all(
    clients: Sequence[HubClient], options: dict[str, str | int], started: list[HubClient]
) -> None:
    def spawn(client: HubClient) -> None:
        started.append(client)
        client.spawn(options, timeout_s=300)

    # A few at a time: the load of starting is not what is measured.
    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(spawn, clients))


def _of(observers: Sequence[HubClient], clients: Sequence[HubClient]) -> list[HubClient]:
    """The observers of the instances that these people are at."""
    instances = {client.instance for client in clients}
    found = [observer for observer in observers if observer.instance in instances]
    return found or list(observers)


def _count(observers: Sequence[HubClient], backend: str, window_s: float) -> float:
    """One instance's queries a minute over the window, once the spawn's quicker asking passed."""
    pause = threading.Event()
    pause.wait(5.0)
    before, begin = HubMetrics.read(*observers), time.monotonic()
    pause.wait(window_s)
    after, end = HubMetrics.read(*observers), time.monotonic()
    asked = after.total(QUERIES, scheduler=backend) - before.total(QUERIES, scheduler=backend)
    return asked * 60 / (end - begin) / len(observers)
