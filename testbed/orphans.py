"""Jobs without a server and servers without a job, by what schedulers and hub say themselves."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from testbed.bed import Bed
from testbed.errors import ScenarioFailed, TestbedError
from testbed.hub_client import HubClient
from testbed.promises import expect_within

# What a portal's job carries, see its backends: the cell, and whose server it is.
_CONDOR_ATTRIBUTES = "ClusterId,ProcId,Owner,JobStatus,AfCell,AfServer"
_CONDOR_STATES = {1: "idle", 2: "running", 3: "removed", 4: "completed", 5: "held",
                  6: "transferring output", 7: "suspended"}  # fmt: skip
_ENDED = ("removed", "completed")
# Job names are people's own: a separator that nobody types into one.
_SEPARATOR = "\x1f"
_SQUEUE_FORMAT = _SEPARATOR.join(("%i", "%u", "%T", "%j", "%k"))


@dataclass(frozen=True)
class Job:
    """A portal's job as its scheduler shows it; `server` is `person/name`, `cell` its hub's."""

    backend: str
    job_id: str
    owner: str
    state: str
    cell: str
    server: str

    def __str__(self) -> str:
        return (
            f"{self.backend} job {self.job_id} of {self.owner} "
            f"({self.state}, for {self.server} of {self.cell})"
        )


@dataclass(frozen=True)
class Server:
    """A server as its hub instance shows it."""

    person: str
    name: str
    backend: str
    cell: str

    @property
    def key(self) -> str:
        return f"{self.person}/{self.name}"

    def __str__(self) -> str:
        return f"server {self.key} of {self.cell} on {self.backend}"


@dataclass(frozen=True)
class Orphans:
    """What has no other half."""

    jobs: list[Job] = field(default_factory=list)
    servers: list[Server] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.jobs) + len(self.servers)

    def __str__(self) -> str:
        lines = [f"no server for {job}" for job in self.jobs]
        lines += [f"no job for {server}" for server in self.servers]
        return "\n".join(lines) or "none"


def parse_condor_q(text: str) -> list[Job]:
    """Read `condor_q -json` with the portal's attributes; no output at all means no jobs."""
    ads = json.loads(text) if text.strip() else []
    return [
        Job(
            backend="htcondor",
            job_id=f"{ad['ClusterId']}.{ad['ProcId']}",
            owner=ad["Owner"],
            state=_CONDOR_STATES.get(ad["JobStatus"], str(ad["JobStatus"])),
            cell=ad["AfCell"],
            server=ad["AfServer"],
        )
        for ad in ads
    ]


def parse_squeue(text: str) -> list[Job]:
    """Read `squeue` in `_SQUEUE_FORMAT`; jobs that are not a portal's are left out."""
    found = []
    for line in text.splitlines():
        job_id, owner, state, name, comment = line.split(_SEPARATOR, 4)
        if name.startswith("af-"):
            found.append(
                Job("slurm", job_id, owner, state.lower(), name.removeprefix("af-"), comment)
            )
    return found


def condor_jobs(bed: Bed) -> list[Job]:
    """The portal's HTCondor jobs that have not ended, as its own access point shows them."""
    done = bed.exec(
        "condor-ap-hub",
        ["condor_q", "-allusers", "-json", "-attributes", _CONDOR_ATTRIBUTES,
         "-constraint", "AfCell =!= undefined"],
    )  # fmt: skip
    if not done.ok:
        raise TestbedError("condor_q on condor-ap-hub failed", seen=done.stderr.strip()[-500:])
    return [job for job in parse_condor_q(done.stdout) if job.state not in _ENDED]


def slurm_jobs(bed: Bed) -> list[Job]:
    """The portal's Slurm jobs that have not ended."""
    done = bed.exec("slurmctld", ["squeue", "--all", "--noheader", f"--format={_SQUEUE_FORMAT}"])
    if not done.ok:
        raise TestbedError("squeue on slurmctld failed", seen=done.stderr.strip()[-500:])
    return parse_squeue(done.stdout)


def jobs(bed: Bed) -> list[Job]:
    """Every job of the portal that a scheduler has and that has not ended."""
    return condor_jobs(bed) + slurm_jobs(bed)


def servers(observers: Iterable[HubClient]) -> list[Server]:
    """Every server that the hubs have, starting, running or stopping.

    Args:
        observers: Somebody with the rights to list everybody's servers, at each instance.
    """
    found = []
    for observer in observers:
        for person, models in observer.all_servers().items():
            for name, model in models.items():
                found.append(Server(person, name, str(_backend(model)), observer.instance))
    return found


def compare(jobs: Iterable[Job], servers: Iterable[Server]) -> Orphans:
    """What of these has no other half; a local server needs no job."""
    jobs, servers = list(jobs), list(servers)
    held = {(server.cell, server.key) for server in servers}
    served = {(job.cell, job.server) for job in jobs}
    return Orphans(
        jobs=[job for job in jobs if (job.cell, job.server) not in held],
        servers=[
            server
            for server in servers
            if server.backend != "local" and (server.cell, server.key) not in served
        ],
    )


def find(bed: Bed, observers: Sequence[HubClient]) -> Orphans:
    """The orphans there are now, in the cells of all hub instances."""
    return compare(jobs(bed), servers(observers))


def expect_none(bed: Bed, observers: Sequence[HubClient], *, timeout_s: float = 30.0) -> None:
    """Every job has its server and every server its job, at the latest after `timeout_s`.

    A server that is stopping loses its job a moment before the hub has noticed, so the
    first look does not count.

    Raises:
        ScenarioFailed: Some orphan stayed.
    """
    seen = Orphans()

    def none_left() -> bool:
        nonlocal seen
        seen = find(bed, observers)
        return seen.count == 0

    try:
        expect_within(timeout_s, none_left, what="no orphans", poll_s=0.5)
    except ScenarioFailed:
        # Not the chain: what is told first must be which.
        raise ScenarioFailed(
            f"{seen.count} orphans after {timeout_s:g} s", seen=str(seen)
        ) from None


def _backend(model: dict[str, Any]) -> str:
    """The backend of a hub's server model: its state says, or the options that were sent."""
    for source in (model.get("state") or {}, model.get("user_options") or {}):
        if "backend" in source:
            return str(source["backend"])
    return "unknown"
