"""A person's session in which Dask clusters are made, cell by cell as in a notebook."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

from testbed.hub_client import HubClient
from testbed.kernels import Kernel
from testbed.logins import Visitor
from testbed.site import Site

Cell = Callable[[str], str]

_CELL_TIMEOUT_S = 240
_JOBS = """
import subprocess
name = cluster.name
argv = {{"htcondor": ["condor_q", "-long", "-constraint", f'JobBatchName == "{{name}}"'],
         "slurm": ["squeue", "--me", "--noheader", f"--name={{name}}", "--format=%i %k %o"]}}
done = subprocess.run(argv["{scheduler}"], capture_output=True, text=True, check=True)
print(done.stdout)
"""


@dataclass(frozen=True)
class DaskSession:
    """A running server, and a kernel in it whose state lasts from cell to cell."""

    client: HubClient
    kernel: Kernel

    @classmethod
    @contextlib.contextmanager
    def begin(cls, site: Site, visitor: Visitor, backend: str) -> Iterator[Self]:
        """Start a person's server with a data token and a kernel; both end with the block.

        Raises:
            ScenarioFailed: It does not come up.
        """
        client = visitor.fetch_data_token(backend)
        client.spawn({"backend": backend, **site.backend(backend).options})
        try:
            with Kernel.start(client) as kernel:
                yield cls(client, kernel)
        finally:
            client.stop(timeout_s=120)

    def run(self, code: str) -> str:
        """Run a cell; returns what it printed. Raises CellFailed."""
        return self.kernel.run(code, timeout_s=_CELL_TIMEOUT_S).stdout

    @contextlib.contextmanager
    def cluster(self, kind: str, options: str = "") -> Iterator[Cell]:
        """Make a cluster and its client, `cluster` and `client` in cells; both end with the block.

        Args:
            kind: The class in `afportal.dask`.
            options: Of its constructor, as Python.
        """
        self.run(
            f"from afportal.dask import {kind}\ncluster = {kind}({options})\n"
            "client = cluster.get_client()"
        )
        try:
            yield self.run
        finally:
            self.run("client.close(); cluster.close()")

    def jobs(self, scheduler: str) -> list[str]:
        """What a scheduler shows of the last cluster's jobs, one string each."""
        told = self.run(_JOBS.format(scheduler=scheduler)).strip()
        separator = "\n\n" if scheduler == "htcondor" else "\n"
        return [job for job in told.split(separator) if job.strip()]
