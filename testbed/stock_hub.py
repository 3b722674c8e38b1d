"""JupyterHub with stock batchspawner beside the facility, for as long as it is compared with."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed import on_demand
from testbed.bed import Bed
from testbed.errors import ExplainedError, TestbedError
from testbed.hub_client import HubClient, HubRefused, HubUnreachable
from testbed.progress import say as say_on_stderr
from testbed.secret import Secret
from testbed.waiting import wait_until

PROFILE = "stock"
# On the facility's own schedulers, configured as fast as batchspawner's settings allow.
TUNED = {"htcondor": "stock-htcondor", "slurm": "stock-slurm"}
# With HTCondor's defaults and batchspawner's, in a container of its own.
DEFAULT_POOL = "stock-default"

_TOKEN = "/run/stock/token"  # noqa: S105 - where it lies
SLURM_JOBS = "stock-jupyter"


@dataclass(frozen=True)
class StockHub:
    """A running stock hub; `name` is its service."""

    name: str
    url: str
    token: Secret

    def client(self, person: str) -> HubClient:
        """Somebody's servers here, by the harness's own token."""
        return HubClient(self.url, person, self.token)


@contextlib.contextmanager
def run(
    bed: Bed,
    services: Sequence[str],
    *,
    logs: Path | None = None,
    say: Callable[[str], None] = say_on_stderr,
) -> Iterator[dict[str, StockHub]]:
    """Stock hubs, by service; taken down at the end with every job of theirs.

    Args:
        services: Of `TUNED` and `DEFAULT_POOL`.
        logs: The folder that gets what they wrote.

    Raises:
        TestbedError: One does not come up.
    """

    def end_jobs(beside: Bed) -> None:
        _end_jobs(beside, services)

    with on_demand.services(
        bed, PROFILE, services, logs=logs, before_removal=end_jobs, say=say
    ) as beside:
        yield {service: _reached(beside, service) for service in services}


def _reached(bed: Bed, service: str) -> StockHub:
    done = bed.exec(service, ["cat", _TOKEN], user="root")
    port = bed.loopback_port(service)
    if not done.ok or port is None:
        raise TestbedError(f"{service} has no token or no port", seen=done.stderr.strip())
    hub = StockHub(service, f"http://127.0.0.1:{port}", Secret(done.stdout.strip()))
    with contextlib.closing(hub.client("nobody")) as client:
        wait_until(
            lambda: client.get_json("/hub/api/"),
            60,
            what=f"{service} answering at {hub.url}",
            retry_on=(HubRefused, HubUnreachable),
        )
    return hub


def _end_jobs(bed: Bed, services: Sequence[str]) -> None:
    """End what failed spawns may have left: an execution point keeps a job whose schedd is gone."""

    def none_queued() -> bool:
        argv = ["condor_q", "-allusers", "-af", "ClusterId"]
        return not bed.exec(TUNED["htcondor"], argv).stdout.strip()

    for service in services:
        argv = ["condor_rm", "-all"]
        if service == TUNED["slurm"]:
            argv = ["scancel", f"--name={SLURM_JOBS}"]
        with contextlib.suppress(ExplainedError):  # it never came up
            bed.exec(service, argv, user="root", timeout_s=20)
            if service == TUNED["htcondor"]:
                wait_until(none_queued, 20, what=f"no job of {service} in the queue")
