"""What the Dask side bar has before anybody has started a cluster, and where its parts meet.

The server that shows the side bar and the process that has its clusters both read this; it loads
nothing of Dask.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Below a server's address: the pages of the cluster whose name follows.
PAGES = "dask/dashboard"
# An adaptive cluster grows to this unless it is told otherwise: a graph of a million tasks asks
# for a million workers.
MOST_WORKERS = 50


@dataclass(frozen=True)
class Entry:
    """A cluster that begins with its first client.

    Args:
        cluster: the class in `afportal.dask`.
        title: as the side bar shows it.
        program: without which there is no such scheduler here; empty: none is needed.
        module: the same of Python.
    """

    cluster: str
    title: str
    program: str = ""
    module: str = "dask_jobqueue"

    @property
    def is_possible(self) -> bool:
        """This environment and this node have what it needs."""
        modules = ("dask_jobqueue", self.module)
        return all(map(importlib.util.find_spec, modules)) and bool(
            not self.program or shutil.which(self.program)
        )

    @property
    def key(self) -> str:
        """The side bar's own name for it, a UUID."""
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"afportal.dask.{self.cluster}"))

    def model(self, address: str) -> dict[str, Any]:
        """Return it as the side bar shows a cluster that has no workers."""
        return {
            "id": self.key,
            "name": self.title,
            "scheduler_address": address,
            "dashboard_link": "",
            "workers": 0,
            "memory": "0 B",
            "cores": 0,
            "adapt": {"minimum": 0, "maximum": MOST_WORKERS},
        }


ENTRIES = (
    Entry("HTCondorCluster", "HTCondor", module="htcondor2"),
    Entry("SLURMCluster", "Slurm", program="sbatch"),
)


def here() -> tuple[Entry, ...]:
    """Return those that this session can have: Dask, certificates and the scheduler's clients."""
    if not os.environ.get("DASK_DISTRIBUTED__COMM__TLS__CA_FILE"):
        return ()
    return tuple(entry for entry in ENTRIES if entry.is_possible)


def pages() -> Path:
    """Return the folder of the sockets behind which clusters have their pages."""
    return Path(os.environ["AF_SECRETS"]) / "dask"


def node_address() -> str:
    """Return this node's address as other nodes reach it: what its name means, or its route."""
    try:
        found = socket.gethostbyname(socket.gethostname())
    except OSError:
        found = "127.0.0.1"
    if not found.startswith("127."):
        return found
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent
        return str(probe.getsockname()[0])
