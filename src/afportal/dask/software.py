"""In which software a cluster's workers run: the notebook's own, an environment's, a container's.

A worker in a container is started as a session in one is, by apptainer on the node
(`afportal.session.inside`): what is mounted and what it is told is data of the catalogue's, and the
same on either scheduler. HTCondor's container universe has no such mounts of a job's own.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afportal.session import inside
from afportal.worker_environments import FILE

_ENTERED = ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER")


@dataclass(frozen=True)
class Software:
    """Where a worker's Python is.

    Args:
        python: in the container, if there is one.
        container: as `afportal.session.inside` reads it; empty: none.
        launcher: the node's Python, which enters it.
    """

    python: str = sys.executable
    container: str = ""
    launcher: str = sys.executable

    @property
    def is_ours(self) -> bool:
        """It is what this process runs in."""
        here = os.environ.get(inside.CONTAINER, "")
        return (self.python, self.container) == (sys.executable, here)

    def command(self, *options: str) -> list[str]:
        """Return what a job runs: `afportal.dask.worker` with these options."""
        if not self.container:
            return [self.python, "-I", "-m", "afportal.dask.worker", *options]
        enter = ["--in", self.container, "--python", self.python]
        return [self.launcher, "-I", "-m", "afportal.dask.worker", *enter, *options]


def chosen(
    environment: str | None,
    container: Any,
    python: str | None,
    environ: Mapping[str, str] = os.environ,
) -> Software:
    """Return what workers run in.

    Args:
        environment: one of the facility's, or of the person's own, by its name.
        container: an image's path, or a container as the catalogue says it: `image`, `python`,
            `bind`, `environment`, …
        python: another one than that of the chosen software.

    Raises:
        ValueError: there is no such environment, or it is no container.
    """
    if environment and container:
        raise ValueError("environment and container asked; each says where workers run: take one")
    launcher = environ.get(inside.LAUNCHER) or sys.executable
    if environment:
        found = _environments(environ).get(environment)
        if found is None:
            known = ", ".join(sorted(_environments(environ))) or "none"
            raise ValueError(f"environment {environment!r} asked; there are: {known}")
        if "container" not in found:
            return Software(python or f"{found['prefix']}/bin/python", launcher=launcher)
        container = found["container"]
    if container:
        return _contained(container, python, launcher)
    if own := environ.get(inside.CONTAINER):
        return Software(python or sys.executable, own, launcher)
    if image := next((environ[name] for name in _ENTERED if environ.get(name)), ""):
        raise ValueError(
            f"this kernel runs in the container {image}, which the portal did not start, and how "
            "workers come into it is not known: start a server or kernel in it at the portal "
            "(afportal add)"
        )
    return Software(python or sys.executable)


def _contained(container: Any, python: str | None, launcher: str) -> Software:
    from pydantic import ValidationError

    from afportal.containers import Container

    try:
        if isinstance(container, str):
            container = {"image": container}
        checked = Container.model_validate(container)
    except ValidationError as error:
        words = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'container'}: {each['msg']}"
            for each in error.errors()
        )
        raise ValueError(f"container {container!r} asked: {words}") from error
    return Software(python or checked.python, checked.as_argument(), launcher)


def _environments(environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return what this person may use, by its name: the facility's, then their own."""
    from afportal import own_catalogue

    found: dict[str, dict[str, Any]] = {}
    if (told := Path(environ.get("AF_SECRETS", "")) / FILE).is_file():
        found |= json.loads(told.read_text())
    for own in own_catalogue.load().environments:
        content = own.model_dump(mode="json", exclude_defaults=True)
        found[own.name] = {
            name: content[name] for name in ("prefix", "container") if name in content
        }
    return found
