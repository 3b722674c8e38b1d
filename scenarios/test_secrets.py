"""No secret of a session is where somebody else can read it: a search for each by its value."""

import contextlib
import json
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from testbed import data_jobs, evidence
from testbed.bed import Bed
from testbed.hub_client import Spawn
from testbed.kernels import Kernel
from testbed.logins import Visitor
from testbed.secret import Secret
from testbed.sessions import Session
from testbed.site import Site

pytestmark = pytest.mark.needs("faults")

NODES = {"htcondor": ("condor-ep",), "slurm": ("slurm-node",)}

# What a session has at least.
NEEDED = (
    "jupyterhub_token",
    "data/token",
    "slurm/token",
    "portal",
    "dask/worker.key",
    "tls/server.key",
)
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
# The same paths as somebody else sees them, and the ways around a job's own folder: the
# schedulers' places for it, and the view that each process has of the file system.
OPEN = """
import glob, os
behind = ("/var/lib/condor/execute/dir_*", "/run/af-sessions/*",
          "/proc/[0-9]*/root/etc/cmsaf-secrets", "/proc/[0-9]*/root/run/af-sessions")
places = [place for pattern in behind for place in glob.glob(pattern)] + [os.environ["AF_SECRETS"]]
found = [os.path.join(where, name) for place in places
         for where, _, names in os.walk(place) for name in names]
for path in PATHS + found:
    try:
        print(path, open(path).read())
    except (OSError, UnicodeDecodeError):
        pass
"""


@dataclass(frozen=True)
class Secrets:
    """The values that must not be found, by the file that rightly holds them."""

    backend: str
    values: dict[str, Secret]
    patterns: Path  # one line of each, for grep

    def found_in(self, text: str) -> list[str]:
        """Which secrets a text holds; their names, never their values."""
        return [name for name, value in self.values.items() if telling(value) in text]

    def found_in_stream(self, chunks: Iterable[bytes]) -> tuple[list[str], int]:
        """Which secrets an archive holds, by name, and how many bytes were searched."""
        size = 0
        with subprocess.Popen(
            ["grep", "-aoFf", str(self.patterns)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"LC_ALL": "C"},
        ) as grep:  # fmt: skip
            assert grep.stdin
            assert grep.stdout
            for chunk in chunks:
                grep.stdin.write(chunk)
                size += len(chunk)
            grep.stdin.close()
            matched = grep.stdout.read().decode()
        return self.found_in(matched), size


def telling(value: str) -> str:
    """The line that tells a secret: the longest, for a key in PEM has a first and a last one."""
    return max(value.splitlines(), key=len)


@pytest.fixture
def secrets(running: Session, site: Site, tmp_path: Path) -> Iterator[Secrets]:
    """The secrets of alice's running session, and the token that she made for herself.

    A job that she submitted from there is running too, with her data token.
    """
    found = json.loads(running.kernel.run(READ_SECRETS).stdout)
    # A certificate may be seen by all, and so may the list of what is missing, the facility's
    # kernels, and the environments that it offers.
    values = {
        name: Secret(value)
        for name, value in found.items()
        if not name.endswith((".pem", "/problems", "/kernel.json", "/environments.json"))
    }
    for name in NEEDED:
        assert any(path.endswith(f"/{name}") for path in values), name
    values["her API token"] = running.client.token
    patterns = tmp_path / "patterns"
    patterns.touch(mode=0o600)
    patterns.write_text("".join(f"{telling(value)}\n" for value in values.values()))
    with contextlib.ExitStack() as stack:
        if "data" in site.needs:
            stack.enter_context(data_jobs.reading(running.client, running.kernel, running.backend))
        yield Secrets(running.backend, values, patterns)


def test_not_in_what_schedulers_show(bed: Bed, running: Session, secrets: Secrets) -> None:
    """No job ad, job record, script or history holds a secret, not even for root."""
    looks = {
        "htcondor": [
            ("condor-ap-hub", ["condor_q", "-allusers", "-long"]),
            ("condor-ap-hub", ["condor_history", "-long", "-limit", "50"]),
            ("condor-ap", ["condor_q", "-allusers", "-long"]),
            ("condor-ap", ["condor_history", "-long", "-limit", "50"]),
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
        seen = kernel.run(OPEN.replace("PATHS", repr(paths))).stdout
    assert not secrets.found_in(seen)
    # The search has eyes: he reads what is his own.
    assert "jupyterhub_token" in seen


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


# What each service keeps on disk of jobs and sessions, and what it must hold that was seen.
KEPT = {
    "htcondor": {
        "condor-ap-hub": ("/var/lib/condor", "/var/log/condor"),
        "condor-cm": ("/var/lib/condor", "/var/log/condor"),
        "condor-ap": ("/var/spool/condor", "/var/log/condor"),
    },
    "slurm": {
        "slurmctld": ("/var/lib/slurm",),
        "slurmrestd": ("/var/log",),
        "mariadb": ("/var/lib/mysql",),
    },
}
SHARED = ("/home", "/experiments", "/scratch")


def test_not_on_any_disk(bed: Bed, running: Session, secrets: Secrets) -> None:
    """No spool, state, script, accounting or shared folder holds a secret; nor does the hub's
    database, where everything that renews one is encrypted."""
    places = {
        **KEPT[secrets.backend],
        "login-node": SHARED,
        f"hub-{running.client.instance}": ("/srv/hub/data/jupyterhub.sqlite",),
    }
    for service, paths in places.items():
        for path in paths:
            chunks, _ = bed.container(service).get_archive(path)
            found, size = secrets.found_in_stream(chunks)
            # The code was used once and is void; the credd has it until the job is gone.
            found = [name for name in found if "/.condor_creds/" not in name]
            assert not found, f"in {path} of {service}"
            assert size, f"nothing was searched in {path} of {service}"
    chunks, _ = bed.container(f"hub-{running.client.instance}").get_archive(
        "/srv/hub/data/jupyterhub.sqlite"
    )
    database = b"".join(chunks)
    assert b"af_offline_tokens" in database
    in_the_clear = re.search(rb"eyJ[\w-]{8,}\.eyJ", database)
    assert not in_the_clear, "a JSON web token in the clear in the hub's database"


@pytest.mark.soak
@pytest.mark.needs("htcondor")
@pytest.mark.parametrize("batch_backend", ["htcondor"])  # one session's will do
def test_not_in_any_image(bed: Bed, secrets: Secrets) -> None:
    """No layer of an image holds a secret of the running facility."""
    images = sorted(bed.compose.images(bed.compose.services))
    with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as save:
        stream = save.stdout
        assert stream
        found, size = secrets.found_in_stream(iter(lambda: stream.read(1 << 20), b""))
    assert save.returncode == 0
    assert not found
    assert size > 1 << 30


def test_not_in_what_is_kept_as_evidence(bed: Bed, secrets: Secrets, tmp_path: Path) -> None:
    """What a failure leaves for others to read has every log and queue, and no secret."""
    folder = tmp_path / "evidence"
    evidence.collect(bed, folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        assert not secrets.found_in(path.read_text(errors="replace")), path.name
