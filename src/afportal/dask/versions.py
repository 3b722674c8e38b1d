"""Whether notebook, scheduler and workers have the same software, and in words what differs.

Workers run the notebook's own Python, so that they agree. A worker that was started with another
one would fail later, and elsewhere, by what it cannot unpickle.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from distributed import Client
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.versions import get_versions

_CURE = (
    "What one sends the other may not understand. Workers have the notebook's own environment "
    "unless `python` says otherwise: leave it out, or start a server in the environment that "
    "the workers shall have"
)


class VersionsDiffer(UserWarning, ValueError):
    """Workers have other software than the notebook; the message says which."""


def told(here: Mapping[str, Any], workers: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what differs, in words; empty if nothing does.

    Args:
        here: package → version in the notebook, as `distributed.versions` has them.
        workers: the same of each worker, by its name.
    """
    others: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for worker, its in sorted(workers.items()):
        for package in sorted({*here, *its}):
            mine, other = _version(here, package), _version(its, package)
            if mine != other:
                others[package, mine, other].append(worker)
    if not others:
        return ""
    lines = [
        f"{package} is {other} on {_several(names)} and {mine} in the notebook"
        for (package, mine, other), names in others.items()
    ]
    return f"workers do not have the notebook's software: {'; '.join(lines)}. {_CURE}"


def _version(packages: Mapping[str, Any], name: str) -> str:
    found = packages.get(name)
    if not found:
        return "missing"
    # Python's is (major, minor, micro, level, serial), with points between them.
    return ".".join(str(found).split(".")[:3]) if name == "python" else str(found)


def _several(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


class Watch(SchedulerPlugin):
    """Tells in the notebook when a worker arrives with other software, once for each difference."""

    name = "afportal-versions"

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._here = get_versions()["packages"]

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Compare the worker that has just arrived."""
        state = scheduler.workers[worker]
        words = told(self._here, {str(state.name): (state.versions or {}).get("packages", {})})
        if words and (kind := words.replace(str(state.name), "")) not in self.seen:
            self.seen.add(kind)
            warnings.warn(words, VersionsDiffer, stacklevel=1)


class FacilityClient(Client):
    """Dask's client, whose `get_versions(check=True)` raises in words what differs."""

    async def _get_versions(
        self, check: bool = False, packages: list[str] | None = None
    ) -> dict[str, Any]:
        found: dict[str, Any] = await super()._get_versions(check=False, packages=packages)
        if check:
            workers = (await self.scheduler.identity(n_workers=-1)).get("workers", {})
            named = {
                str(workers.get(address, {}).get("name", address)): its.get("packages", {})
                for address, its in found["workers"].items()
            }
            if words := told(found["client"]["packages"], named):
                raise VersionsDiffer(words)
        return found
