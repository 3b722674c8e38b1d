"""What else the machine does while something is measured on it."""

import contextlib
import time

import psutil

from testbed.errors import TestbedError
from testbed.results import LoadSample
from testbed.waiting import wait_until

_WINDOW_S = 0.25
_CALM = 0.5
_SETTLES_S = 60.0


def look() -> LoadSample:
    """Load average, and how busy all cores were in a quarter of a second; takes as long.

    To be asked when nothing of one's own is under way.
    """
    busy = psutil.cpu_percent(_WINDOW_S) / 100
    return LoadSample(
        unix_s=round(time.time(), 3),
        load_1min=round(psutil.getloadavg()[0], 2),
        cpu_busy=round(min(max(busy, 0.0), 1.0), 3),
    )


def settle() -> None:
    """Wait until what was measured last has left the cores; others' work is not waited for long."""
    with contextlib.suppress(TestbedError):  # then others keep them busy: `look` records that
        wait_until(lambda: look().cpu_busy < _CALM, _SETTLES_S, what="cores mostly idle")
