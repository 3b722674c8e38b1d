"""Many servers of a few people on one hub, begun in parts and ended together."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar
from urllib.parse import quote

import psutil

from testbed.errors import ExplainedError, ScenarioFailed
from testbed.hub_client import HubClient, Options, expect_ok
from testbed.results import SpawnRecord
from testbed.round_trip import Round, RoundTrip
from testbed.waiting import wait_until

T = TypeVar("T")

# No more is begun where the machine has less, so that it does not end what runs.
MEMORY_KEPT_MIB = 1024
_MIB = 2**20
_PREFIX = "scale-"


@dataclass
class _Server:
    name: str
    client: HubClient
    trip: RoundTrip
    begun: Round | None = None


@dataclass
class Crowd:
    """Named servers, spread over people and then over backends.

    Args:
        hub: its name, for the records.
        people: logged in there.
        options: of a server, by backend.
        at_once: spawns and stops under way at a time.
        timeout_s: longest wait for a server, and for its end.
    """

    hub: str
    people: Sequence[HubClient]
    options: Mapping[str, Options]
    at_once: int
    timeout_s: float
    short_of_memory: bool = False
    left_over: list[str] = field(default_factory=list)
    _servers: list[_Server] = field(default_factory=list)
    _ending: threading.Event = field(default_factory=threading.Event)

    @property
    def asked(self) -> int:
        """How many servers were asked for so far."""
        return len(self._servers)

    @property
    def records(self) -> list[SpawnRecord]:
        """What became of every spawn so far."""
        return [s.trip.record(s.begun) for s in self._servers if s.begun]

    @property
    def ready(self) -> set[tuple[str, str]]:
        """Person and name of each server that became ready."""
        return {
            (s.client.user, s.name) for s in self._servers if s.begun and s.begun.outcome == "ready"
        }

    def grow(self, to: int, step: int) -> list[SpawnRecord]:
        """Have `to` servers asked for in all; returns how the new ones went.

        Ends early, and says so in `short_of_memory`, where the machine has no room.
        """
        new = [self._server(number) for number in range(self.asked, to)]
        self._each(lambda server: self._begin(server, step), new)
        return [s.trip.record(s.begun) for s in new if s.begun]

    def _server(self, number: int) -> _Server:
        person = self.people[number % len(self.people)]
        backends = list(self.options)
        backend = backends[(number + number // len(self.people)) % len(backends)]
        name, client = f"{_PREFIX}{number:04d}", person.again()
        trip = RoundTrip(
            client, hub=self.hub, backend=backend, options=self.options[backend], server=name,
            timeout_s=self.timeout_s,
        )  # fmt: skip
        return _Server(name, client, trip)

    def _begin(self, server: _Server, step: int) -> None:
        if self._ending.is_set() or self.short_of_memory:
            return
        if psutil.virtual_memory().available < MEMORY_KEPT_MIB * _MIB:
            self.short_of_memory = True
            return
        self._servers.append(server)
        server.begun = server.trip.begin(step, first_cell=False)

    def end(self) -> None:
        """Stop every server, begun or half begun, and have the hub forget their names.

        What could not be stopped is told in `left_over`.
        """
        self._ending.set()
        self._each(self._end, self._servers)

    def _end(self, server: _Server) -> None:
        try:
            if server.begun and server.begun.outcome == "ready":
                server.trip.end(server.begun)
            # Whatever became of it, and of the word that it should end.
            patiently(partial(self._stop, server.client, server.name))
        except ExplainedError as error:
            self.left_over.append(f"{server.client.user}/{server.name}: {error}")
        finally:
            server.client.close()

    def sweep(self) -> int:
        """End what a run that was killed left of these people's; returns how many servers."""
        found = 0
        for person in self.people:
            for name in patiently(person.servers):
                if name.startswith(_PREFIX):
                    patiently(partial(self._stop, person, name))
                    found += 1
        return found

    def _stop(self, person: HubClient, name: str) -> None:
        person.stop(name, timeout_s=self.timeout_s)
        _forget(person, name)

    def _each(self, what: Callable[[_Server], None], servers: Sequence[_Server]) -> None:
        pool = ThreadPoolExecutor(max_workers=self.at_once)
        try:
            for _ in pool.map(what, servers):
                pass
        except BaseException:
            # Broken off: what waits is not begun, and what is under way ends when it is stopped.
            self._ending.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()


def _forget(client: HubClient, name: str) -> None:
    """Have the hub keep no record of a named server; it would count as one of the person's."""
    path = f"/hub/api/users/{quote(client.user)}/servers/{quote(name)}"
    answer = client.request("DELETE", path, json={"remove": True})
    if answer.status_code != 404:
        expect_ok(answer, f"DELETE {path}")


def patiently(ask: Callable[[], T]) -> T:
    """Ask a hub again that does not answer, or refuses, for a moment: what runs must be ended."""
    # In a tuple: an empty answer is one too.
    return wait_until(
        lambda: (ask(),), 60, what="the hub's answer", poll_s=2, retry_on=(ScenarioFailed,)
    )[0]
