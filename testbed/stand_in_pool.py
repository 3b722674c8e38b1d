"""Hub instances that offer stand-ins for servers, and slots for them, while they are measured."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence

from testbed import teardown
from testbed.bed import Bed
from testbed.errors import ExplainedError, TestbedError
from testbed.progress import say as say_on_stderr

PROFILE = "scale"
SERVICES = ("condor-ep-scale", "slurm-node-scale")
# Read by the hub's configuration as it starts.
_WANTED = "/srv/hub/data/stand-ins"
# So many at once the testbed's own slots hold, with room for others.
OWN_SLOTS = 16
# Declared for each slot of the Slurm node: enough for the smallest JupyterLab.
_MEMORY_MIB = 2048


@contextlib.contextmanager
def offered(
    bed: Bed,
    instances: Sequence[str],
    servers: int,
    *,
    say: Callable[[str], None] = say_on_stderr,
) -> Iterator[None]:
    """Have instances offer stand-ins, with slots for `servers` of them on each scheduler.

    Their hubs are restarted at both ends; servers that run at them go on.

    Raises:
        TestbedError: Hub or nodes do not come up.
    """
    hubs = [f"hub-{instance}" for instance in instances]
    environ = {
        **bed.settings.environ,
        "AF_STAND_IN_SLOTS": str(servers),
        "AF_STAND_IN_MEMORY_MIB": str(servers * _MEMORY_MIB),
    }
    beside = Bed(dataclasses.replace(bed.settings, environ=environ), profiles=(PROFILE,))
    nodes = servers > OWN_SLOTS
    try:
        if nodes:
            say(f"starting {', '.join(SERVICES)}: {servers} slots each, declared, not real")
            beside.up(only=SERVICES)
        for hub in hubs:
            _offer(bed, hub, ["touch", _WANTED])
        yield
    finally:
        with contextlib.ExitStack() as after:
            if nodes:
                after.callback(_remove, beside)
            for hub in hubs:
                after.callback(_offer, bed, hub, ["rm", "-f", _WANTED])


def _offer(bed: Bed, hub: str, argv: list[str]) -> None:
    done = bed.exec(hub, argv, user="hub")
    if not done.ok:
        raise TestbedError(f"{hub}: {' '.join(argv)} failed", seen=done.stderr.strip())
    bed.restart(hub, timeout_s=300)


def _remove(bed: Bed) -> None:
    # A node that is stopped in peace leaves its cluster; one that is removed at once does not.
    for service in SERVICES:
        with contextlib.suppress(ExplainedError):
            for container in bed.containers(service):
                container.stop(timeout=15)
    teardown.remove(bed, SERVICES)
