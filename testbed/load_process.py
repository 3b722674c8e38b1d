"""Locust in a process of its own, followed to its end and cleaned up after, however it ends."""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from pydantic import ValidationError

from testbed import signals
from testbed.errors import TestbedError
from testbed.job_watch import JobWatch
from testbed.load_plan import LoadPlan
from testbed.open_visits import OpenVisits
from testbed.results import SpawnRecord
from testbed.site import Site

# The folder beside a site file that has the notes of loads.
NOTES = "open-visits"
_LOOK_S = 0.5
_JOBS_GONE_S = 60.0
_LOCUST_ENDS_S = 90.0
_LOCUST_SAW_FAILURES = 1

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


ALONE = Part()


@dataclass(frozen=True)
class Page:
    """Locust's own page, on the loopback."""

    port: int = 8089


class LoadProcess:
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
                failures += [
                    f"a worker was lost, and with it what became of {name}'s visit"
                    for name in counts["lost"]
                ]
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
    with signals.taken(ended.ask):
        yield ended


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


def read_records(text: str) -> tuple[list[SpawnRecord], int]:
    """Records a line each, and how many lines are none: cut off, or of another version."""
    found, broken = [], 0
    for line in text.splitlines():
        try:
            found.append(SpawnRecord.model_validate_json(line))
        except ValidationError:
            broken += 1
    return found, broken
