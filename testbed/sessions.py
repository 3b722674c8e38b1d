"""A person's running server, the job behind it, and a kernel that would notice a restart."""

from dataclasses import dataclass

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
