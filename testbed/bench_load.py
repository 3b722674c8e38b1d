"""`testbed bench load`: people by behaviour and shape, every visit on record, nothing left over."""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from pydantic import ValidationError

from testbed import causes, orphans, settings
from testbed.bed import Bed
from testbed.bench_spawn import breaches, compare_clocks
from testbed.errors import ScenarioFailed, TestbedError
from testbed.hub_metrics import SPAWN_DURATION, HubMetrics, Spread
from testbed.job_watch import JobWatch
from testbed.load_plan import LoadPlan
from testbed.logins import Logins
from testbed.open_visits import OpenVisits
from testbed.results import Results, Run, SpawnRecord, latency_figures, quantile, spans
from testbed.site import Site
from testbed.smoke import Verdict, facility_versions

NOTES = "open-visits"
# How far our clock and the hub's metric may be apart in the mean, whichever is more.
_CLOCK_RATIO, _CLOCK_S = 0.10, 0.05
_LOOK_S = 0.5
_JOBS_GONE_S = 60.0
_LOCUST_ENDS_S = 90.0
_LOCUST_SAW_FAILURES = 1
# Enough to tell visits' causes apart; the records have all.
_MOST_REASONS = 20

Say = Callable[[str], None]


@dataclass(frozen=True)
class Part:
    """The part of this process in a distributed run; by default there is none.

    `workers` makes it the master of so many, `master` a worker of that host.
    """

    workers: int = 0
    master: str = ""
    host: str = "127.0.0.1"
    port: int = 5557


@dataclass(frozen=True)
class Page:
    """Locust's own page, on the loopback."""

    port: int = 8089


