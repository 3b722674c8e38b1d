"""Dask Gateway: one client for clusters on HTCondor, on Slurm and beside it; each one's own."""

import json
from collections.abc import Callable, Iterator

import pytest

from testbed import on_demand
from testbed.bed import Bed
from testbed.hub_client import HubClient
from testbed.kernels import Kernel
from testbed.logins import Visitor
from testbed.promises import expect_within
from testbed.site import Site

pytestmark = [pytest.mark.needs("faults", "htcondor", "slurm"), pytest.mark.timeout(500)]

SERVICE = "dask-gateway"
# A worker that says whose it is, and where.
BEGIN = """
import getpass, json, socket
from afportal.dask_gateway.client import Gateway
def where():
    import getpass, os, socket
    tokens = sorted(n for n in os.environ if "TOKEN" in n and not n.endswith("_FILE"))
    return getpass.getuser(), socket.gethostname(), tokens
gateway = Gateway()
clusters, told = {}, {}
for place in PLACES:
    clusters[place] = cluster = gateway.new_cluster(place=place, worker_memory=0.5)
    cluster.scale(1)
for place, cluster in clusters.items():
    with cluster.get_client() as client:
        told[place] = [*client.submit(where, pure=False).result(timeout=120),
                       client.submit(sum, range(1000)).result(timeout=60)]
print(json.dumps({"told": told, "names": {p: c.name for p, c in clusters.items()},
                  "listed": sorted(c.name for c in gateway.list_clusters())}))
"""
# What another person tries with a cluster's name.
INTRUDE = """
import json
from afportal.dask_gateway.client import Gateway
gateway = Gateway()
def refused(deed, *given):
    try:
        deed(*given)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""
name = NAME
print(json.dumps({"connect": refused(gateway.connect, name),
                  "get": refused(gateway.get_cluster, name),
                  "stop": refused(gateway.stop_cluster, name),
                  "scale": refused(gateway.scale_cluster, name, 3),
                  "listed": [c.name for c in gateway.list_clusters()]}))
"""
ALIVE = """
with clusters["htcondor"].get_client() as client:
    print(client.submit(sum, [1, 2]).result(timeout=60))
"""
END = """
for cluster in clusters.values():
    cluster.shutdown()
print(json.dumps([c.name for c in gateway.list_clusters()]))
"""


@pytest.fixture
def gateway(bed: Bed) -> Iterator[Bed]:
    """The testbed with Dask Gateway in it."""
    with on_demand.services(bed, "gateway", [SERVICE]) as beside:
        yield beside


@pytest.fixture
def kernels(
    alice: Visitor, bob: Visitor, kernel_at: Callable[[HubClient, str], Kernel]
) -> tuple[Kernel, Kernel]:
    """A kernel of alice's, and one of bob's."""
    return kernel_at(alice.on("local"), "local"), kernel_at(bob.on("local"), "local")


def test_clusters_of_two_people_at_once(
    gateway: Bed, site: Site, kernels: tuple[Kernel, Kernel]
) -> None:
    """Where each was asked for, as its owner; the other's are neither seen nor reached."""
    own, others = kernels
    hers, his = (
        json.loads(kernel.run(BEGIN.replace("PLACES", repr(places)), timeout_s=240).stdout)
        for kernel, places in ((own, ["htcondor", "slurm", "local"]), (others, ["htcondor"]))
    )
    for person, begun in ((site.person("alice"), hers), (site.person("bob"), his)):
        for user, _, tokens, total in begun["told"].values():
            assert (user, tokens, total) == (person.name, [], 499500)
        assert begun["listed"] == sorted(begun["names"].values())
    hosts = {place: host for place, (_, host, _, _) in hers["told"].items()}
    assert hosts["htcondor"].startswith("condor-ep-")
    assert hosts["local"] == SERVICE
    assert len(set(hosts.values())) == 3

    for intruder, name in ((others, hers["names"]["htcondor"]), (own, his["names"]["htcondor"])):
        tried = json.loads(intruder.run(INTRUDE.replace("NAME", repr(name))).stdout)
        assert name not in tried.pop("listed")
        assert all(tried.values()), tried
    assert own.run(ALIVE).stdout == "3\n"

    # No job's ad holds what would let somebody in.
    ads = gateway.exec("condor-ap", ["condor_q", "-allusers", "-long"], user="root").stdout
    assert hers["names"]["htcondor"] in ads
    assert "gateway-token" in ads
    assert "DASK_GATEWAY_API_TOKEN='/home/alice/" in ads
    for kernel in kernels:
        assert kernel.run(END).stdout == "[]\n"

    def none_left() -> bool:
        argv = ["condor_q", "-allusers", "-af", "JobBatchName"]
        return "dask-gateway-" not in gateway.exec("condor-ap", argv, user="root").stdout

    expect_within(60, none_left, what="no job of a cluster is left")
