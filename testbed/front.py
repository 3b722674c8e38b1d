"""What is changed at the front door while it runs: drained instances, the announcement."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from testbed.bed import Bed
from testbed.errors import TestbedError, UsageError

SERVICE = "front"


@dataclass(frozen=True)
class FrontState:
    """What the front says and does now."""

    announcement: str
    drained: tuple[str, ...]
    instances: tuple[str, ...]


def show(bed: Bed) -> FrontState:
    """How it is now.

    Raises:
        TestbedError: The front does not run, or could not do it.
    """
    return _tell(bed, ["show"])


def drain(bed: Bed, instance: str) -> FrontState:
    """Send nobody new to an instance; who is there stays.

    Raises:
        UsageError: There is no such instance.
    """
    return _tell(bed, ["drain", instance])


def undrain(bed: Bed, instance: str) -> FrontState:
    """Send people to an instance again.

    Raises:
        UsageError: There is no such instance.
    """
    return _tell(bed, ["undrain", instance])


def announce(bed: Bed, text: str) -> FrontState:
    """Set the announcement of the landing page and the login page; an empty text ends it.

    Raises:
        UsageError: It is too long to be one.
    """
    return _tell(bed, ["announce", "--", text])


def _tell(bed: Bed, deed: Sequence[str]) -> FrontState:
    argv = ["/opt/hub/bin/python", "-m", "afportal.front.ctl", *deed]
    done = bed.exec(SERVICE, argv, timeout_s=30)
    if done.exit_code == 2:
        raise UsageError(done.stderr.strip(), cure="testbed hubs lists hubs and instances")
    if not done.ok:
        raise TestbedError(
            f"{SERVICE}: {deed[0]} failed",
            seen=done.stderr[-800:],
            cure=bed.command("logs", SERVICE),
        )
    found = json.loads(done.stdout)
    return FrontState(
        announcement=found["announcement"],
        drained=tuple(found["drained"]),
        instances=tuple(found["instances"]),
    )