def run(
    site: Site,
    site_file: Path,
    plan: LoadPlan,
    *,
    environ: Mapping[str, str],
    folder: Path,
    loadtests_folder: Path,
    bed: Bed | None = None,
    part: Part = Part(),
    page: Page | None = None,
    say: Say = lambda line: print(line, file=sys.stderr),
) -> Verdict:
    """Let people come as a plan has it, and judge what became of them.

    Whatever happens, every server that was begun is stopped before this returns, or named.

    Args:
        site: Where, read from `site_file`.
        environ: Handed to Locust, whose people read their secrets.
        folder: The run's report folder; gets `results.json` and Locust's log.
        loadtests_folder: Where `load.py`, `compute.ipynb` and `thresholds.toml` are.
        bed: The testbed behind the site, where there is one: its queues and records are asked.
        part: For a distributed run. A worker hands its records to its master.
        page: Show Locust's page meanwhile.

    Raises:
        TestbedError: Locust itself broke.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shape = plan.made()
    measured = Run("bench load", site.name, _settings(plan, part))
    failures = _sweep_dead_runs(site.folder / NOTES, say)
    watch = JobWatch(lambda: orphans.jobs(bed) if bed else ())
    with Logins(site, environ) as logins:
        observed = bool(site.people("observer")) and not part.master
        before = _hub_clock(logins, failures) if observed else None
        load = _Load(site, site_file, plan, folder, loadtests_folder, environ, part, page, say)
        failures += load.run(watch)
        after = _hub_clock(logins, failures) if before else None
        records = watch.records
        figures = summary(records)
        figures |= {"turned_away": load.turned_away, "left_behind": load.left_behind}
        if before and after:
            clock = compare_clocks(_as_the_hub_counts(records), after - before)
            figures |= clock
            failures += clock_failures(clock)
        failures += _reasons(records)
        if not part.master:
            planned = plan.people if shape.again else len(shape.arrivals_s) - load.turned_away
            told = tomllib.loads((loadtests_folder / "thresholds.toml").read_text("utf-8"))
            limits = {**told.get("load", {}), "failed": told.get("failed", 0.0)}
            failures += breaches(records, [plan.backend], limits, planned=planned)
        if watch.waiting:
            failures.append(f"still queued {_JOBS_GONE_S:g} s after their servers: {watch}")
        # Kept before the queues are asked: a testbed that broke by now must not take them along.
        versions = _versions(logins, bed)
        measured.results(records, figures, versions, failures).write(folder)
        if bed is not None and observed:
            try:
                orphans.expect_none(bed, logins.observers(), timeout_s=15)
            except ScenarioFailed as error:
                failures.append(str(error))
            figures["orphans"] = orphans.find(bed, logins.observers()).count
    results: Results = measured.results(records, figures, versions, failures)
    results.write(folder)
    return Verdict(results, failures)


def summary(records: Sequence[SpawnRecord]) -> dict[str, float]:
    """Counts, failures by cause, and medians; a figure without a value is left out."""
    figures: dict[str, float] = {
        "visits": len(records),
        "people": len({record.user for record in records}),
        "failed": sum(record.outcome != "ready" for record in records),
    }
    figures |= causes.counted(records)
    backends = sorted({record.backend for record in records})
    figures |= latency_figures(records, backends)
    for backend in backends:
        ready = spans(records, backend, "ready")
        for name, q in (("p95", 0.95), ("p99", 0.99), ("max", 1.0)):
            if (value := quantile(ready, q)) is not None:
                figures[f"{backend}_ready_{name}_s"] = round(value, 4)
    for name, begin, end in (
        ("login", "login_asked", "logged_in"),
        ("page", "page_asked", "page_shown"),
        ("computed", "first_cell", "computed"),
        ("stopped", "stop_asked", "gone"),
        ("job_gone", "stop_asked", "job_gone"),
    ):
        found = [span for record in records if (span := record.span(begin, end)) is not None]
        if (value := quantile(found, 0.5)) is not None:
            figures[f"{name}_p50_s"] = round(value, 4)
    return figures


def clock_failures(clock: Mapping[str, float]) -> list[str]:
    """What is wrong with our clock by the hub's own metric, from `compare_clocks`' figures."""
    own, hub = clock["clock_own_count"], clock["clock_hub_metric_count"]
    if not own:
        return []  # a hub that does not tell when it accepted, or no server at all
    if own != hub:
        return [f"our clock has {own:g} spawns, the hub's own metric {hub:g}"]
    ours, theirs = clock["clock_own_mean_s"], clock["clock_hub_metric_mean_s"]
    allowed = max(_CLOCK_RATIO * theirs, _CLOCK_S)
    if abs(ours - theirs) > allowed:
        return [
            f"our clock has {ours:.3f} s in the mean, the hub's own metric {theirs:.3f} s for the "
            f"same {own:g} spawns; {allowed:.3f} s apart is the limit"
        ]
    return []


def read_records(text: str) -> tuple[list[SpawnRecord], int]:
    """Records a line each, and how many lines are none: cut off, or of another version."""
    found, broken = [], 0
    for line in text.splitlines():
        try:
            found.append(SpawnRecord.model_validate_json(line))
        except ValidationError:
            broken += 1
    return found, broken


class _Load:
    """One run of Locust: in a process of its own, since it changes the library's sockets."""

    def __init__(
        self,
        site: Site,
        site_file: Path,
        plan: LoadPlan,
        folder: Path,
        loadtests_folder: Path,
        environ: Mapping[str, str],
        part: Part,
        page: Page | None,
        say: Say,
    ) -> None:
        self._site, self._site_file, self._plan = site, site_file, plan
        self._loadtests, self._environ = loadtests_folder, environ
        self._part, self._page, self._say = part, page, say
        self._log = folder / ("locust-worker.log" if part.master else "locust.log")
        self._name = f"{os.getpid()}-{secrets.token_hex(3)}"
        self._read = 0
        self.turned_away = 0
        self.left_behind = 0

    def run(self, watch: JobWatch) -> list[str]:
        """Run it to its end and clean up; what was not as promised, a line each."""
        failures: list[str] = []
        place = self._site.folder / NOTES
        with OpenVisits.of_a_run(place, self._name) as (notes, lock):
            records = notes.folder / "records.jsonl"
            tally = notes.folder / "tally"
            with _ends_asked() as ended:
                process = self._start(notes.folder, lock)
                try:
                    code = self._follow(process, records, watch, ended)
                finally:
                    _end(process)
                    swept = notes.sweep(timeout_s=self._plan.timeout_s)
            if ended.by:
                failures.append(f"ended by {ended.by} before the load was over")
            elif code not in (0, _LOCUST_SAW_FAILURES):
                log_end = "\n".join(self._log.read_text("utf-8").splitlines()[-15:])
                raise TestbedError(f"Locust ended with {code}", seen=log_end, cure=self._log_hint)
            failures += self._take(records, watch, last=True)
            for record in (*swept.ended, *swept.left):
                watch.add(record)
            failures += swept.why
            self.left_behind = len(swept.left)
            if tally.is_file():
                counts = json.loads(tally.read_text("utf-8"))
                self.turned_away = counts["turned_away"]
            for left_over in (records, tally):
                left_over.unlink(missing_ok=True)
        self._wait_for_jobs(watch)
        if not watch.records and not failures:
            raise TestbedError("Locust recorded no visit", cure=self._log_hint)
        return failures

    @property
    def _log_hint(self) -> str:
        return f"see {self._log}"

    def _start(self, folder: Path, lock: int) -> "subprocess.Popen[bytes]":
        plan, part = self._plan, self._part
        argv = [
            sys.executable, "-m", "locust", "--only-summary",
            "-f", str(self._loadtests / "load.py"),
            "--site", str(self._site_file), "--notes", str(folder),
            "--records", str(folder / "records.jsonl"), "--tally", str(folder / "tally"),
            "--notebook", str(self._loadtests / "compute.ipynb"),
        ]  # fmt: skip
        if part.master:
            argv += ["--worker", "--master-host", part.master, "--master-port", str(part.port)]
        else:
            names = ",".join(person.name for person in plan.accounts(self._site))
            argv += ["--plan", plan.model_dump_json(), "--names", names]
            argv += ["--stop-timeout", f"{plan.visit_s:g}"]
            argv += ["--web-host", "127.0.0.1", "--web-port", str(self._page.port), "--autostart",
                     "--autoquit", "3"] if self._page else ["--headless"]  # fmt: skip
            argv += [name.title() for name in plan.behaviours]
        if part.workers:
            argv += ["--master", "--master-bind-host", part.host, "--master-bind-port",
                     str(part.port), "--expect-workers", str(part.workers),
                     "--expect-workers-max-wait", "120"]  # fmt: skip
        with self._log.open("w", encoding="utf-8") as out:
            # A session of its own: Ctrl-C is for us, who then end it in order.
            return subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(self._environ),
                start_new_session=True,
                pass_fds=[lock],
            )

    def _follow(
        self,
        process: "subprocess.Popen[bytes]",
        records: Path,
        watch: JobWatch,
        ended: "_Ended",
    ) -> int | None:
        """Wait for Locust's end, reading its records meanwhile and asking for their jobs."""
        plan = self._plan
        workers_come_s = 180 if self._part.workers or self._part.master else 0
        deadline = time.monotonic() + plan.seconds + plan.visit_s + _LOCUST_ENDS_S + workers_come_s
        said = 0
        while process.poll() is None and not ended.by:
            if time.monotonic() > deadline and not self._part.master:
                raise TestbedError("Locust did not end in time", cure=self._log_hint)
            self._take(records, watch)
            watch.look()
            if len(watch.records) != said:
                said = len(watch.records)
                failed = sum(record.outcome != "ready" for record in watch.records)
                self._say(f"{said} visits" + (f", {failed} failed" if failed else ""))
            ended.wait(_LOOK_S)
        return process.returncode

    def _take(self, records: Path, watch: JobWatch, *, last: bool = False) -> list[str]:
        """Read what was written since the last time; the last time also what was cut off."""
        text = records.read_text("utf-8")[self._read :] if records.is_file() else ""
        if not last:
            text = text[: text.rfind("\n") + 1]
        self._read += len(text)
        found, broken = read_records(text)
        for record in found:
            watch.add(record)
        return [f"{broken} records could not be read"] if broken else []

    def _wait_for_jobs(self, watch: JobWatch) -> None:
        deadline = time.monotonic() + _JOBS_GONE_S
        pause = threading.Event()
        watch.look()
        while watch.waiting and time.monotonic() < deadline:
            pause.wait(_LOOK_S)
            watch.look()


