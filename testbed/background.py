"""What else the machine does while something is measured on it."""

import time

import psutil

from testbed.results import LoadSample

_WINDOW_S = 0.25


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
