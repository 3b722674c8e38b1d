"""The facility's own kernels in a person's server, given with its secrets.

Each is a folder with a kernel.json in the session's private folder, where Jupyter looks because
JUPYTER_PATH says so: nothing is written into homes, and what a catalogue has no more is gone with
the session.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from afportal.catalogue import Catalogue, Environment, Kernel
from afportal.containers import Container

if TYPE_CHECKING:
    from afportal.credentials.delivery import Delivery

FOLDER = "share/jupyter"


def put(
    delivery: Delivery, catalogue: Catalogue, environment: Environment, groups: frozenset[str]
) -> None:
    """Add the kernels that a member of these groups finds in an environment to what is given."""
    found = catalogue.kernels_of(environment, groups)
    for kernel in found:
        path = f"{FOLDER}/kernels/{kernel.name}/kernel.json"
        delivery.files[path] = json.dumps(specification(kernel, catalogue.launching))
    if found:
        delivery.paths["JUPYTER_PATH"] = FOLDER


def specification(kernel: Kernel, launcher: str) -> dict[str, object]:
    """Return a kernel.json. Source: Jupyter Client's documentation, "Kernel specs".

    Args:
        launcher: the Python that enters containers.
    """
    return {
        "argv": kernel_argv(kernel.argv, kernel.container, launcher),
        "display_name": kernel.title,
        "language": kernel.language,
        "env": kernel.environment,
    }


def kernel_argv(argv: Sequence[str], container: Container | None, launcher: str) -> list[str]:
    """Return a kernel's command, as it is or by way of what enters its container."""
    if container is None:
        return list(argv)
    enter = [launcher, "-I", "-m", "afportal.session.inside", "--in", container.as_argument()]
    return [*enter, "--run", *argv]
