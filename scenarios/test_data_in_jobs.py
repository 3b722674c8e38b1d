"""Jobs that people submit from a session: they read data with a token that is renewed."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from testbed import data_jobs, faults
from testbed.bed import Bed
from testbed.hub_client import HubClient, Spawn
from testbed.kernels import Kernel
from testbed.logins import Visitor
from testbed.promises import expect_within

pytestmark = [pytest.mark.needs("data", "faults", "front_door"), pytest.mark.timeout(500)]

OWN = """
import hashlib, os
print(hashlib.sha256(open(os.environ["BEARER_TOKEN_FILE"], "rb").read()).hexdigest())
"""


@pytest.fixture
def session(alice: Visitor, spawn: Callable[..., Spawn]) -> Iterator[tuple[HubClient, Kernel]]:
    """Alice's server on the login node, with a data token, and a kernel in it."""
    client = alice.fetch_data_token("local")
    spawn(client, "local")
    with Kernel.start(client) as kernel:
        yield client, kernel


def reads_on(alice: Visitor, client: HubClient, kernel: Kernel, scheduler: str) -> None:
    """A running job has the session's token in a file of its own, and the next one after it."""
    with data_jobs.reading(client, kernel, scheduler) as reads:
        first = reads()[0]
        assert (first["code"], first["begins"]) == (0, "{"), first["said"]
        assert first["mode"] == "0o600"
        alice.fetch_data_token("local")  # a new one, well before the old one is at half its life
        assert data_jobs.missing(client, renew=True) == {}
        own = kernel.run(OWN).stdout.strip()
        assert own != first["token"]
        expect_within(180, lambda: reads()[-1]["tokens"] == 2, what="the job has the renewed token")
        assert [read["said"] for read in reads() if read["code"]] == []


@pytest.mark.needs("slurm")
def test_a_job_on_slurm_reads_with_a_token_that_is_renewed(
    alice: Visitor, session: tuple[HubClient, Kernel]
) -> None:
    """Also one that runs on while the session has a new token."""
    reads_on(alice, *session, "slurm")


STRANGER = """
import subprocess
def tried(*argv):
    done = subprocess.run(argv, capture_output=True, text=True)
    print(done.returncode, (done.stdout + done.stderr).replace("\\n", " "))
false = "/tmp/false-token"
with open(false, "w") as file:
    file.write("not.a.token")
tried("unmunge", "-i", "%s", "-m", "/dev/null")
tried("condor_store_cred", "query-oauth", "-s", "data", "-u", "alice@af.test")
tried("condor_store_cred", "add-oauth", "-s", "data", "-u", "alice@af.test", "-i", false)
tried("condor_store_cred", "delete-oauth", "-s", "data", "-u", "alice@af.test")
"""
SHOW = """
import os, pathlib, shutil, uuid
sealed = pathlib.Path.home() / ".local/state/afportal/data-token.munge"
assert oct(sealed.stat().st_mode & 0o777) == "0o600"
shown = f"/scratch/{uuid.uuid4().hex}"
shutil.copy(sealed, shown)
os.chmod(shown, 0o644)
print(shown)
"""

OPENED = """
import subprocess
argv = ["unmunge", "-i", "{}", "-m", "/dev/null"]
print(subprocess.run(argv, capture_output=True, text=True).stdout[:3])
"""


def test_what_is_handed_on_is_of_no_use_to_others(
    bed: Bed, session: tuple[HubClient, Kernel], bob: Visitor, spawn: Callable[..., Spawn]
) -> None:
    """Another person with a copy opens nothing, nor does root, and reaches nothing at the credd."""
    client, kernel = session
    expect_within(30, lambda: not data_jobs.missing(client), what="the token is handed on")
    shown = kernel.run(SHOW).stdout.strip()
    try:
        his = bob.on("local")
        spawn(his, "local")
        with Kernel.start(his) as stranger:
            opened, *stored = stranger.run(STRANGER % shown).stdout.splitlines()
        assert "Unauthorized credential" in opened
        assert "eyJ" not in opened
        assert len(stored) == 3
        for line in stored:
            assert line.startswith("1 "), line
            assert "not allowed" in line
        roots = bed.exec("login-node", ["unmunge", "-i", shown, "-m", "/dev/null"], user="root")
        assert (roots.ok, roots.stdout) == (False, "")
        # The search has eyes: she opens it.
        assert kernel.run(OPENED.format(shown)).stdout == "eyJ\n"
    finally:
        kernel.run(f"os.unlink('{shown}')")


