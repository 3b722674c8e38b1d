"""Batch jobs of one's own from a notebook, on HTCondor or Slurm, with the session's credentials.

    from afportal import jobs
    job = jobs.Job({"executable": "/bin/hostname"}, scheduler="slurm").submit()
    await job
    print(job.output)

Fields are data: nothing of them goes through a shell. See docs/maps.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from afportal.jobs.errors import JobsError, NotHere, NotInTime, Refused, SchedulerAway, WrongRequest
from afportal.jobs.states import JobState, State

if TYPE_CHECKING:
    from afportal.jobs.fields import JobFields
    from afportal.jobs.job import Job, Jobs, find, load, look, wait

__all__ = [
    "Job",
    "JobFields",
    "JobState",
    "Jobs",
    "JobsError",
    "NotHere",
    "NotInTime",
    "Refused",
    "SchedulerAway",
    "State",
    "WrongRequest",
    "find",
    "load",
    "look",
    "wait",
]


def __getattr__(name: str) -> Any:
    """Import the rest when it is asked for: maps need the errors and states alone."""
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module 'afportal.jobs' has no attribute {name!r}")
    home = "fields" if name == "JobFields" else "job"
    return getattr(import_module(f"afportal.jobs.{home}"), name)
