"""Things that go wrong on purpose, and heal when their block ends."""

import contextlib
from collections.abc import Callable, Iterator

from testbed import health
from testbed.bed import Bed, require_index
from testbed.errors import TestbedError, UsageError
from testbed.progress import say

# Whole or not at all: a spawn may read it at any moment.
_WRITE = """
import pathlib, sys
new = pathlib.Path(sys.argv[1] + ".new")
new.write_text(sys.argv[2])
new.replace(sys.argv[1])
"""
_DELAY = "/srv/hub/data/planted-delay-s"
_IDLE = "/srv/hub/data/planted-idle-min"
# Where a scheduler's operators give their commands.
_CONTROL = {"htcondor": "condor-cm", "slurm": "slurmctld"}

Fault = Callable[..., contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def stop(bed: Bed, service: str, *, index: int | None = None) -> Iterator[None]:
    """The service ends as it would for maintenance (SIGTERM); started again on exit."""
    with _healing(bed, service, index, "stop", "start"):
        yield


@contextlib.contextmanager
def kill(bed: Bed, service: str, *, index: int | None = None) -> Iterator[None]:
    """The service dies at once (SIGKILL); started again on exit."""
    with _healing(bed, service, index, "kill", "start"):
        yield


@contextlib.contextmanager
def pause(bed: Bed, service: str, *, index: int | None = None) -> Iterator[None]:
    """The service stands still with its connections open (freezer); goes on on exit."""
    with _healing(bed, service, index, "pause", "unpause"):
        yield


@contextlib.contextmanager
def delayed_spawns(bed: Bed, seconds: float) -> Iterator[None]:
    """Every spawn of the testbed's hubs takes so much longer before it is submitted.

    Source: `planted_delay` in compose/hub/config/jupyterhub_config.py; ends by itself after 15 min.
    """
    with _planted(bed, _DELAY, f"{seconds:.3f}"):
        yield


@contextlib.contextmanager
def impatience(bed: Bed, end_after_min: float, warn_min: float) -> Iterator[None]:
    """The testbed's hubs end a server that nobody used for so long, and warn so long before.

    Source: `planted_idle` in compose/hub/config/jupyterhub_config.py; ends by itself after 15 min.
    """
    with _planted(bed, _IDLE, f"{end_after_min} {warn_min}"):
        yield


@contextlib.contextmanager
def drained(bed: Bed, scheduler: str, machine: str, reason: str) -> Iterator[None]:
    """The machine is taken out of use as its operators do it, and what runs there goes on."""
    service = _CONTROL[scheduler]
    if scheduler == "htcondor":
        # Any slot of it names the machine.
        begin = ["condor_drain", "-graceful", "-reason", reason, f"slot1@{machine}"]
        end = ["condor_drain", "-cancel", f"slot1@{machine}"]
    else:
        change = ["scontrol", "update", f"nodename={machine}"]
        begin, end = [*change, "state=drain", f"reason={reason}"], [*change, "state=undrain"]
    with _undone(bed, service, begin, end):
        yield


@contextlib.contextmanager
def maintenance(bed: Bed, node: str, name: str, in_min: int) -> Iterator[None]:
    """Slurm has a reservation for maintenance of that node, which begins so soon."""
    begin = [
        "scontrol", "create", f"reservation={name}", f"starttime=now+{in_min}minutes",
        "duration=10", f"nodes={node}", "flags=maint,ignore_jobs", "users=root",
    ]  # fmt: skip
    with _undone(bed, _CONTROL["slurm"], begin, ["scontrol", "delete", f"reservation={name}"]):
        yield


@contextlib.contextmanager
def small_folder(bed: Bed, folder: str, *, owner: str = "") -> Iterator[None]:
    """A home, or a folder of one, that leads to a file system of the login node with 64 KiB.

    Args:
        folder: Made if it is not there.
        owner: Whose the file system is from now on; default whose it was.

    Raises:
        TestbedError: It cannot be put there.
    """
    small = "/run/small-home"

    def as_root(*argv: str) -> str:
        done = bed.exec("login-node", list(argv), user="root")
        if not done.ok:
            raise TestbedError(f"{' '.join(argv)} failed on login-node", seen=done.stderr[-500:])
        return done.stdout

    if owner:
        as_root("chown", as_root("id", "-u", owner).strip(), small)
    as_root("mkdir", "-p", folder)
    as_root("mv", folder, f"{folder}.away")
    try:
        as_root("ln", "-s", small, folder)
        yield
    finally:
        as_root("rm", "-f", folder)
        as_root("mv", f"{folder}.away", folder)


@contextlib.contextmanager
def _undone(bed: Bed, service: str, begin: list[str], end: list[str]) -> Iterator[None]:
    """Run one command, and another when the block ends, however it ends.

    Raises:
        TestbedError: One of them failed.
    """
    try:
        done = bed.exec(service, begin)
        if not done.ok:
            raise TestbedError(f"{' '.join(begin)} failed on {service}", seen=done.stderr[-500:])
        yield
    finally:
        undone = bed.exec(service, end)
        if not undone.ok:
            say(f"{' '.join(end)} failed on {service}: {undone.stderr.strip()[-300:]}")


@contextlib.contextmanager
def _planted(bed: Bed, file: str, words: str) -> Iterator[None]:
    hubs = [name for name in bed.services() if name.startswith("hub-") and bed.health(name).ok]
    try:
        for hub in hubs:
            done = bed.exec(hub, ["python3", "-c", _WRITE, file, words])
            if not done.ok:
                raise TestbedError(f"nothing could be planted in {hub}", seen=done.stderr)
        yield
    finally:
        left = []
        for hub in hubs:
            try:
                if not bed.exec(hub, ["rm", "-f", file]).ok:
                    left.append(hub)
            except TestbedError:
                left.append(hub)
        if left:
            say(f"{file} stays in {', '.join(left)} for up to 15 min")


FAULTS: dict[str, Fault] = {"kill": kill, "pause": pause, "stop": stop}


def named(name: str) -> Fault:
    """The fault of that name.

    Raises:
        UsageError: There is none.
    """
    if name not in FAULTS:
        raise UsageError(f"no fault named {name}", cure="one of " + ", ".join(sorted(FAULTS)))
    return FAULTS[name]


@contextlib.contextmanager
def _healing(bed: Bed, service: str, index: int | None, harm: str, heal: str) -> Iterator[None]:
    """Harm a service's containers, or the one numbered `index`, and make it well again.

    Raises:
        TestbedError: The service was not well before, or is not again within two minutes.
    """
    before = bed.health(service)
    if not before.ok and before.state not in health.UNPROVEN:
        raise TestbedError(
            f"{service} is {before.state}, so a fault would prove nothing", cure=bed.command("up")
        )
    bed.wait_healthy(service)
    containers = bed.containers(service)
    require_index(index, len(containers), service)
    chosen = containers if index is None else [containers[index - 1]]
    try:
        for container in chosen:
            getattr(container, harm)()
        yield
    finally:
        for container in chosen:
            container.reload()
            if heal == "unpause" and container.status != "paused":
                continue
            getattr(container, heal)()
        bed.wait_healthy(service)
