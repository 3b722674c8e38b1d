"""Clusters as jobs on HTCondor. Source: dask-gateway 2026.3, JobQueueBackend; condor_submit(1)."""

from __future__ import annotations

import math
import os
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dask_gateway_server.backends.jobqueue.base import JobQueueClusterConfig
from dask_gateway_server.traitlets import Type
from traitlets import Dict, Int, Unicode, default

from afportal.dask_gateway.jobs import Done, OwnersJobs, job_name, run
from afportal.signed_client import SignedClient, mint
from afportal.signed_http import read_secret
from afportal.submit_description import arguments, environment, literal

# Idle, running, transferring output, suspended; held or removed is over for Dask.
_THERE = frozenset("1267")


class HTCondorClusterConfig(JobQueueClusterConfig):
    """What a cluster on HTCondor may be given.

    Args:
        submit_lines: lines of the submit description more, or in place of those it has.
    """

    submit_lines = Dict(help="More of the submit description, name → value.", config=True)


class HTCondorBackend(OwnersJobs):
    """Dask clusters as HTCondor jobs of their owners, by the owner's own IDTOKEN.

    Homes are shared: the staging folder lies in one. HTCondor's commands run here, with a token
    that the minter makes for that person, so that the schedd knows whose job it is; nothing here
    may submit for others.
    """

    cluster_config_class = Type(
        "afportal.dask_gateway.htcondor.HTCondorClusterConfig",
        klass="dask_gateway_server.backends.base.ClusterConfig",
        help="The cluster config class to use",
        config=True,
    )
    minter_url = Unicode(help="Who makes people's IDTOKENs, https://host:port.", config=True)
    minter_secret_file = Unicode(help="File of the secret shared with it.", config=True)
    minter_authority_file = Unicode(
        "", help="PEM of the authority its certificate is of; default this machine's.", config=True
    )
    token_life_s = Int(3600, help="How long a token lives, in seconds.", config=True)
    token_folder = Unicode(
        "/run/dask-gateway/tokens", help="Where tokens lie, 0600, a folder a person.", config=True
    )
    gone = re.compile(r"Couldn't find/remove all jobs|not found", re.IGNORECASE)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._minter: SignedClient | None = None
        self._ends_s: dict[str, float] = {}

    @default("submit_command")
    def _submit(self) -> str:
        return shutil.which("condor_submit") or "condor_submit"

    @default("cancel_command")
    def _cancel(self) -> str:
        return shutil.which("condor_rm") or "condor_rm"

    @default("status_command")
    def _status(self) -> str:
        return shutil.which("condor_q") or "condor_q"

    # The five methods

    def get_submit_cmd_env_stdin(
        self, cluster: Any, worker: Any = None
    ) -> tuple[list[str], dict[str, str], str]:
        """Return condor_submit's command, and the submit description for its stdin."""
        asked = self.process(cluster, worker)
        command, log = asked.command, asked.log
        if asked.setup:
            command = ["/bin/sh", "-c", f'{asked.setup} && exec "$0" "$@"', *command]
        folder = self.get_staging_directory(cluster)
        # The gateway itself cannot look into the folder: as attributes, nothing is looked at here.
        lines = {
            "universe": "vanilla",
            "executable": command[0],
            "transfer_executable": "False",
            "My.Arguments": literal(arguments(command[1:])),
            "My.Environment": literal(environment(asked.environment)),
            "request_cpus": str(asked.cores),
            "request_memory": f"{math.ceil(asked.memory / 2**20)}MB",
            "should_transfer_files": "NO",
            "initialdir": "/",
            "My.Iwd": literal(folder),
            "My.Out": literal(os.path.join(folder, log)),  # noqa: PTH118
            "My.Err": literal(os.path.join(folder, log)),  # noqa: PTH118
            "batch_name": job_name(cluster),
            # One that is put back into the queue would come again with the same name: Dask Gateway
            # starts another by itself.
            "periodic_remove": "NumJobStarts > 0 && JobStatus == 1",
            "job_max_vacate_time": "5",
            **cluster.config.get("submit_lines", {}),
        }
        for name, value in lines.items():
            if "\n" in f"{name}{value}":
                raise ValueError(f"{name}: a submit description has one line for it")
        text = "".join(f"{name} = {value}\n" for name, value in lines.items())
        return [self.submit_command, "-terse", "-disable", "-"], {}, f"{text}queue\n"

    def get_stop_cmd_env(self, job_id: str) -> tuple[list[str], dict[str, str]]:
        """Return condor_rm's command."""
        return [self.cancel_command, job_id], {}

    def get_end_cmd(self, cluster: Any) -> list[str]:
        """Return condor_rm's command for all jobs of the cluster; the token says whose."""
        return [self.cancel_command, "-constraint", f"JobBatchName == {literal(job_name(cluster))}"]

    def get_status_cmd_env(self, job_ids: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Return condor_q's command; a line for each job."""
        shown = ["-af", "ClusterId", "ProcId", "JobStatus"]
        return [self.status_command, *job_ids, *shown], {}

    def parse_job_id(self, stdout: str) -> str:
        """Read `condor_submit -terse`: "12.0 - 12.0"."""
        return stdout.split()[0]

    def parse_job_states(self, stdout: str) -> dict[str, bool]:
        """Read `condor_q -af`: job → whether it waits or runs. Whoever is not named is over."""
        rows = [line.split() for line in stdout.splitlines() if line.strip()]
        return {f"{cluster}.{process}": status in _THERE for cluster, process, status in rows}

    # How they are run

    async def do_as_user(self, user: str, action: str, **kwargs: Any) -> Done:
        """Do it with the person's token; with their uid only what is in the staging folder."""
        cmd, env, stdin = kwargs["cmd"], kwargs["env"], kwargs.get("stdin")
        if kwargs.get("staging_dir"):
            as_them = {**kwargs, "cmd": ["/bin/true"], "env": {}, "stdin": None}
            done = await super().do_as_user(user, action, **as_them)
            if done[0] != 0:
                return done
        everything = {**os.environ, **env, "_CONDOR_SEC_TOKEN_DIRECTORY": await self._token(user)}
        return await run(cmd, everything, stdin or "")

    async def _token(self, person: str) -> str:
        """Return the folder that has the person's token, fresh for half of its life at least."""
        folder = os.path.join(self.token_folder, person)  # noqa: PTH118
        if self._ends_s.get(person, 0.0) - time.time() < self.token_life_s / 2:
            _keep(Path(folder), await mint(self._minting(), person, self.token_life_s))
            self._ends_s[person] = time.time() + self.token_life_s
        return folder

    def _minting(self) -> SignedClient:
        if self._minter is None:
            from afportal import tls

            believed = self.minter_authority_file
            self._minter = SignedClient(
                self.minter_url,
                read_secret(Path(self.minter_secret_file)),
                tls=tls.asking(believed) if believed else None,
            )
        return self._minter


def _keep(folder: Path, token: str) -> None:
    """Write a token 0600, in one step for who reads it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = folder.with_name(f".{folder.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(token + "\n")
    new.rename(folder / "token")
