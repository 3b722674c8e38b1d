"""A person's running server, the job behind it, and a kernel that would notice a restart."""

from dataclasses import dataclass

from testbed.bed import Bed
from testbed.errors import ScenarioFailed
from testbed.hub_client import HubClient
from testbed.kernels import Kernel
from testbed.orphans import Job


@dataclass(frozen=True)
class Session:
    """A running server and a kernel in it whose variable `remembered` was set to 41."""

    client: HubClient
    backend: str
    job: Job
    kernel: Kernel

    @classmethod
    def begin(cls, client: HubClient, backend: str, job: Job) -> "Session":
        """Start the kernel and give it something to remember."""
        kernel = Kernel.start(client)
        kernel.run("remembered = 41")
        return cls(client, backend, job, kernel)

    def remembers(self) -> bool:
        """Whether the kernel answers, and still has its state."""
        return self.kernel.run("remembered + 1", timeout_s=30).value == "42"


def remove(bed: Bed, job: Job) -> None:
    """Remove a job as its scheduler's administrator would.

    Raises:
        ScenarioFailed: The scheduler did not.
    """
    if job.backend == "htcondor":
        argv = ["condor_rm", "-reason", "cleared by the operator", job.job_id]
        done = bed.exec("condor-ap-hub", argv)
    else:
        done = bed.exec("slurmctld", ["scancel", job.job_id])
    if not done.ok:
        raise ScenarioFailed(f"{job} was not removed", seen=done.stderr.strip()[-500:])


def ends_s(bed: Bed, job: Job) -> float:
    """When the scheduler itself says that it will end a job, unix seconds."""
    if job.backend == "htcondor":
        argv = ["condor_q", job.job_id, "-af", "JobCurrentStartDate", "AllowedJobDuration"]
        begun_s, allowed_s = bed.exec("condor-ap-hub", argv).stdout.split()
        return float(begun_s) + float(allowed_s)
    argv = ["squeue", "--noheader", f"--job={job.job_id}", "--format=%e"]
    said = bed.exec("slurmctld", ["env", "SLURM_TIME_FORMAT=%s", *argv])
    return float(said.stdout)
