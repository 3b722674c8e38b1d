"""A notebook's functions and jobs on both schedulers, and what is left when something dies."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed import faults, notebooks, on_demand
from testbed.bed import Bed
from testbed.hub_client import HubClient, Spawn
from testbed.kernels import Kernel
from testbed.logins import Visitor
from testbed.promises import expect_within
from testbed.site import Person, Site

pytestmark = [pytest.mark.needs("htcondor", "slurm"), pytest.mark.timeout(500)]

FOLDER = Path(__file__).parent / "notebooks" / "maps"


@pytest.fixture
def client(alice: Visitor, spawn: Callable[..., Spawn]) -> HubClient:
    """Alice with a server on the login node, from which both schedulers are reached."""
    found = alice.on("local")
    spawn(found, "local")
    return found


@pytest.fixture
def kernel(client: HubClient) -> Iterator[Kernel]:
    """A kernel in it."""
    with Kernel.start(client) as found:
        yield found


@pytest.mark.parametrize("name", ["gridscan_jobs", "planted_failures", "verbs"])
def test_a_notebook_uses_both_schedulers(client: HubClient, name: str, run_folder: Path) -> None:
    """Nine jobs of a grid scan; a map with planted failures, made again; all verbs of a map."""
    notebook = notebooks.read(FOLDER / f"{name}.ipynb")
    notebooks.run(notebook, client, copy=run_folder / f"{name}.ipynb")


# A map whose calls wait until the number in a file says that it is their turn.
BEGIN = """
import os, time
from pathlib import Path
from afportal import maps
turn = Path.home() / "map-goes-on"
turn.write_text("2")
def gated(x):
    for _ in range(1200):
        if x < int(turn.read_text() or 0):
            return x * 10
        time.sleep(0.1)
    raise TimeoutError("nobody let it go on")
for scheduler in ("htcondor", "slurm"):
    tag = f"killed-{scheduler}"
    if tag in maps.tags():
        maps.remove(tag)
    one = maps.map(gated, range(6), tag=tag, scheduler=scheduler, memory_mib=128)
    assert [one.get(0, 90), one.get(1, 90)] == [0, 10]
print("begun")
"""
PICK_UP = """
import json
from pathlib import Path
from afportal import maps
found = {s: maps.load(f"killed-{s}") for s in ("htcondor", "slurm")}
before = {s: one.partial() for s, one in found.items()}
(Path.home() / "map-goes-on").write_text("6")
after = {s: list(one.wait(90)) for s, one in found.items()}
sent = {s: one.ids for s, one in found.items()}
print(json.dumps([begun, before, after, {s: len(ids) for s, ids in sent.items()}]))
for one in found.values():
    one.remove()
(Path.home() / "map-goes-on").unlink()
"""
RESULTS = """
import os, pwd
from pathlib import Path
home = Path(pwd.getpwuid(os.getuid()).pw_dir)
(home / "map-goes-on").write_text("4")
maps = home / ".local/share/afportal/maps"
print(sum(r.name.isdecimal() for s in ("htcondor", "slurm")
          for r in (maps / f"killed-{s}/results").iterdir()))
"""


@pytest.mark.needs("faults")
def test_a_map_outlives_its_kernel_and_the_hub(bed: Bed, site: Site, client: HubClient) -> None:
    """Both are killed in its middle: it goes on without them, a kernel of before lives, and picks
    it up with what was found meanwhile; nothing is sent twice."""
    first = Kernel.start(client)
    assert first.run(BEGIN, timeout_s=200).stdout == "begun\n"
    first.ask_to_run("os.kill(os.getpid(), 9)")
    first.shut_down()
    with Kernel.start(client) as second:
        second.run("import os; begun = os.getpid()")
        begun = int(second.run("print(begun)").stdout)
        with faults.kill(bed, f"hub-{client.instance}"):
            expect_within(
                60,
                lambda: results(bed, site.person(client.user)) == 8,
                what="four results of each scheduler's map, while there is no hub",
            )
        expect_within(
            30,
            lambda: client.servers().get("", {}).get("ready"),
            what="the hub knows the server again",
        )
        told, before, after, sent = json.loads(second.run(PICK_UP, timeout_s=200).stdout)
    assert told == begun
    for scheduler in ("htcondor", "slurm"):
        assert before[scheduler] == {"0": 0, "1": 10, "2": 20, "3": 30}
        assert after[scheduler] == [0, 10, 20, 30, 40, 50]
        assert sent[scheduler] == 1


def results(bed: Bed, person: Person) -> int:
    """Let the next calls go on, and count the results of both maps in the person's home."""
    done = bed.exec("login-node", ["python3", "-c", RESULTS], user=f"{person.uid}:{person.gid}")
    assert done.ok, done.stderr
    return int(done.stdout)


