"""An access point that shares no files with anybody: jobs are spooled, sent, and fetched."""

import json
from collections.abc import Callable, Iterator

import pytest

from testbed import on_demand
from testbed.bed import Bed
from testbed.hub_client import HubClient
from testbed.kernels import Kernel
from testbed.logins import Visitor
from testbed.promises import expect_within

pytestmark = [pytest.mark.needs("data", "faults", "htcondor"), pytest.mark.timeout(300)]

SERVICE = "condor-ap-remote"
# What a session is told where portal.yaml has `credentials.access_point`.
TOLD = {
    "_CONDOR_SCHEDD_HOST": f"sched@{SERVICE}",
    "_CONDOR_CREDD_HOST": f"{SERVICE}:9620",
    "_CONDOR_AF_SPOOL_JOBS": "True",
}
PREPARE = f"""
import json, os, pathlib, subprocess, tempfile
os.environ |= {TOLD!r}
def tried(*argv, folder="."):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=folder)
    return done.returncode, done.stdout.strip(), done.stderr.strip()
"""
SUBMIT = """
folder = pathlib.Path(tempfile.mkdtemp(dir=pathlib.Path.home(), prefix="spooled-"))
(folder / "numbers").write_text("3\\n4\\n5\\n")
(folder / "job.sh").write_text('''#!/bin/bash
awk '{ sum += $1 } END { print sum }' numbers > sum
[ "$PWD" = "$_CONDOR_SCRATCH_DIR" ] && echo sandbox
stat -c '%a %U' "$BEARER_TOKEN_FILE"
''')
(folder / "job.sub").write_text('''
executable = job.sh
transfer_input_files = numbers
transfer_output_files = sum
use_oauth_services = data
output = out
error = error
log = log
queue
''')
token = os.environ["BEARER_TOKEN_FILE"]
stored = tried("condor_store_cred", "add-oauth", "-s", "data", "-i", token)
assert stored[0] == 0, stored
refused = [
    tried("condor_submit", "job.sub", folder=folder),
    tried("condor_submit", "-spool", "/dev/null", "-append", "executable = /bin/true", "-append",
          "transfer_executable = False", "-append", "should_transfer_files = NO", "-queue", "1"),
]
code, job, said = tried("condor_submit", "-spool", "-terse", "job.sub", folder=folder)
assert code == 0, said
job = job.split()[0]
print(json.dumps({"job": job, "spools": tried("condor_config_val", "AF_SPOOL_JOBS")[1],
                  "refused": refused}))
"""
STATE = """
print(tried("condor_q", job, "-af", "JobStatus", "ShouldTransferFiles", "Iwd")[1])
"""
FETCH = """
before = sorted(path.name for path in folder.iterdir())
code, _, said = tried("condor_transfer_data", job, folder=folder)
assert code == 0, said
waited = tried("condor_wait", "-wait", "5", "log", folder=folder)
tried("condor_rm", job)
texts = {name: (folder / name).read_text() for name in ("sum", "out", "error")}
print(json.dumps({"before": before, "waited": waited[0], **texts}))
"""
STEAL = """
folder = tempfile.mkdtemp()
print(json.dumps([tried(*argv, JOB, folder=folder) + (os.listdir(folder),) for argv in
                  (("condor_transfer_data",), ("condor_rm",))]))
"""
FORGET = """
import shutil
tried("condor_rm", job)
shutil.rmtree(folder, ignore_errors=True)
"""


@pytest.fixture
def remote(bed: Bed) -> Iterator[Bed]:
    """The testbed with that access point in it."""
    with on_demand.services(bed, "remote", [SERVICE]) as beside:
        yield beside


@pytest.fixture
def kernels(
    alice: Visitor, bob: Visitor, kernel_at: Callable[[HubClient, str], Kernel]
) -> tuple[Kernel, Kernel]:
    """A kernel of alice's, who has a data token, and one of bob's; both know the access point."""
    hers = kernel_at(alice.fetch_data_token("local"), "local")
    his = kernel_at(bob.on("local"), "local")
    for kernel in (hers, his):
        kernel.run(PREPARE)
    return hers, his


def test_a_job_runs_at_an_access_point_that_sees_no_home(
    remote: Bed, kernels: tuple[Kernel, Kernel]
) -> None:
    """From a session by its own token: input goes, output comes back to its owner alone; what
    cannot work there is refused in words."""
    own, strangers = kernels
    mounts = {mount["Destination"] for mount in remote.container(SERVICE).attrs["Mounts"]}
    assert not mounts & {"/home", "/experiments", "/scratch"}
    assert remote.exec(SERVICE, ["ls", "-A", "/home"]).stdout == ""

    submitted = json.loads(own.run(SUBMIT, timeout_s=150).stdout)
    assert submitted["spools"] == "True"
    for (code, _, said), cure in zip(
        submitted["refused"], ("condor_submit -spool", "should_transfer_files = YES"), strict=True
    ):
        assert code != 0
        assert cure in said

    def completed() -> list[str] | None:
        told = own.run(STATE).stdout.split()
        return told if told[0] == "4" else None

    try:
        seen = expect_within(120, completed, what=f"job {submitted['job']} of {SERVICE} is over")
        assert seen[1] == "YES"
        assert seen[2].startswith("/var/spool/condor/")

        stolen, removed = json.loads(
            strangers.run(STEAL.replace("JOB", repr(submitted["job"]))).stdout
        )
        # HTCondor's command ends well where it may fetch nothing.
        assert stolen[-1] == []
        assert (removed[0] != 0, removed[-1]) == (True, [])
        fetched = json.loads(own.run(FETCH, timeout_s=150).stdout)
    finally:
        own.run(FORGET)
    assert fetched["before"] == ["job.sh", "job.sub", "numbers"]
    assert (fetched["sum"], fetched["error"]) == ("12\n", "")
    assert fetched["out"].splitlines() == ["sandbox", "600 alice"]
    assert fetched["waited"] == 0  # the log that came says that the job is over
