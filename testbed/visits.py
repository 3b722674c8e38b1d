"""One visit of one person to a hub, as their behaviour has it, measured from the way in."""

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import requests

from testbed import entry
from testbed.errors import ExplainedError, ScenarioFailed
from testbed.hub_client import (
    REQUEST_TIMEOUT_S,
    HubClient,
    HubRefused,
    HubUnreachable,
    Spawn,
    brief,
)
from testbed.kernels import Kernel
from testbed.load_plan import Behaviour
from testbed.logins import Logins
from testbed.open_visits import Note, OpenVisits, stop_for_sure
from testbed.results import SpawnRecord, stamp
from testbed.round_trip import Round, RoundTrip
from testbed.site import Hub, Site

Stay = Callable[[], None]

# The log-ins before the clock are not what is measured, and must not wear the machine out.
_LOGINS_AT_ONCE = 4
# The default one: many hubs have no named servers, and those that do keep their names.
_SERVER = ""


@dataclass(frozen=True)
class Surroundings:
    """What all visits of one process share.

    `cells` are the sources of a notebook's code cells, for people who compute.
    """

    site: Site
    hub: Hub
    backend: str
    logins: Logins
    notes: OpenVisits
    environ: Mapping[str, str]
    timeout_s: float
    cells: Sequence[str] = ()


class WayIn:
    """How people of one process get in; sessions and tokens from before are kept here."""

    def __init__(self, around: Surroundings) -> None:
        self.around = around
        self._turn = threading.Semaphore(_LOGINS_AT_ONCE)

    def prepare(self, name: str, behaviour: Behaviour) -> None:
        """What is done before the clock starts: an earlier login, or waiting for a fresh code.

        Raises:
            ExplainedError: They cannot get in.
        """
        around = self.around
        if behaviour.enters == "login":
            entry.used_codes(around.site).wait_until_fresh(name)
            return
        with self._turn:
            around.logins.client(name, hub=around.hub)

    def known(self, name: str) -> HubClient:
        """The client of somebody who is prepared; connections of its own."""
        return self.around.logins.client(name, hub=self.around.hub).again()

    def log_in(self, name: str, stamps: dict[str, float]) -> tuple[HubClient, requests.Session]:
        """The whole login in a new session."""
        around = self.around
        stamp(stamps, "login_asked")
        person = around.site.person(name)
        browser = entry.enter(around.site, around.hub, person, around.environ)
        stamp(stamps, "logged_in")
        return entry.client(around.site, around.hub, person, browser), browser

    def see_page(self, name: str, stamps: dict[str, float]) -> None:
        """The hub's home in the session from before; only who is known there sees it."""
        around = self.around
        browser = around.logins.browser(name)
        url = f"{around.site.entry_url(around.hub)}/hub/home"
        stamp(stamps, "page_asked")
        try:
            page = browser.get(url, timeout=REQUEST_TIMEOUT_S)
        except requests.RequestException as error:
            raise HubUnreachable(f"no answer of {url}", seen=brief(error)) from error
        if page.status_code != 200 or not page.url.startswith(url):
            raise HubRefused("GET /hub/home", page.status_code, f"led to {page.url}")
        stamp(stamps, "page_shown")