AWAY = """
from afportal import jobs, maps
def double(x):
    return 2 * x
for tag in {"away-htcondor", "away-slurm"} & set(maps.tags()):
    maps.remove(tag)
"""
REFUSED = """
try:
    maps.map(double, range(3), tag="away-%(s)s", scheduler="%(s)s", memory_mib=128)
except maps.NotSubmitted as error:
    print(error)
"""
BACK = """
one = maps.load("away-%(s)s")
assert one.rerun() == 3, one.status()
print(list(one.wait(120)))
one.remove()
"""


@pytest.mark.needs("faults")
@pytest.mark.parametrize(
    ("scheduler", "service"), [("htcondor", "condor-ap"), ("slurm", "slurmctld")]
)
def test_a_map_outlives_a_scheduler_that_is_away(
    bed: Bed, kernel: Kernel, scheduler: str, service: str
) -> None:
    """The map is kept and said not to be sent; once the scheduler is back one call sends it."""
    kernel.run(AWAY)
    with faults.kill(bed, service):
        said = kernel.run(REFUSED % {"s": scheduler}, timeout_s=120).stdout
    assert "is kept, its jobs are not sent" in said
    assert f"maps.load('away-{scheduler}').rerun()" in said
    assert kernel.run(BACK % {"s": scheduler}, timeout_s=180).stdout == "[0, 2, 4]\n"


SPOOLED = """
import os
os.environ |= {"_CONDOR_SCHEDD_HOST": "sched@condor-ap-remote",
               "_CONDOR_CREDD_HOST": "condor-ap-remote:9620", "_CONDOR_AF_SPOOL_JOBS": "True"}
from afportal import jobs, maps
if "spooled" in maps.tags():
    maps.remove("spooled")
OFFSET = 5
def inverse(x):
    return OFFSET + 10 / x
one = maps.map(inverse, [5, 0, 2], tag="spooled", memory_mib=128, data_token=False)
try:
    one.wait(120)
except maps.CallFailed as failed:
    print("ZeroDivisionError" in str(failed), one.partial())
one.remove()
job = jobs.Job(executable="/bin/sh", arguments=["-c", "cat given > made; pwd"], memory_mib=128,
               input_files=["given"], output_files=["made"], data_token=False)
open("given", "w").write("sent")
ended = job.submit().wait(120)
print(ended.state, open("made").read(), job.output.startswith("/home"))
"""


SPOOLED_WORKER = """
from afportal.dask import HTCondorCluster
import htcondor2
schedd = htcondor2.Schedd(htcondor2.Collector().locate(
    htcondor2.DaemonType.Schedd, "sched@condor-ap-remote"))
with HTCondorCluster(n_workers=1) as cluster, cluster.get_client() as client:
    print(client.submit(sum, [20, 22]).result(timeout=120),
          next(iter(client.scheduler_info()["workers"])).startswith("tls://"),
          len(schedd.query("DaskWorkerName isnt undefined")))
for _ in range(100):
    if not (left := schedd.query("DaskWorkerName isnt undefined")):
        break
    __import__("time").sleep(0.2)
print(len(left))
"""


@pytest.mark.needs("faults")
def test_a_map_a_job_and_a_worker_are_spooled(bed: Bed, kernel: Kernel) -> None:
    """At an access point that shares no files, function, inputs, results and files travel; a Dask
    worker comes from there as well, and leaves nothing in its queue."""
    with on_demand.services(bed, "remote", ["condor-ap-remote"]):
        said = kernel.run(SPOOLED, timeout_s=300).stdout.splitlines()
        worker = kernel.run(SPOOLED_WORKER, timeout_s=300).stdout.splitlines()
    assert said == ["True {0: 7.0, 2: 10.0}", "completed sent False"]
    assert worker == ["42 True 1", "0"]
