"""Dask from a notebook: clusters whose workers are jobs of HTCondor or Slurm."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from testbed import pages
from testbed.browser import Browser
from testbed.dask_sessions import DaskSession
from testbed.guests import Guest
from testbed.hub_client import HubClient
from testbed.kernels import Kernel
from testbed.logins import Logins, Visitor
from testbed.promises import expect_within
from testbed.site import Site

pytestmark = [pytest.mark.needs("data", "faults", "front_door"), pytest.mark.timeout(400)]

CLUSTERS = {"htcondor": "HTCondorCluster", "slurm": "SLURMCluster"}


SHORT_LIVED = """
import time
from afportal.dask import HTCondorCluster, SLURMCluster
short = [each(walltime="1m", n_workers=1) for each in (HTCondorCluster, SLURMCluster)]
clients = [cluster.get_client() for cluster in short]
for client in clients:
    client.wait_for_workers(1, timeout=100)
first = [set(client.scheduler_info()["workers"]) for client in clients]
kept = [client.submit(lambda n: n * 7, 6, pure=False) for client in clients]
"""
LATER = """
def all_new():
    now = [set(client.scheduler_info()["workers"]) for client in clients]
    return all(now) and not any(old & new for old, new in zip(first, now))
end = time.monotonic() + 150
while not all_new() and time.monotonic() < end:
    time.sleep(0.2)
assert all_new(), [client.scheduler_info()["workers"].keys() for client in clients]
assert [client.submit(sum, [n]).result(timeout=60) for client, n in zip(clients, kept)] == [42, 42]
import pathlib
for cluster in short:
    logs = pathlib.Path.home() / ".local/state/afportal/dask" / cluster.name
    print("lifetime" in " ".join(path.read_text() for path in logs.glob("*.err")))
"""


@pytest.fixture(scope="module")
def short_lived(alices: DaskSession) -> Iterator[DaskSession]:
    """A second kernel of alice's, with clusters whose jobs have a minute; looked at at the end."""
    with Kernel.start(alices.client) as kernel:
        session = DaskSession(alices.client, kernel)
        session.run(SHORT_LIVED)
        yield session
        # Nobody has read from it for minutes, and so nobody has answered its pings.
        kernel.reconnect()
        session.run("for each in clients + short: each.close()")


ARRAY_AND_FRAME = """
import dask.array as da, dask.dataframe as dd, numpy as np, pandas as pd
cluster.scale(2)
client.wait_for_workers(2, timeout=100)
x = da.arange(2_000_000, chunks=250_000)
assert (x ** 2).sum().compute() == (np.arange(2_000_000) ** 2).sum()
frame = pd.DataFrame({"kind": [n % 7 for n in range(10_000)], "value": range(10_000)})
found = dd.from_pandas(frame, npartitions=8).groupby("kind")["value"].sum().compute()
assert found.sort_index().tolist() == frame.groupby("kind")["value"].sum().tolist()
"""
# What was scattered cannot be computed again: it must have moved.
SCALE_DOWN = """
names = {w["name"]: address for address, w in client.scheduler_info()["workers"].items()}
kept = [client.scatter(n, workers=[at], hash=False) for n, at in enumerate(names.values())]
cluster.scale(1)
import time
end = time.monotonic() + 60
while len(client.scheduler_info()["workers"]) > 1 and time.monotonic() < end:
    time.sleep(0.1)
assert len(client.scheduler_info()["workers"]) == 1
assert client.gather(kept) == [0, 1]
"""
ON_A_WORKER = """
def look():
    import os, stat, socket, subprocess, sys
    files = {n: v for n, v in os.environ.items() if n.startswith("DASK_DISTRIBUTED__COMM__TLS__")}
    modes = {oct(stat.S_IMODE(os.stat(path).st_mode)) for path in files.values()}
    url = "root://xcache//data/cms/met/manifest.json"
    done = subprocess.run(["xrdcp", "-f", "--silent", url, "-"], capture_output=True, text=True)
    import fsspec
    with fsspec.open(url) as file:
        begins = file.read(1).decode()
    with open("/proc/self/environ") as file:
        environment = file.read()
    return {"modes": sorted(modes), "files": sorted(files), "xrdcp": done.stdout[:1],
            "said": done.stderr, "begins": begins, "python": sys.executable,
            "node": socket.gethostname(), "folder": os.getcwd(),
            "key in environment": "PRIVATE KEY" in environment}
import json, os, sys
seen = client.submit(look, pure=False).result(timeout=60)
seen["same python"] = seen["python"] == sys.executable
seen["same folder"] = seen["folder"] == os.getcwd()
seen["tls"] = all(a.startswith("tls://") for a in client.scheduler_info()["workers"])
print(json.dumps(seen))
"""


