"""No secret of a session is where somebody else can read it: a first search by its value."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from testbed.bed import Bed
from testbed.hub_client import Spawn
from testbed.kernels import Kernel
from testbed.logins import Visitor
from testbed.secret import Secret
from testbed.sessions import Session

pytestmark = pytest.mark.needs("faults")

NODES = {"htcondor": ("condor-ep",), "slurm": ("slurm-node",)}

# Every secret file of the session, by name.
READ_SECRETS = """
import glob, json, os
found = {}
for folder in (os.environ["AF_SECRETS"], os.environ.get("_CONDOR_CREDS", "")):
    for path in glob.glob(folder + "/**", recursive=True) if folder else []:
        if os.path.isfile(path):
            found[path] = open(path).read().strip()
            assert oct(os.stat(path).st_mode & 0o077) == "0o0", path + " is open to others"
print(json.dumps(found))
"""
# What somebody else can read of all processes on the same node.
READ_PROC = """
import glob
seen = []
for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline"):
    try:
        seen.append(open(path, "rb").read().decode(errors="replace"))
    except OSError:
        pass
print("\\n".join(seen).replace(chr(0), "\\n"))
"""


@dataclass(frozen=True)
class Secrets:
    """The values that must not be found, by the file that rightly holds them."""

    backend: str
    values: dict[str, Secret]

    def found_in(self, text: str) -> list[str]:
        """Which secrets a text holds; their names, never their values."""
        return [name for name, value in self.values.items() if value and value in text]


@pytest.fixture
def secrets(running: Session) -> Secrets:
    """The secrets of alice's running session, and the token that she made for herself."""
    found = json.loads(running.kernel.run(READ_SECRETS).stdout)
    values = {name: Secret(value) for name, value in found.items()}
    assert any(name.endswith("jupyterhub_token") for name in values)
    return Secrets(running.backend, {**values, "her API token": running.client.token})


def test_not_in_what_schedulers_show(bed: Bed, running: Session, secrets: Secrets) -> None:
    """No job ad, job record, script or history holds a secret, not even for root."""
    looks = {
        "htcondor": [
            ("condor-ap-hub", ["condor_q", "-allusers", "-long"]),
            ("condor-ap-hub", ["condor_history", "-long", "-limit", "50"]),
            ("condor-cm", ["condor_status", "-any", "-long"]),
        ],
        "slurm": [
            ("slurmctld", ["scontrol", "show", "jobs", "--details"]),
            (
                "slurmctld",
                ["squeue", "--all", "--Format=comment:200,name:200,command:400,stdout:200"],
            ),
            ("slurmctld", ["sacct", "--allusers", "--format=ALL", "--parsable2"]),
        ],
    }
    shown = ""
    for service, argv in looks[secrets.backend]:
        done = bed.exec(service, argv, user="root")
        assert done.ok, (service, argv, done.stderr)
        shown += done.stdout
        assert not secrets.found_in(done.stdout), f"in {' '.join(argv)} on {service}"
    # The search has eyes: it saw the job.
    assert running.job.job_id.partition(".")[0] in shown


def test_not_in_any_process_of_the_node(bed: Bed, secrets: Secrets) -> None:
    """No process of the node was started with a secret in its environment or arguments."""
    sessions = 0
    for service in NODES[secrets.backend]:
        for index in range(1, len(bed.containers(service)) + 1):
            done = bed.exec(
                service,
                ["sh", "-c", "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null"],
                user="root",
                index=index,
            )
            assert not secrets.found_in(done.stdout), f"in a process of {service} {index}"
            sessions += done.stdout.count("ipykernel")
    # The search has eyes: it saw the kernel.
    assert sessions


def test_not_readable_by_somebody_else(
    secrets: Secrets, bob: Visitor, spawn: Callable[..., Spawn]
) -> None:
    """Another person's session sees no secret in any process, and cannot open the files."""
    client = bob.on(secrets.backend)
    spawn(client, secrets.backend)
    with Kernel.start(client) as kernel:
        seen = kernel.run(READ_PROC).stdout
        assert not secrets.found_in(seen)
        paths = [name for name in secrets.values if name.startswith("/")]
        opened = kernel.run(
            f"""
opened = []
for path in {paths!r}:
    try:
        open(path).read()
        opened.append(path)
    except OSError:
        pass
opened
"""
        ).value
    assert opened == "[]"


@pytest.mark.needs("htcondor")
def test_people_cannot_read_the_portals_queue(
    secrets: Secrets, bob: Visitor, spawn: Callable[..., Spawn]
) -> None:
    """Bob, in his own session, gets nothing of alice's jobs from the portal's access point."""
    client = bob.on("htcondor")
    spawn(client, "htcondor")
    with Kernel.start(client) as kernel:
        answer = kernel.run(
            """
import subprocess
argv = ["condor_q", "-name", "sched@condor-ap-hub", "-allusers", "-long"]
done = subprocess.run(argv, capture_output=True, text=True)
print(done.stdout + done.stderr)
"""
        ).stdout
    assert "AfServer" not in answer
    assert not secrets.found_in(answer)


def test_not_in_any_log(bed: Bed, secrets: Secrets) -> None:
    """No service has written a secret to its log."""
    for service in bed.services():
        if bed.health(service).ok:
            assert not secrets.found_in(bed.logs(service)), f"in the log of {service}"
