"""Load: people who log in, spawn, follow the progress, run a first cell and stop.

    locust --headless -f loadtests/spawn.py --users 5 --run-time 10m \\
        --site site.toml --backend htcondor --rounds 3 --records spawns.jsonl

Each phase of a spawn is a Locust request of type `spawn`, named `backend phase`, whose
response time counts from the click. Runs distributed too (`--master`, `--worker`): the
records of all workers arrive at the master. Ends when everybody has done their rounds, at
the latest after --run-time. `testbed bench spawn` runs this and judges the records.

People log in once each, the way the site asks for; all of them before the first spawn, but
for a distributed run, where each worker's do as they come.
"""

import itertools
from pathlib import Path
from typing import Any

import gevent
import gevent.pool
from locust import User, events, task
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

from testbed import settings
from testbed.errors import ExplainedError
from testbed.hub_client import HubClient
from testbed.logins import Logins
from testbed.results import OWN_PHASES, SpawnRecord
from testbed.round_trip import RoundTrip
from testbed.site import Person, load_site

_numbers = itertools.count()
# The log-ins are not what is measured, and must not wear the machine out.
_LOGINS_AT_ONCE = 4


class Records:
    """The spawns of this process; a worker's travel to the master with its reports."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unsent: list[str] = []

    def add(self, record: SpawnRecord, environment: Environment) -> None:
        line = record.model_dump_json()
        if isinstance(environment.runner, WorkerRunner):
            self._unsent.append(line)
        else:
            self._append([line])

    def take(self) -> list[str]:
        unsent, self._unsent = self._unsent, []
        return unsent

    def receive(self, lines: list[str]) -> None:
        self._append(lines)

    def _append(self, lines: list[str]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)


@events.init_command_line_parser.add_listener
def _options(parser: Any) -> None:
    # Plain types: a master sends them to its workers.
    parser.add_argument("--site", required=True, help="site file")
    parser.add_argument("--backend", required=True, help="backend to spawn on")
    parser.add_argument("--rounds", type=int, default=1, help="spawns a user")
    parser.add_argument(
        "--spawn-timeout", type=float, default=120.0, help="seconds a spawn may take"
    )
    parser.add_argument("--records", required=True, help="file that gets one spawn a line")


@events.init.add_listener
def _prepare(environment: Environment, **_: Any) -> None:
    options = environment.parsed_options
    site = load_site(Path(options.site))
    site.backend(options.backend)
    environment.af_site = site
    environment.af_records = Records(Path(options.records))
    environment.af_logins = Logins(site, settings.load().environ)
    if isinstance(environment.runner, MasterRunner):
        events.worker_report.add_listener(
            lambda data, **_: environment.af_records.receive(data.pop("af_spawns", []))
        )
    elif isinstance(environment.runner, WorkerRunner):
        events.report_to_master.add_listener(
            lambda data, **_: data.update(af_spawns=environment.af_records.take())
        )


@events.test_start.add_listener
def _log_in(environment: Environment, **_: Any) -> None:
    """Have everybody of this run logged in before anybody's clock starts."""
    if isinstance(environment.runner, MasterRunner | WorkerRunner):
        return
    options = environment.parsed_options
    people = environment.af_site.people("student", "person")[: options.num_users]
    pool = gevent.pool.Pool(_LOGINS_AT_ONCE)
    for person in people:
        pool.spawn(_known, environment, person)
    pool.join()


def _known(environment: Environment, person: Person) -> None:
    try:
        environment.af_logins.client(person.name, environment.parsed_options.backend)
    except ExplainedError:
        return  # asked again, and reported, when that person's turn comes


@events.quitting.add_listener
def _close(environment: Environment, **_: Any) -> None:
    environment.af_logins.close()


class SpawningPerson(User):
    """Spawns `--rounds` times, one after the other, and is done."""

    def on_start(self) -> None:
        self.client: HubClient | None = None
        options = self.environment.parsed_options
        site = self.environment.af_site
        number = next(_numbers)
        person = _choose(site.people("student", "person"), number)
        # More users than people, or another worker with the same people: named servers.
        lap = number // len(site.people("student", "person"))
        worker = getattr(self.environment.runner, "worker_index", 0)
        try:
            known = self.environment.af_logins.client(person.name, options.backend)
        except ExplainedError as error:
            self._fire("login", 0.0, error)
            self._leave()
        # Connections of one's own: on a second lap the same person is two users.
        self.client = known.again()
        self.trip = RoundTrip(
            self.client,
            hub=site.hub_for(options.backend).name,
            backend=options.backend,
            options=site.backend(options.backend).options,
            server=f"load-{worker}-{lap}" if worker or lap else "",
            timeout_s=options.spawn_timeout,
        )
        self.round = 0

    @task
    def once(self) -> None:
        """One round from click to gone, each phase as a Locust event."""
        record = self.trip.run(self.round)
        self.environment.af_records.add(record, self.environment)
        error = None if record.outcome == "ready" else ExplainedError(record.reason)
        reached = [phase for phase in OWN_PHASES[1:] if phase in record.own_unix_s]
        for phase in reached:
            span = record.since_click(phase) or 0.0
            self._fire(f"{record.backend} {phase}", span, None)
        if error:
            self._fire(f"{record.backend} spawn", 0.0, error)
        self.round += 1
        if self.round >= self.environment.parsed_options.rounds:
            self._leave()

    def on_stop(self) -> None:
        if self.client:
            self.client.close()

    def _fire(self, name: str, span_s: float, error: Exception | None) -> None:
        self.environment.events.request.fire(
            request_type="spawn",
            name=name,
            response_time=span_s * 1000,
            response_length=0,
            exception=error,
            context={},
        )

    def _leave(self) -> None:
        """Be done; who is last ends the run."""
        runner = self.environment.runner
        if runner.user_count <= 1 and not isinstance(runner, WorkerRunner):
            gevent.spawn(runner.quit)
        raise StopUser


def _choose(people: tuple[Person, ...], number: int) -> Person:
    return people[number % len(people)]
