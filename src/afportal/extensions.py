"""What a facility adds to the portal by entry points: kinds of backends, and classes.

    [project.entry-points."afportal.backends"]
    pbs = "mysite.pbs:PbsBackend"        # a `Backend`; `kind: pbs` in portal.yaml
    [project.entry-points."afportal.classes"]
    nights = "mysite.nights:classes"     # a `MoreClasses`; `classes: [nights]` in portal.yaml

Each is loaded where portal.yaml names it, and nothing else that is installed; see
docs/extending.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from afportal.backends import Backend
from afportal.catalogue import Class

BACKENDS = "afportal.backends"
CLASSES = "afportal.classes"
# The portal's own stand here and not in its metadata: it also runs from its source.
_OWN = tuple(
    EntryPoint(name, f"afportal.backends.{name}:{found}", BACKENDS)
    for name, found in (
        ("htcondor", "HTCondorBackend"), ("slurm", "SlurmBackend"), ("local", "LocalBackend"),
    )
)  # fmt: skip

# Who asks, and their groups → what they are offered besides the catalogue's classes.
MoreClasses = Callable[[str, frozenset[str]], Iterable[Class]]


def backend_of(kind: str) -> type[Backend]:
    """Return the class of a kind of backend.

    Raises:
        ValueError: there is none, it cannot be imported, or it is none.
    """
    where, found = _load(BACKENDS, kind)
    if not (isinstance(found, type) and issubclass(found, Backend)):
        raise ValueError(f"{where} is no subclass of afportal.backends.Backend")
    if lacking := sorted(getattr(found, "__abstractmethods__", ())):
        raise ValueError(f"{where} lacks {', '.join(lacking)}")
    return found


def more_classes(name: str) -> MoreClasses:
    """Return what tells of further classes. Raises ValueError as `backend_of`."""
    where, found = _load(CLASSES, name)
    if not callable(found):
        raise ValueError(f"{where} cannot be called")
    called: MoreClasses = found
    return called


def _load(group: str, name: str) -> tuple[str, Any]:
    there = (point for point in (*_OWN, *entry_points(group=group)) if point.group == group)
    # A package that is installed twice says the same twice.
    of_group = {(point.name, point.value): point for point in there}.values()
    match [point for point in of_group if point.name == name]:
        case [point]:
            where = f"{name} ({point.value})"
            try:
                return where, point.load()
            except Exception as error:
                raise ValueError(
                    f"{where} cannot be imported: {type(error).__name__}: {error}"
                ) from error
        case []:
            names = ", ".join(sorted({point.name for point in of_group})) or "none"
            raise ValueError(f"there is no entry point {name} in {group}, only {names}")
        case several:
            values = ", ".join(sorted(point.value for point in several))
            raise ValueError(
                f"{name} is the name of several in {group}: {values}; remove all but one"
            )
