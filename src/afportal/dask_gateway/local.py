"""Clusters beside the gateway itself, which then is a login node: processes of their owner."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from dask_gateway_server.traitlets import Type
from traitlets import default

from afportal.dask_gateway.jobs import OwnersJobs

# Starts a command as a session of its own, its output in a file, and says its process.
_START = """
import os, subprocess, sys
folder, log, setup, *command = sys.argv[1:]
if setup:
    command = ["/bin/sh", "-c", setup + ' && exec "$0" "$@"', *command]
with open(os.path.join(folder, log), "ab") as output:
    started = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output,
                               stderr=output, start_new_session=True)
with open(os.path.join(folder, "processes"), "a") as known:
    print(started.pid, file=known)
print(started.pid)
"""
# Ends what that started in a folder, with all that belongs to it.
_END = """
import contextlib, os, signal, sys
with contextlib.suppress(FileNotFoundError), open(os.path.join(sys.argv[1], "processes")) as known:
    for line in known:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(int(line), signal.SIGTERM)
"""


class LocalBackend(OwnersJobs):
    """Dask clusters as processes of their owners on this machine.

    dask-gateway's own takes a gateway that is root, which this one is not.
    """

    cluster_config_class = Type(
        "dask_gateway_server.backends.jobqueue.base.JobQueueClusterConfig",
        klass="dask_gateway_server.backends.base.ClusterConfig",
        help="The cluster config class to use",
        config=True,
    )
    gone = re.compile(r"No such process")

    @default("submit_command")
    def _submit(self) -> str:
        return sys.executable

    @default("cancel_command")
    def _cancel(self) -> str:
        return "/bin/kill"

    @default("status_command")
    def _status(self) -> str:
        return "/bin/ps"

    def get_submit_cmd_env_stdin(
        self, cluster: Any, worker: Any = None
    ) -> tuple[list[str], dict[str, str], str]:
        """Return a command that starts the process and prints its id."""
        asked = self.process(cluster, worker)
        env = {"PATH": os.defpath, "USER": cluster.username, **asked.environment}
        folder = self.get_staging_directory(cluster)
        start = [self.submit_command, "-c", _START, folder, asked.log, asked.setup]
        return [*start, *asked.command], env, ""

    def get_stop_cmd_env(self, job_id: str) -> tuple[list[str], dict[str, str]]:
        """Return kill's command, for the session with all that it started."""
        return [self.cancel_command, "-TERM", "--", f"-{job_id}"], {}

    def get_end_cmd(self, cluster: Any) -> list[str]:
        """Return a command that ends every process of the cluster."""
        return [self.submit_command, "-c", _END, self.get_staging_directory(cluster)]

    def get_status_cmd_env(self, job_ids: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Return ps's command; a line for each process that is there."""
        return [self.status_command, "-o", "pid=,stat=", "-p", ",".join(job_ids)], {}

    def parse_job_id(self, stdout: str) -> str:
        """Read the id of the process."""
        return stdout.strip()

    def parse_job_states(self, stdout: str) -> dict[str, bool]:
        """Read ps: process → whether it runs; one that nobody waited for does not."""
        rows = [line.split() for line in stdout.splitlines() if line.strip()]
        return {pid: not state.startswith("Z") for pid, state in rows}
