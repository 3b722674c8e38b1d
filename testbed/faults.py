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
