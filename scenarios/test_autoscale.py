"""A pool that grows with its queue and shrinks after it, and loses no job by that."""

import collections
import contextlib
import json
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest

from testbed import autoscale
from testbed.bed import Bed
from testbed.errors import TestbedError
from testbed.promises import expect_within
from testbed.site import Person, Site

pytestmark = [pytest.mark.needs("faults", "htcondor"), pytest.mark.timeout(400)]

JOBS = 100
# Of 1 to 5 s. A quarter of an execution point each: the reserved ones hold eight at a time.
LINES = """
executable = /bin/bash
arguments = "-c 'echo $(Process) `uname -n` >> ran; exec sleep $INT(seconds)'"
seconds = $(Process) % 5 + 1
request_cpus = 2
request_memory = 64MB
should_transfer_files = NO
log = log
"""


@pytest.fixture
def folder(bed: Bed, site: Site) -> Iterator[tuple[Person, str]]:
    """Alice, and a folder in her home; her jobs of it are gone at the end."""
    alice = site.person("alice")
    path = f"/home/{alice.name}/burst-{uuid.uuid4().hex[:8]}"
    as_person(bed, alice, "mkdir", path)
    yield alice, path
    bed.exec("condor-ap", ["condor_rm", "-constraint", f'Iwd == "{path}"'], user="root")
    bed.exec("condor-ap", ["rm", "-rf", path], user="root")


def as_person(bed: Bed, person: Person, *argv: str, timeout_s: float = 60) -> str:
    """What a person's command at the access point prints."""
    done = bed.exec("condor-ap", argv, user=f"{person.uid}:{person.gid}", timeout_s=timeout_s)
    if not done.ok:
        raise TestbedError(f"{argv[0]} on condor-ap failed", seen=done.stderr.strip()[-800:])
    return done.stdout


@contextlib.contextmanager
def scaling(bed: Bed, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """`testbed autoscale` beside this; told to end if it still runs."""
    argv = [sys.executable, "-m", "testbed", "autoscale", "--json", "--project", bed.project]
    process = subprocess.Popen(
        [*argv, *options], env=dict(bed.settings.environ), stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=120)


@pytest.mark.soak
def test_a_hundred_jobs_on_a_pool_that_grows_and_shrinks(
    bed: Bed, folder: tuple[Person, str]
) -> None:
    """None is lost or run twice, though execution points came for them and went after them."""
    alice, path = folder
    before = set(bed.summaries())
    with scaling(bed, "--ceiling", "2", "--idle", "8", "--every", "1") as scaler:
        lines = [line for line in LINES.splitlines() if line]
        words = [word for line in [f"initialdir = {path}", *lines] for word in ("-append", line)]
        submit = ["condor_submit", "-terse", "/dev/null", *words, "-queue", str(JOBS)]
        cluster = as_person(bed, alice, *submit).split(".")[0]
        as_person(bed, alice, "condor_wait", "-wait", "240", f"{path}/log", timeout_s=250)
        pool = autoscale.BurstPool(bed)
        # Nobody tells it to: that nobody uses them is enough.
        expect_within(90, lambda: not pool.burst(), what="the burst execution points are gone")
        scaler.send_signal(signal.SIGINT)
        told = json.loads(scaler.communicate(timeout=60)[0])

    ran = [line.split() for line in as_person(bed, alice, "cat", f"{path}/ran").splitlines()]
    times = collections.Counter(number for number, _ in ran)
    assert times == dict.fromkeys(map(str, range(JOBS)), 1)
    assert {host for _, host in ran if host.startswith(autoscale.SERVICE)}
    starts = as_person(
        bed, alice, "condor_history", cluster, "-limit", str(JOBS),
        "-af", "NumJobStarts", "JobRunCount", "ExitCode",
    ).splitlines()  # fmt: skip
    assert collections.Counter(starts) == {"1 1 0": JOBS}

    figures = told["figures"]
    assert (told["ok"], told["left"]) == (True, [])
    assert figures["eps_added"] == figures["eps_removed"] > 0
    assert 0 < figures["eps_most"] <= 2
    assert set(bed.summaries()) == before
