"""Call a function on many inputs, each call a batch job, on HTCondor or Slurm.

    from afportal import maps
    squares = maps.map(f, range(200), tag="squares")
    for number, value in squares.iter_as_available(): ...
    maps.load("squares").rerun()      # another day, another kernel

The verbs are htmap's. Everything that is known of a map lies below the person's home, by its tag:
docs/maps.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from afportal.jobs.errors import JobsError, NotHere, NotInTime, Refused, SchedulerAway, WrongRequest
from afportal.jobs.fields import checked
from afportal.jobs.states import State
from afportal.maps.collect import Call
from afportal.maps.errors import (
    CallFailed,
    NoRoom,
    NoSuchMap,
    NotPicklable,
    NotSubmitted,
    TagTaken,
)
from afportal.maps.folder import MapFolder, tags
from afportal.maps.picked_up import Map
from afportal.maps.plan import MapOptions, make

__all__ = [
    "Call",
    "CallFailed",
    "JobsError",
    "Map",
    "MapOptions",
    "NoRoom",
    "NoSuchMap",
    "NotHere",
    "NotInTime",
    "NotPicklable",
    "NotSubmitted",
    "Refused",
    "SchedulerAway",
    "State",
    "TagTaken",
    "WrongRequest",
    "load",
    "map",
    "remove",
    "starmap",
    "tags",
]


def map(  # noqa: A001 - htmap's name, and Python's
    function: Callable[..., Any],
    inputs: Iterable[Any],
    *,
    tag: str | None = None,
    scheduler: str = "htcondor",
    **options: Any,
) -> Map:
    """Call a function on each input, as batch jobs.

    Args:
        inputs: one argument a call.
        tag: by which it is found again; None: the function's name with some letters.
        scheduler: "htcondor" or "slurm".
        options: what each job may use, as `MapOptions` has it: `memory_mib=1024`.

    Returns:
        The map, its jobs submitted.

    Raises:
        WrongRequest, NotPicklable, TagTaken, NoRoom, NotHere: nothing was kept or submitted.
        Refused: the scheduler does not take it; nothing was kept.
        NotSubmitted: the scheduler is away, or took only a part; the map is kept, and `rerun`
            sends the others.
    """
    return starmap(
        function, (((each,), {}) for each in inputs), tag=tag, scheduler=scheduler, **options
    )


def starmap(
    function: Callable[..., Any],
    calls: Iterable[tuple[tuple[Any, ...], Mapping[str, Any]]],
    *,
    tag: str | None = None,
    scheduler: str = "htcondor",
    **options: Any,
) -> Map:
    """Do as `map`, with (arguments, named arguments) for each call."""
    asked = checked(MapOptions, options)
    spool = False
    if scheduler == "htcondor":
        from afportal.jobs.access_point import AccessPoint

        spool = AccessPoint().spool
    folder = make(function, calls, tag=tag, scheduler=scheduler, options=asked, spool=spool)
    made = Map(folder)
    try:
        made.submit()
    except NotSubmitted:
        raise
    except JobsError:
        folder.remove()
        raise
    return made


def load(tag: str) -> Map:
    """Pick a map up again, from any process of the same person. Raises NoSuchMap."""
    found = Map(MapFolder.of(tag))
    # What is there is there; what is asked of the scheduler later raises it again.
    with contextlib.suppress(SchedulerAway):
        found.resume()
    return found


def remove(tag: str) -> None:
    """End a map's jobs and forget it, with its results. Raises NoSuchMap, SchedulerAway."""
    load(tag).remove()