@dataclass
class _Ended:
    """Whether somebody asked us to end, and by what."""

    by: str = ""

    def __post_init__(self) -> None:
        self._asked = threading.Event()

    def ask(self, number: int, _frame: FrameType | None) -> None:
        self.by = self.by or signal.Signals(number).name
        self._asked.set()

    def wait(self, timeout_s: float) -> None:
        """Wait so long, or until asked."""
        self._asked.wait(timeout_s)


@contextlib.contextmanager
def _ends_asked() -> Iterator[_Ended]:
    """Take SIGINT, SIGTERM and SIGHUP as a wish to end; a second one cannot stop the cleaning."""
    ended = _Ended()
    if threading.current_thread() is not threading.main_thread():
        yield ended
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, ended.ask) for number in numbers}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End Locust: by closing its input, which it takes as a wish, and by force if need be."""
    if process.stdin:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    try:
        process.wait(_LOCUST_ENDS_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _sweep_dead_runs(place: Path, say: Say) -> list[str]:
    """Stop what dead runs left; what cannot be stopped, a line each."""
    lines = []
    for notes in OpenVisits.of_dead_runs(place):
        left = notes.left()
        if left:
            say(f"a load that died left {len(left)} servers: stopping them")
        swept = notes.sweep()
        lines += [f"from a load that died: {line}" for line in swept.why]
        if not swept.left:
            notes.remove()
    return lines


def _as_the_hub_counts(records: Sequence[SpawnRecord]) -> list[SpawnRecord]:
    """Records whose server answered count as ready, as they do for the hub: no kernel is in it."""
    return [
        record.model_copy(update={"outcome": "ready"})
        for record in records
        if "http" in record.own_unix_s
    ]


def _reasons(records: Sequence[SpawnRecord]) -> list[str]:
    """A line for each failed visit, the first ones."""
    lines = [
        f"{record.cause or 'other'}: {record.behaviour} {record.user}, visit {record.round}: "
        f"{record.reason}"
        for record in records
        if record.outcome != "ready"
    ]
    more = len(lines) - _MOST_REASONS
    return lines[:_MOST_REASONS] + ([f"and {more} more failed visits"] if more > 0 else [])


def _settings(plan: LoadPlan, part: Part) -> dict[str, str | int | float | bool | None]:
    made = plan.model_dump()
    return {
        **made,
        "behaviours": ",".join(plan.behaviours),
        "backends": plan.backend,
        "users": plan.people,
        "workers": part.workers,
    }


def _hub_clock(logins: Logins, failures: list[str]) -> Spread | None:
    try:
        return HubMetrics.read(*logins.observers()).spread(SPAWN_DURATION, status="success")
    except ScenarioFailed as error:
        failures.append(f"the hub's own metric cannot be read: {error}")
        return None


def _versions(logins: Logins, bed: Bed | None) -> dict[str, str]:
    """As far as a facility that may be down tells them."""
    try:
        return facility_versions(logins, bed)
    except ScenarioFailed:
        return settings.versions(bed.settings) if bed else {}
