"""Clusters on Slurm: Dask Gateway's own, submitted and looked at as their owner."""

import re
from typing import Any

from dask_gateway_server.backends.jobqueue import slurm

from afportal.dask_gateway.jobs import OwnersJobs, job_name


class SlurmBackend(OwnersJobs, slurm.SlurmBackend):
    """Slurm's commands run with the owner's uid: munge says who it is; nobody sees others' jobs."""

    gone = re.compile(r"Invalid job id|Job has finished|already completed", re.IGNORECASE)

    def get_submit_cmd_env_stdin(
        self, cluster: Any, worker: Any = None
    ) -> tuple[list[str], dict[str, str], str]:
        """Return sbatch's command, with the cluster's name as the job's."""
        cmd, env, script = super().get_submit_cmd_env_stdin(cluster, worker)
        cmd[cmd.index("--job-name=dask-gateway")] = f"--job-name={job_name(cluster)}"
        return cmd, env, script

    def get_end_cmd(self, cluster: Any) -> list[str]:
        """Return scancel's command for all jobs of the cluster."""
        return [self.cancel_command, f"--user={cluster.username}", f"--name={job_name(cluster)}"]
