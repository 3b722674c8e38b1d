"""What Slurm's job states mean: where a job stands, and how it ended.

Source: Slurm 24.11, squeue(1), "JOB STATE CODES"; answers captured in tests/data/slurm.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from afportal.backends import Cause, Ending, Standing, slurm_pool

_REQUEUED = frozenset(["REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"])
_PENDING = frozenset(["PENDING", "REVOKED", "CONFIGURING"])
_SUSPENDED = frozenset(["SUSPENDED", "STOPPED"])
_ENDING = frozenset(["COMPLETING", "STAGE_OUT", "SIGNALING"])
_RUNNING = frozenset(
    ["RUNNING", "RESIZING", "POWER_UP_NODE", "RECONFIG_FAIL", "LAUNCH_FAILED", "UPDATE_DB"]
)
_STOPPED = frozenset(["COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "DEADLINE"])
_LOST = frozenset(["NODE_FAIL", "PREEMPTED", "BOOT_FAIL"])


def standing_of(states: Collection[str]) -> Standing:
    """Tell where a job stands by the list of its state and state flags.

    The flags decide first: a job that ended may still be completing, and one that was put
    back in the queue shows how its last run ended.
    """
    found = set(states)
    for flags, standing in (
        (_ENDING, Standing.ENDING),
        (_REQUEUED, Standing.PENDING),
        (_STOPPED | _LOST, Standing.GONE),
        (_SUSPENDED, Standing.SUSPENDED),
        (_PENDING, Standing.PENDING),
        (_RUNNING, Standing.RUNNING),
    ):
        if found & flags:
            return standing
    return Standing.PENDING


_CAUSES = {
    "OUT_OF_MEMORY": Cause.MEMORY,
    "TIMEOUT": Cause.TIME,
    "DEADLINE": Cause.TIME,
    "NODE_FAIL": Cause.NODE,
    "BOOT_FAIL": Cause.NODE,
    "PREEMPTED": Cause.REMOVED,
    "CANCELLED": Cause.REMOVED,
    "REVOKED": Cause.REMOVED,
    "FAILED": Cause.EXITED,
    "COMPLETED": Cause.EXITED,
}


def ending_of(job: Mapping[str, Any]) -> Ending:
    """Say how a job ended, from a job of slurmctld or slurmdbd."""
    state = job.get("job_state") or (job.get("state") or {}).get("current") or []
    states = [str(flag) for flag in state] if isinstance(state, list) else [str(state)]
    words = [", ".join(states)]
    cause = next((_CAUSES[flag] for flag in states if flag in _CAUSES), Cause.UNKNOWN)
    exit_code = job.get("exit_code") or {}
    code = slurm_pool.number(exit_code.get("return_code")) or 0
    signal = exit_code.get("signal") or {}
    if signal.get("name"):
        words.append(f"signal {signal['name']}")
    elif code:
        words.append(f"exit code {code}")
    reason = job.get("state_reason") or (job.get("state") or {}).get("reason") or ""
    if reason not in ("", "None"):
        words.append(f"reason {reason}")
    if job.get("failed_node"):
        words.append(f"node {job['failed_node']} failed")
    return Ending(cause, "; ".join(word for word in words if word))