# Looked at below: test_workers_leave_before_their_jobs_are_ended
@pytest.mark.usefixtures("short_lived")
@pytest.mark.needs("htcondor", "slurm")
@pytest.mark.parametrize("scheduler", CLUSTERS)
def test_arrays_and_frames(alices: DaskSession, scheduler: str) -> None:
    """Two workers compute as numpy and pandas do; a removed one's data stay; its node has all."""
    with alices.cluster(CLUSTERS[scheduler]) as cell:
        cell(ARRAY_AND_FRAME)
        cell(SCALE_DOWN)
        seen = json.loads(cell(ON_A_WORKER))
        assert seen["modes"] == ["0o600"]
        assert len(seen["files"]) == 5
        assert (seen["xrdcp"], seen["begins"]) == ("{", "{"), seen["said"]
        assert seen["key in environment"] is False
        assert (seen["same python"], seen["same folder"], seen["tls"]) == (True, True, True)
        assert seen["node"].startswith({"htcondor": "condor-ep", "slurm": "slurm-node"}[scheduler])
        jobs = expect_within(
            60,
            lambda: found if len(found := alices.jobs(scheduler)) == 1 else None,
            what="the removed worker's job is gone",
        )
        assert "PRIVATE KEY" not in jobs[0]
    expect_within(60, lambda: not alices.jobs(scheduler), what="no job is left of the cluster")


ADAPTIVE = """
import time
def count():
    return len(client.scheduler_info(n_workers=-1)["workers"])
def until(wanted, seconds):
    end = time.monotonic() + seconds
    while not wanted(count()) and time.monotonic() < end:
        time.sleep(0.1)
    assert wanted(count()), count()
assert count() == 0
cluster.adapt(maximum=2, interval="200 ms", wait_count=2)
def slow(n):
    time.sleep(0.5)
    return n * n
futures = client.map(slow, range(24), pure=False)
until(lambda n: n == 2, 90)
assert client.gather(futures) == [n * n for n in range(24)]
del futures
until(lambda n: n == 0, 60)
assert client.submit(slow, 5, pure=False).result(timeout=90) == 25
"""


@pytest.mark.needs("htcondor", "slurm")
@pytest.mark.parametrize("scheduler", CLUSTERS)
def test_adaptive_from_none(alices: DaskSession, scheduler: str) -> None:
    """Workers come with work, go without, and come again."""
    with alices.cluster(CLUSTERS[scheduler]) as cell:
        cell(ADAPTIVE)


KILLED = """
import os, signal, time
cluster.scale(2)
client.wait_for_workers(2, timeout=100)
def parents():
    import os
    return os.getppid()
victims = client.run(parents)
address, nanny = sorted(victims.items())[0]
name = client.scheduler_info()["workers"][address]["name"]
def slow(n):
    time.sleep(0.2)
    return n + 1
futures = client.map(slow, range(60), pure=False)
held = client.map(lambda n: n * 10, range(8), pure=False)
first = client.gather(held)
# The job's first process: the scheduler ends what is left of it.
# Kept, or it would be given up before it runs.
killing = client.submit(os.kill, nanny, signal.SIGKILL, workers=[address], pure=False, priority=100)
assert sum(client.gather(futures)) == sum(range(1, 61))
assert client.gather(held) == first == [n * 10 for n in range(8)]
end = time.monotonic() + 90
def arrived():
    workers = client.scheduler_info()["workers"]
    return [a for a, w in workers.items() if w["name"] == name and a != address]
while not arrived() and time.monotonic() < end:
    time.sleep(0.2)
assert arrived(), client.scheduler_info()["workers"].keys()
del killing
"""


@pytest.mark.needs("htcondor", "slurm")
@pytest.mark.parametrize("scheduler", CLUSTERS)
def test_a_worker_that_is_killed_is_replaced(alices: DaskSession, scheduler: str) -> None:
    """Its job dies in the middle of the work: the result is right, and another job comes."""
    options = "silence_logs=50"
    with alices.cluster(CLUSTERS[scheduler], options) as cell:
        cell("import dask; dask.config.set({'distributed.deploy.lost-worker-timeout': '2s'})")
        cell(KILLED)


STRANGER = """
import os, socket, ssl
from distributed import Client
from distributed.security import Security
host, port = "{address}".removeprefix("tls://").split(":")
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
def knock(who):
    try:
        with socket.create_connection((host, int(port)), 30) as plain:
            with context.wrap_socket(plain) as stranger:
                print(who, "got", stranger.recv(1))
    except ssl.SSLError as error:
        print(who, error.reason)
knock("without a certificate:")
context.load_cert_chain(os.environ["DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT"],
                        os.environ["DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY"])
knock("with another session's:")
try:
    Client("{address}", security=Security(require_encryption=True), timeout="4s")
    print("Dask's client: connected")
except OSError as error:
    print("Dask's client: refused")
try:
    Client("tcp://" + "{address}".removeprefix("tls://"), timeout="3s")
    print("in the clear: connected")
except OSError as error:
    print("in the clear: refused")
"""