# Submits a job of bob's that asks for a credential in one way or another, and prints what it got
# within two renewals: each file of its credentials, but for his own.
ASK = """
import pathlib, shutil, subprocess, tempfile, time
folder = pathlib.Path(tempfile.mkdtemp(dir=pathlib.Path.home(), prefix="asks-"))
(folder / "job.sh").write_text('''#!/bin/bash
# The starter writes below its folder, where a name leads out of it and back.
mkdir -p "$_CONDOR_SCRATCH_DIR/alice" "$_CONDOR_SCRATCH_DIR/.condor_creds/alice"
/usr/libexec/condor/condor_chirp set_job_attr OAuthServicesNeeded '"../alice/data"' 2>&1 | tail -1
for _ in {1..75}; do sleep 1; done  # until the credentials were asked for anew
find "$_CONDOR_SCRATCH_DIR" -name '*.use' -printf '%p %s\\n'
''')
(folder / "job.sh").chmod(0o755)
(folder / "job.sub").write_text(f'''
executable = {folder}/job.sh
output = {folder}/out
error = {folder}/error
should_transfer_files = NO
+WantIOProxy = true
+OAuthServicesNeeded = REQUESTED
queue
''')
def tried(*argv):
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)
done = tried("condor_submit", "-terse", str(folder / "job.sub"))
print(done.returncode, done.stderr[-200:])
job = done.stdout.split()[0]
"""
LATER = """
edited = tried("condor_qedit", job, "OAuthServicesNeeded", '"../alice/data"')
asked = tried("condor_q", job, "-af", "OAuthServicesNeeded").stdout.strip()
print(asked, "|", edited.returncode, (edited.stdout + edited.stderr).strip())
"""
GOT = """
out, error = folder / "out", folder / "error"
ended = not tried("condor_q", job, "-af", "JobStatus").stdout.strip()
print(ended, "|", out.read_text() if ended else "", error.read_text() if ended else "")
if ended:
    shutil.rmtree(folder)
"""


@pytest.mark.needs("htcondor")
def test_a_job_on_htcondor_reads_with_its_owners_token_and_no_other(
    alice: Visitor, session: tuple[HubClient, Kernel], bob: Visitor, spawn: Callable[..., Spawn]
) -> None:
    """Hers reads on while it is renewed. His get hers by no name that leads there: submitted, as
    an expression, edited, or set by the job itself."""
    client, kernel = session
    expect_within(30, lambda: not data_jobs.missing(client), what="alice's token is handed on")
    his = bob.on("local")
    spawn(his, "local")
    names = ('"../alice/data"', '(time() > 0) ? "../alice/data" : "data"')
    with contextlib.ExitStack() as kernels:
        asking = []
        for name in names:
            asker = kernels.enter_context(Kernel.start(his))
            assert asker.run(ASK.replace("REQUESTED", name)).stdout.startswith("0 ")
            asking.append(asker)
        for asker in asking:
            asked, _, edited = asker.run(LATER).stdout.partition(" | ")
            assert asked == "undefined"
            assert not edited.startswith("0 "), edited
        reads_on(alice, client, kernel, "htcondor")
        for asker in asking:
            last = ""

            def over(asker: Kernel = asker) -> bool:
                nonlocal last
                ended, _, last = asker.run(GOT).stdout.partition(" | ")
                return ended == "True"

            expect_within(240, over, what="the job is over")
            assert ".use" not in last


def test_a_scheduler_that_does_not_take_it_is_told(
    bed: Bed, session: tuple[HubClient, Kernel]
) -> None:
    """While the access point is away the session says so; then it has the token after all."""
    client, _ = session
    expect_within(30, lambda: not data_jobs.missing(client), what="the token is handed on")
    with faults.stop(bed, "condor-ap"):
        missing = data_jobs.missing(client, renew=True)
        assert set(missing) - {"htcondor"} == {"data for htcondor jobs"}
        assert "tried again" in missing["data for htcondor jobs"]
    expect_within(
        60,
        lambda: not data_jobs.missing(client, renew=True),
        what="the token is handed on after all",
    )
