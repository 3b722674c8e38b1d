"""`testbed bench boot`: how long a boot takes, a second one, a reload, and what idling costs.

Everything is measured on a testbed of its own (`<project>-bench`, fresh volumes, a free
port) that is taken down at the end, so nobody's running testbed is touched.
"""

import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from testbed import images, settings
from testbed.bed import Bed
from testbed.errors import ScenarioFailed, TestbedError
from testbed.waiting import wait_until

Say = Callable[[str], None]

AGAIN_ROUNDS = 3
DATA_ROUNDS = 3
DATA_SERVICES = ("origin", "xcache")  # in the order in which one needs the other
HUB_START = "process_start_time_seconds"
RELOADED_FILE = Path("src/afportal/__init__.py")


def run(
    near: Bed,
    *,
    say: Say,
    queries: bool = True,
    backend: str = "htcondor",
    keep: bool = False,
) -> dict[str, float]:
    """Measure, and return the figures of `bench boot`.

    Args:
        near: The testbed whose project name, extended, and images are used.
        queries: Also count scheduler queries with 1 and 20 idle servers: three minutes.
        backend: Whose queries are counted.
        keep: Leave the measured testbed up.

    Raises:
        TestbedError: It did not boot.
        ScenarioFailed: It booted, and did not do what is measured.
    """
    bed = Bed(settings.load(f"{near.project}-bench", _free_port(), near.settings.environ))
    if others := [name for name, entries in near.summaries().items() if entries]:
        say(f"note: {near.project} is up beside it ({len(others)} services)")
    images.ensure(bed, bed.compose.images(bed.services()), say)
    bed.down(volumes=True)
    try:
        figures = {"up_s": _up(bed, say)}
        again = [_up(bed, say) for _ in range(AGAIN_ROUNDS)]
        figures["up_again_s"] = round(statistics.median(again), 2)
        figures["idle_memory_mib"] = _idle_memory(bed, say)
        figures["reload_s"] = _reload(bed, say)
        figures["data_boot_s"] = _data_boot(bed, say)
        if queries:
            figures |= _idle_queries(bed, backend, say)
    finally:
        if not keep:
            say(f"taking {bed.project} down")
            bed.down(volumes=True)
    return figures


def _up(bed: Bed, say: Say) -> float:
    """Seconds that the whole command takes, as somebody at a prompt waits for it."""
    argv = [sys.executable, "-m", "testbed", "up", "--project", bed.project,
            "--port", str(bed.settings.port)]  # fmt: skip
    started = time.monotonic()
    done = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                          env=dict(bed.settings.environ), check=False)  # fmt: skip
    took_s = round(time.monotonic() - started, 2)
    if done.returncode != 0:
        raise TestbedError("the measured testbed did not boot", seen=done.stderr[-4000:])
    say(f"up: {took_s} s")
    return took_s


def _idle_memory(bed: Bed, say: Say) -> float:
    """What all services hold, once two readings five seconds apart agree within 2 %."""
    last = 0.0

    def settled() -> float | None:
        nonlocal last
        now = sum(bed.memory_mib().values())
        same, last = abs(now - last) < 0.02 * now, now
        return now if same else None

    used = wait_until(settled, 120, what="memory settled", poll_s=5)
    say(f"idle memory: {used:.0f} MiB")
    return round(used, 1)


def _data_boot(bed: Bed, say: Say) -> float:
    """Seconds from the start of origin and cache until each gives a file to who is authorised."""
    took = []
    for _ in range(DATA_ROUNDS):
        for service in reversed(DATA_SERVICES):
            bed.container(service).stop()
        started = time.monotonic()
        for service in DATA_SERVICES:
            bed.container(service).start()
            bed.wait_healthy(service)
        took.append(time.monotonic() - started)
    say(f"origin and XCache: {statistics.median(took):.2f} s")
    return round(statistics.median(took), 2)


def _reload(bed: Bed, say: Say) -> float:
    """Seconds from a change in src/ until every hub answers from a new process.

    Raises:
        ScenarioFailed: It did not, or a server that ran before is gone.
    """
    from testbed.hub_client import HubClient, HubRefused, HubUnreachable
    from testbed.hub_metrics import HubMetrics
    from testbed.logins import Logins
    from testbed.site import load_site

    site = load_site(bed.settings.site_file)
    with Logins(site, bed.settings.environ) as logins:
        observers = logins.observers()
        backend = next(iter(site.backends))
        person: HubClient = logins.client(site.people("student")[0].name, backend)
        person.spawn({"backend": backend, **site.backend(backend).options}, timeout_s=120)
        began = [HubMetrics.read(observer).total(HUB_START) for observer in observers]
        started = time.monotonic()
        # The same bytes written again: a change to who watches, none to the repository.
        source = bed.settings.home / RELOADED_FILE
        source.write_bytes(source.read_bytes())

        def reborn() -> bool:
            return all(
                HubMetrics.read(observer).total(HUB_START) > before
                for observer, before in zip(observers, began, strict=True)
            )

        try:
            wait_until(reborn, 60, what="all hubs with the change", poll_s=0.1,
                       retry_on=(HubRefused, HubUnreachable))  # fmt: skip
        except TestbedError as error:
            raise ScenarioFailed(error.what, seen=error.seen, cure="testbed status") from error
        took_s = round(time.monotonic() - started, 2)
        server = person.servers().get("", {})
        person.stop(timeout_s=60)
    if not server.get("ready"):
        raise ScenarioFailed("a server that ran is gone after the reload", cure=person.log_command)
    say(f"reload: {took_s} s")
    return took_s


def _idle_queries(bed: Bed, backend: str, say: Say) -> dict[str, float]:
    from testbed.logins import Logins
    from testbed.queries import idle_queries_ratio
    from testbed.site import load_site

    site = load_site(bed.settings.site_file)
    with Logins(site, bed.settings.environ) as logins:
        return idle_queries_ratio(site, logins, backend=backend, say=say)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
