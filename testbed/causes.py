"""Why a visit failed, as a name that can be counted: what is no latency shall not be one."""

from collections import Counter
from collections.abc import Iterable

from testbed.errors import LoginRefused, NotInTime, TestbedError, UsageError
from testbed.hub_client import HubRefused, HubUnreachable, SpawnFailed
from testbed.kernels import CellFailed, KernelDied
from testbed.results import SpawnRecord

# Cause → what it says of the facility, or of who asked it.
CAUSES = {
    "facility_down": "no answer, or the front door has none to give (502, 503, 504)",
    "login_refused": "name, password or code were not taken",
    "token_refused": "the token is not known (401)",
    "not_allowed": "the token is known and has not the right (403)",
    "unknown_person": "the hub knows nobody of this name (404)",
    "already_running": "a server of theirs runs that is not the load's (409)",
    "limit_reached": "too many spawns at once, or too many requests (429)",
    "request_refused": "the hub took the request for wrong (another 4xx)",
    "spawn_failed": "accepted, and failed with a reason of the hub's or the scheduler's",
    "not_in_time": "a step took longer than --timeout",
    "kernel_failed": "the kernel died, or a cell failed",
    "cut_short": "the load ended, or was ended, in the midst of it",
    "site_file": "the site file's word on this person cannot be followed",
    "harness_broke": "the judges themselves broke",
    "other": "none of these",
}

_BY_STATUS = {401: "token_refused", 403: "not_allowed", 404: "unknown_person",
              409: "already_running", 429: "limit_reached", 502: "facility_down",
              503: "facility_down", 504: "facility_down"}  # fmt: skip
# What JupyterHub says, with 403, to a token that it does not know.
_NOBODYS = "missing or invalid credentials"


def cause_of(error: Exception) -> str:
    """The cause that an error stands for, one of `CAUSES`.

    Source: jupyterhub 6.1.1 `scopes.py`, `needs_scope`: 403 also for a token nobody has.
    """
    match error:
        case HubUnreachable():
            return "facility_down"
        case HubRefused() if error.status == 403 and _NOBODYS in error.message.lower():
            return "token_refused"
        case HubRefused() if error.status < 400 or error.status >= 500:
            return _BY_STATUS.get(error.status, "other")
        case HubRefused():
            return _BY_STATUS.get(error.status, "request_refused")
        case LoginRefused():
            return "login_refused"
        case SpawnFailed():
            return "spawn_failed"
        case NotInTime():
            return "not_in_time"
        case KernelDied() | CellFailed():
            return "kernel_failed"
        case UsageError():
            return "site_file"
        case TestbedError():
            return "harness_broke"
    return "other"


def counted(records: Iterable[SpawnRecord]) -> dict[str, float]:
    """How many visits failed for each cause that occurred, by `failed_<cause>`."""
    found = Counter(record.cause for record in records if record.cause)
    return {f"failed_{cause}": float(found[cause]) for cause in CAUSES if found[cause]}
