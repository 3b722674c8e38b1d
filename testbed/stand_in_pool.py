"""Hub instances that offer stand-ins for servers, and slots for them, while they are measured."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

from testbed import on_demand
from testbed.bed import Bed
from testbed.errors import ExplainedError, TestbedError
from testbed.progress import say as say_on_stderr

PROFILE = "scale"
SERVICES = ("condor-ep-scale", "slurm-node-scale")
# Read by the hub's configuration as it starts.
_WANTED = "/srv/hub/data/stand-ins"
# So many at once the testbed's own slots hold, with room for others.
OWN_SLOTS = 16
# A startd reads all of its machine's processes for each claim that begins: with 500 on one it did
# nothing else.
_SLOTS_A_STARTD = 100
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
    eps = math.ceil(servers / _SLOTS_A_STARTD)
    environ = {
        **bed.settings.environ,
        "AF_STAND_IN_SLOTS": str(servers),
        "AF_STAND_IN_EPS": str(eps),
        "AF_STAND_IN_EP_SLOTS": str(math.ceil(servers / eps)),
        "AF_STAND_IN_MEMORY_MIB": str(servers * _MEMORY_MIB),
    }
    declared = Bed(dataclasses.replace(bed.settings, environ=environ))
    with contextlib.ExitStack() as at_the_end:
        if servers > OWN_SLOTS:
            say(f"{servers} slots each, declared, not real")
            at_the_end.enter_context(
                on_demand.services(
                    declared, PROFILE, SERVICES, before_removal=_stop_in_peace, say=say
                )
            )
        for hub in hubs:
            at_the_end.callback(_offer, bed, hub, ["rm", "-f", _WANTED])
        for hub in hubs:
            _offer(bed, hub, ["touch", _WANTED])
        yield


def _offer(bed: Bed, hub: str, argv: list[str]) -> None:
    done = bed.exec(hub, argv, user="hub")
    if not done.ok:
        raise TestbedError(f"{hub}: {' '.join(argv)} failed", seen=done.stderr.strip())
    bed.restart(hub, timeout_s=300)


def _stop_in_peace(bed: Bed) -> None:
    # A node that is stopped in peace leaves its cluster; one that is removed at once does not.
    for service in SERVICES:
        with contextlib.suppress(ExplainedError):
            for container in bed.containers(service):
                container.stop(timeout=15)