@pytest.mark.needs("htcondor")
def test_another_persons_cluster_is_closed(site: Site, logins: Logins, alices: DaskSession) -> None:
    """Without a certificate, with bob's own, and without TLS: nobody comes in, alice does."""
    with (
        alices.cluster("HTCondorCluster") as cell,
        DaskSession.begin(site, Visitor("bob", logins), "local") as bobs,
    ):
        address = cell("print(cluster.scheduler_address)").strip()
        assert address.startswith("tls://")
        seen = bobs.run(STRANGER.replace("{address}", address))
        assert "without a certificate: TLSV13_ALERT_CERTIFICATE_REQUIRED" in seen, seen
        assert "with another session's: TLSV1_ALERT_UNKNOWN_CA" in seen, seen
        assert "Dask's client: refused" in seen
        assert "in the clear: refused" in seen
        assert "connected" in cell(
            "import subprocess, sys\n"
            "code = 'from distributed import Client, Security; import sys; '\\\n"
            "    'Client(sys.argv[1], timeout=20); print(\"connected\")'\n"
            "print(subprocess.run([sys.executable, '-c', code, cluster.scheduler_address],\n"
            "      capture_output=True, text=True).stdout)"
        )


@pytest.mark.needs("htcondor", "slurm")
def test_from_a_session_on_slurm(site: Site, logins: Logins) -> None:
    """Wherever the session runs, both kinds of cluster work."""
    with DaskSession.begin(site, Visitor("carol", logins), "slurm") as carols:
        for kind in CLUSTERS.values():
            with carols.cluster(kind) as cell:
                cell("cluster.scale(1)\nassert client.submit(sum, [1, 2]).result(timeout=100) == 3")


def clusters(logins: Logins, server: str) -> dict[str, Any]:
    """What the side bar of erin's server shows: each cluster by its name."""
    answer = logins.browser("erin").get(f"{server}/dask/clusters", timeout=60)
    answer.raise_for_status()
    return {cluster["name"]: cluster for cluster in answer.json()}


SIDE_BAR_CLIENT = "from dask.distributed import Client; client = Client('{address}', timeout=60); "


@pytest.mark.needs("htcondor")
@pytest.mark.timeout(600)
def test_the_side_bar(
    site: Site,
    logins: Logins,
    chromium: Callable[[str], Browser],
    stopped_after: Callable[..., HubClient],
    come_in: Callable[..., Guest],
) -> None:
    """An entry for each scheduler, which costs nothing until a cell connects; then it works,
    and its pages are shown to its owner and to nobody else."""
    hub = site.hub_for("htcondor")
    client = stopped_after(logins.client("erin", hub=hub))
    client.spawn({"backend": "htcondor", **site.backend("htcondor").options})
    server = f"{site.entry_url(hub)}/user/erin"
    logins.browser("erin").get(f"{server}/lab", timeout=60)  # the server's own cookie
    ready = clusters(logins, server)
    assert {name: cluster["workers"] for name, cluster in ready.items()} == {
        "HTCondor": 0,
        "Slurm": 0,
    }
    browser = chromium("dask")
    pages.open_lab(browser, site, hub, "erin")
    browser.click('li[data-id="dask-dashboard-launcher"]')
    browser.until(lambda: "HTCondor" in browser.text and "Slurm" in browser.text, "the entries")
    browser.picture("ready-made")
    address = ready["HTCondor"]["scheduler_address"]
    printed = pages.run_first_cell(
        browser,
        SIDE_BAR_CLIENT.format(address=address)
        + "print(client.submit(sum, [20, 22], pure=False).result(timeout=120))",
    )
    assert printed.strip() == "42"
    running = clusters(logins, server)["HTCondor"]
    assert running["scheduler_address"] == address
    item = f".dask-ClusterListingItem[data-cluster-id='{running['id']}']"
    browser.click(item)
    browser.click(".dask-DashboardListing-item", 60)
    frame = browser.see("iframe[src*='/dask/dashboard/']", 60)
    browser.driver.switch_to.frame(frame)
    browser.see(".bk-Canvas, .bk-Figure, .bk-DataTable, .bk-Column, .bk-Row", 60)
    browser.driver.switch_to.default_content()
    browser.picture("pages")
    plots = f"{server}/dask/dashboard/{running['id']}/individual-plots.json"
    assert logins.browser("erin").get(plots, timeout=60).status_code == 200
    stranger = come_in(hub=hub).browser
    assert stranger.get(plots, timeout=60).status_code in (401, 403, 404)
    browser.click(f"{item} .dask-ClusterListingItem-stop")
    expect_within(
        60,
        # Neither this one nor the next may be listed for a moment.
        lambda: clusters(logins, server).get("HTCondor", running)["scheduler_address"] != address,
        what="the entry is as before anybody used it",
    )


@pytest.mark.needs("htcondor", "slurm")
def test_workers_leave_before_their_jobs_are_ended(short_lived: DaskSession) -> None:
    """Jobs of a minute: others took their places, with the results, and no limit struck."""
    short_lived.kernel.reconnect()
    assert short_lived.run(LATER).split() == ["True", "True"]
