"""Load by behaviours and shapes: people who come, spawn, work and go, each as their kind does.

    testbed bench load --behaviour newcomer --behaviour script --shape burst --people 6

runs this. A Locust user is somebody who may come; an account is claimed for each visit and
given back after it, so that nobody is in twice. In a distributed run the master holds the
accounts, and workers ask it; every record goes to the master at once.

Each phase of a spawn is a Locust request of type `spawn`, named `behaviour phase`, whose
response time counts from the click; what fails is a request named by its cause.
"""

import contextlib
import itertools
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import gevent.os
import nbformat
from locust import LoadTestShape, User, events, task
from locust.env import Environment
from locust.runners import STATE_MISSING, MasterRunner, WorkerRunner

from testbed import settings
from testbed.errors import ExplainedError
from testbed.load_plan import BEHAVIOURS, LoadPlan
from testbed.logins import Logins
from testbed.open_visits import OpenVisits
from testbed.people_pool import PeoplePool
from testbed.results import ENTRY_PHASES, OWN_PHASES, SpawnRecord
from testbed.site import load_site
from testbed.visits import Surroundings, Visit, WayIn

_numbers = itertools.count()
# A failed visit shall not be followed by another one at once, and not by many.
_AFTER_FAILURE_S = 5.0
_AFTER_LIMIT_S = 30.0
_MOST_FAILURES = 3
# How long everybody waits for the last one who logs in before a burst.
_TOGETHER_S = 180.0
_ANSWER_S = 30.0
_WORKERS_END_S = 40.0


@events.init_command_line_parser.add_listener
def _options(parser: Any) -> None:
    parser.add_argument("--site", required=True, help="site file")
    # Plain types: a master sends it to its workers.
    parser.add_argument("--plan", default="", help="the plan as JSON; a worker gets its master's")
    parser.add_argument("--names", default="", help="the accounts, with commas between")
    parser.add_argument("--notes", required=True, help="folder for notes of open visits")
    parser.add_argument("--records", required=True, help="file that gets one visit a line")
    parser.add_argument("--tally", required=True, help="file that gets the counts at the end")
    parser.add_argument("--notebook", required=True, help="what people who compute run")