class Visit:
    """One visit. `run` does it; `end` is for who leaves, and for who is cut short."""

    def __init__(self, way_in: WayIn, name: str, behaviour: Behaviour, number: int) -> None:
        self.name = name
        self.behaviour = behaviour
        self._around = way_in.around
        self._way_in = way_in
        self._number = number
        self._stamps: dict[str, float] = {}
        self._job_id = ""
        self._client: HubClient | None = None
        self._browser: requests.Session | None = None
        self._note: Note | None = None
        self._trip: RoundTrip | None = None
        self._round: Round | None = None

    @property
    def is_open(self) -> bool:
        """Whether a server of this visit may be there."""
        return self._note is not None

    def run(self, stay: Stay | None = None) -> SpawnRecord | None:
        """Come, work and, but for who leaves without, stop and log out.

        Args:
            stay: Waits for as long as the server shall be kept.

        Returns:
            The visit's record; None while a server of it may be there (left on purpose, or
            because it would not stop), or where a sweep tells of it.
        """
        around = self._around
        try:
            if self.behaviour.enters == "login":
                self._client, self._browser = self._way_in.log_in(self.name, self._stamps)
            else:
                self._client = self._way_in.known(self.name)
                if self.behaviour.enters == "page":
                    self._way_in.see_page(self.name, self._stamps)
            self._expect_no_server(self._client)
        except ExplainedError as error:
            self._go()
            return self.not_entered(error)
        self._trip = RoundTrip(
            self._client,
            hub=around.hub.name,
            backend=around.backend,
            options=around.site.backend(around.backend).options,
            server=_SERVER,
            timeout_s=around.timeout_s,
        )
        self._note = around.notes.note(self._client, _SERVER, self._cut_short())
        self._round = self._trip.begin(self._number, lambda _client, _server: self._work(stay))
        if self.behaviour.leaves and self._round.outcome == "ready":
            self._note = around.notes.update(
                self._note, self._whole(self._trip.record(self._round))
            )
            return None
        return self._end_round(self._trip, self._round)

    def end(self) -> SpawnRecord | None:
        """End what is open, whatever it was doing; None if nothing can be said to be ended."""
        if self._note is None or self._client is None:
            return None
        if self._trip and self._round and self._round.mine:
            return self._end_round(self._trip, self._round)
        try:
            asked, gone = stop_for_sure(self._client, _SERVER, timeout_s=self._around.timeout_s)
        except ScenarioFailed:
            return None  # its note stays: whoever sweeps tries again
        record = self._note.record
        stamps = {**record.own_unix_s, "stop_asked": asked, "gone": gone}
        return record.model_copy(update={"own_unix_s": stamps}) if self._close() else None

    def _expect_no_server(self, client: HubClient) -> None:
        """What runs already is the person's own: it is neither measured nor stopped."""
        if _SERVER in client.servers():
            raise HubRefused("a server", 409, f"{self.name} has one already, not of this load")

    def _work(self, stay: Stay | None) -> None:
        client, server = self._client, _SERVER
        assert client is not None  # noqa: S101 - there is none without
        with contextlib.suppress(HubRefused):  # a hub that is not our portal does not tell
            self._job_id = str(client.spawn_account(server).get("job_id") or "")
        if self.behaviour.computes:
            with Kernel.start(client, server) as kernel:
                for cell in self._around.cells:
                    kernel.run(cell, self._around.timeout_s)
            stamp(self._stamps, "computed")
        if stay:
            stay()

    def _end_round(self, trip: RoundTrip, begun: Round) -> SpawnRecord | None:
        record = self._whole(trip.end(begun))
        if begun.mine and self._note:
            # Not gone yet: it is tried again, and the record is whole only then.
            self._note = self._around.notes.update(self._note, record)
            return None
        return record if self._close() else None

    def _close(self) -> bool:
        """Take the note away; False where a sweep has done so already, and tells of it."""
        mine = self._note is not None and self._around.notes.done(self._note)
        self._note = None
        self._go()
        return mine

    def _go(self) -> None:
        """Log out and give the token back, where both were this visit's own."""
        with contextlib.suppress(ScenarioFailed):
            if self._client:
                if self._browser:
                    self._client.revoke()
                self._client.close()
            if self._browser:
                entry.leave(self._around.site, self._around.hub, self._browser)
                self._browser.close()

    def _whole(self, record: SpawnRecord) -> SpawnRecord:
        return record.model_copy(
            update={
                "behaviour": self.behaviour.name,
                "job_id": self._job_id,
                "own_unix_s": {**self._stamps, **record.own_unix_s},
            }
        )

    def _cut_short(self) -> SpawnRecord:
        return self._blank("cut_short", "the load ended in the midst of it")

    def not_entered(self, error: ExplainedError) -> SpawnRecord:
        """The record of a visit that ended before the hub was reached."""
        begun = Round(self._number, Spawn(self.name, _SERVER, {}))
        begun.went_wrong(error)
        blank = self._blank(begun.cause, begun.reason)
        return blank.model_copy(update={"outcome": begun.outcome})

    def _blank(self, cause: str, reason: str) -> SpawnRecord:
        return SpawnRecord(
            user=self.name,
            server=_SERVER,
            hub=self._around.hub.name,
            backend=self._around.backend,
            round=self._number,
            outcome="failed",
            reason=reason,
            cause=cause,
            behaviour=self.behaviour.name,
            own_unix_s=dict(self._stamps),
        )