class Desk:
    """Where accounts are claimed and records handed in; a worker's asks the master's."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        options = environment.parsed_options
        self._records = Path(options.records)
        self._tally = Path(options.tally)
        self.pool = PeoplePool([name for name in options.names.split(",") if name])
        self.ending = False
        self._prepared = 0
        self._together = gevent.event.Event()
        self._answers: dict[str, gevent.event.AsyncResult] = {}
        runner = environment.runner
        if isinstance(runner, MasterRunner):
            runner.register_message("af_claim", self._claim_of_worker)
            runner.register_message("af_release", lambda msg, **_: self.release(msg.data))
            runner.register_message("af_prepared", lambda **_: self.prepared())
            runner.register_message("af_record", lambda msg, **_: self._keep(msg.data))
            runner.register_message("af_finish", lambda **_: self.pool.finish())
        elif isinstance(runner, WorkerRunner):
            runner.register_message("af_person", self._person)
            runner.register_message("af_together", lambda **_: self._together.set())

    @property
    def _is_worker(self) -> bool:
        return isinstance(self.environment.runner, WorkerRunner)

    @property
    def plan(self) -> LoadPlan:
        return LoadPlan.model_validate_json(self.environment.parsed_options.plan)

    def claim(self) -> str | None:
        """An account for a visit; None if none is free."""
        if not self._is_worker:
            return self.pool.claim("here")
        ticket = f"{self.environment.runner.client_id}-{next(_numbers)}"
        answer = self._answers[ticket] = gevent.event.AsyncResult()
        self.environment.runner.send_message("af_claim", ticket)
        try:
            return answer.get(timeout=_ANSWER_S)
        finally:
            del self._answers[ticket]

    def release(self, name: str) -> None:
        if self._is_worker:
            self.environment.runner.send_message("af_release", name)
        else:
            self.pool.release(name)

    def finish(self) -> None:
        """A visit is over, though its server may still run."""
        if self._is_worker:
            self.environment.runner.send_message("af_finish", None)
        else:
            self.pool.finish()

    def prepared(self) -> None:
        """Somebody of a burst stands at the door."""
        if self._is_worker:
            self.environment.runner.send_message("af_prepared", None)
            return
        self._prepared += 1
        if self._prepared >= self.plan.people:
            self._together.set()
            if isinstance(self.environment.runner, MasterRunner):
                self.environment.runner.send_message("af_together", None)

    def wait_for_all(self) -> None:
        self._together.wait(_TOGETHER_S)

    def hand_in(self, record: SpawnRecord) -> None:
        line = record.model_dump_json()
        self._keep(line)
        if self._is_worker:
            self.environment.runner.send_message("af_record", line)

    def write_off(self) -> None:
        """What a worker holds that was lost is not waited for: it cleans up by itself."""
        runner = self.environment.runner
        if isinstance(runner, MasterRunner):
            clients = runner.clients.values()
            self.pool.lose({client.id for client in clients if client.state != STATE_MISSING})

    def close(self) -> None:
        """Write down what is no record."""
        self._tally.write_text(
            json.dumps({"turned_away": self.pool.turned_away, "lost": self.pool.lost})
        )

    def _keep(self, line: str) -> None:
        with self._records.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def _claim_of_worker(self, msg: Any, **_: Any) -> None:
        name = self.pool.claim(msg.node_id)
        self.environment.runner.send_message(
            "af_person", {"ticket": msg.data, "name": name}, client_id=msg.node_id
        )

    def _person(self, msg: Any, **_: Any) -> None:
        if answer := self._answers.get(msg.data["ticket"]):
            answer.set(msg.data["name"])
        elif msg.data["name"]:
            self.release(msg.data["name"])  # who asked has gone


@events.init.add_listener
def _prepare(environment: Environment, **_: Any) -> None:
    options = environment.parsed_options
    environment.af_desk = Desk(environment)
    environment.af_site = load_site(Path(options.site))
    environment.af_notes = OpenVisits(Path(options.notes))
    environment.af_logins = Logins(environment.af_site, settings.load().environ)
    notebook = nbformat.read(options.notebook, as_version=4)
    environment.af_cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    environment.af_way_in = None
    environment.af_begin = None
    gevent.spawn(_end_with_the_starter, environment)


def _end_with_the_starter(environment: Environment) -> None:
    """End at once when who started this closes our standard input, or dies."""
    with contextlib.suppress(OSError):
        while gevent.os.tp_read(sys.stdin.fileno(), 1024):
            pass
    environment.stop_timeout = 0.0
    desk: Desk = environment.af_desk
    if isinstance(environment.runner, MasterRunner):
        # Workers end what they are in, and their records come, before they are sent away.
        desk.ending = True
        with gevent.Timeout(_WORKERS_END_S, False):
            while desk.pool.held:
                gevent.sleep(0.2)
    environment.runner.quit()


@events.test_start.add_listener
def _begin(environment: Environment, **_: Any) -> None:
    environment.af_begin = gevent.get_hub().loop.now()


@events.quitting.add_listener
def _close(environment: Environment, **_: Any) -> None:
    if environment.runner.user_count and not isinstance(environment.runner, MasterRunner):
        environment.stop_timeout = 0.0
        environment.runner.stop()
    swept = environment.af_notes.sweep()
    for record in swept.ended:
        environment.af_desk.hand_in(record)
    environment.af_logins.leave()
    environment.af_logins.close()
    if not isinstance(environment.runner, WorkerRunner):
        environment.af_desk.close()


def _way_in(environment: Environment) -> WayIn:
    """What visits need, made once: a worker learns its plan with the first user."""
    if environment.af_way_in is None:
        plan = environment.af_desk.plan
        site = environment.af_site
        around = Surroundings(
            site=site,
            hub=site.hub_for(plan.backend),
            backend=plan.backend,
            logins=environment.af_logins,
            notes=environment.af_notes,
            environ=settings.load().environ,
            timeout_s=plan.timeout_s,
            cells=environment.af_cells,
        )
        environment.af_way_in = WayIn(around)
    return environment.af_way_in


class Person(User):
    """Comes once, or again and again, as the shape has it, and does what the behaviour says."""

    abstract = True
    behaviour_name = ""

    def on_start(self) -> None:
        self.desk: Desk = self.environment.af_desk
        self.plan = self.desk.plan
        self.shape = self.plan.made()
        self.behaviour = BEHAVIOURS[self.behaviour_name]
        self.visit: Visit | None = None
        self.round = 0
        self.failures = 0
        self.rest_s = 0.0
        self.is_done = False

    def wait_time(self) -> float:
        if self.is_done:
            return 24 * 3600.0  # until it is stopped
        return max(self.plan.pause_s, self.rest_s)

    @task
    def come(self) -> None:
        """One visit."""
        if self.is_done:
            return
        name = self.desk.claim()
        if name is None:
            self.is_done = not self.shape.again
            return
        way_in = _way_in(self.environment)
        self.visit = Visit(way_in, name, self.behaviour, self.round)
        record = self._prepared(way_in, name)
        record = record or self.visit.run(self._stay())
        self.desk.finish()
        self.round += 1
        self.is_done = not self.shape.again or self.behaviour.leaves
        if record:
            self._hand_in(record)
        if self.visit and not self.visit.is_open:
            self.visit = None
            self.desk.release(name)
        else:
            self.is_done = True  # it is ended, and the account given back, at the end

    def on_stop(self) -> None:
        if self.visit is None:
            return
        ended = self.visit.end()
        if ended:
            self._hand_in(ended)
        if not self.visit.is_open:
            self.desk.release(self.visit.name)
        self.visit = None

    def _prepared(self, way_in: WayIn, name: str) -> SpawnRecord | None:
        """What comes before the clock; a record if that failed already."""
        try:
            way_in.prepare(name, self.behaviour)
        except ExplainedError as error:
            return self.visit.not_entered(error)
        finally:
            if self.shape.together and self.round == 0:
                self.desk.prepared()
        if self.shape.together and self.round == 0:
            self.desk.wait_for_all()
        return None

    def _stay(self) -> Callable[[], None] | None:
        until_s = self.shape.stay_until_s
        if until_s is None:
            return None
        begin = self.environment.af_begin

        def stay() -> None:
            left = begin + until_s - gevent.get_hub().loop.now()
            # Time itself is what is waited for: everybody leaves together.
            threading.Event().wait(max(0.0, left))

        return stay

    def _hand_in(self, record: SpawnRecord) -> None:
        self.desk.hand_in(record)
        entered = [phase for phase in ENTRY_PHASES[1::2] if phase in record.own_unix_s]
        for phase in entered:
            begin = ENTRY_PHASES[ENTRY_PHASES.index(phase) - 1]
            self._fire("entry", phase, record.span(begin, phase) or 0.0)
        for phase in OWN_PHASES[1:]:
            if (span := record.since_click(phase)) is not None:
                self._fire("spawn", phase, span)
        if record.outcome != "ready":
            self._fire("failed", record.cause or "other", 0.0, ExplainedError(record.reason))
        if record.outcome == "ready":
            self.failures, self.rest_s = 0, 0.0
        else:
            self.failures += 1
            limited = record.cause == "limit_reached"
            self.rest_s = _AFTER_LIMIT_S if limited else _AFTER_FAILURE_S
        if self.failures >= _MOST_FAILURES:
            self.is_done = True

    def _fire(self, kind: str, name: str, span_s: float, error: Exception | None = None) -> None:
        self.environment.events.request.fire(
            request_type=kind,
            name=f"{self.behaviour.name} {name}",
            response_time=span_s * 1000,
            response_length=0,
            exception=error,
            context={},
        )


class Newcomer(Person):
    """Logs in with password and code every time, and logs out at the end."""

    behaviour_name = "newcomer"


class Returning(Person):
    """Has a session from before and comes by the hub's page."""

    behaviour_name = "returning"


class Script(Person):
    """A program with a token."""

    behaviour_name = "script"


class Computing(Person):
    """Runs a notebook that computes."""

    behaviour_name = "computing"


class Leaver(Person):
    """Goes away and leaves the server running; it is stopped when the load is over."""

    behaviour_name = "leaver"


class Planned(LoadTestShape):
    """As many users as have arrived; at the end none, and then nothing."""

    abstract = False

    def tick(self) -> tuple[int, float] | None:
        desk: Desk = self.runner.environment.af_desk
        desk.write_off()
        plan, t_s = desk.plan, self.get_run_time()
        shape = plan.made()
        everybody = len(shape.arrivals_s)
        all_came = shape.arrived(t_s) == everybody and not shape.again
        done = all_came and desk.pool.finished + desk.pool.turned_away >= everybody
        if t_s < plan.seconds and not done and not desk.ending:
            return shape.arrived(t_s), float(everybody)
        # Whoever is in ends their visit, and what was left running is stopped.
        if not desk.pool.held or t_s > plan.seconds + plan.visit_s:
            return None
        return 0, float(everybody)
