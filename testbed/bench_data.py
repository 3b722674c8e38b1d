"""How fast data come: origin, XCache miss and hit, against what the network gives between the same
two containers.

Everything is measured in one run and in turns, on a compute node, as people's code would read.

All data are encrypted. XRootD can leave data in the clear on streams beside the first one of a
connection only (`xrootd.tls … -data`), and those stood still against an XCache 5.8.1, by xrdcp
5.8.1 and by the Python client 6.2.1; with `xrootd.async off` less often.
"""

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from testbed import data_tokens
from testbed.bed import Bed
from testbed.data_client import PYTHON, SERVICE, DataClient, at_node, file_at_origin
from testbed.errors import ScenarioFailed, TestbedError
from testbed.site import Site
from testbed.waiting import wait_until

Say = Callable[[str], None]

STREAMS = (1, 2, 4, 8)
_SCOPES = ("storage.read:/cms", "storage.read:/open")
_CEILING_S = 3
_UPROOT_ROUNDS = 7
_UPROOT_FILE = "/data/cms/met/part-0.root"

# Seconds that so many copies at once take, all thrown away, without the start of a container's
# exec. Each is a connection of its own, not one of xrdcp's --streams (see above).
_COPY = """
import subprocess, sys, time
url, streams = sys.argv[1], int(sys.argv[2])
argv = ["xrdcp", "-f", "--silent", url, "/dev/null"]
started = time.monotonic()
copies = [subprocess.Popen(argv) for _ in range(streams)]
if any([copy.wait() for copy in copies]):
    sys.exit("xrdcp failed")
print(time.monotonic() - started)
"""

# A partial read as an analysis does it: some columns of a file, in turns from here and there.
_READ = """
import json, sys, time
import uproot
urls, rounds = sys.argv[2:], int(sys.argv[1])
columns = ["MET_pt", "nJet", "Jet_pt", "Jet_eta", "nMuon", "Muon_pt"]
took = {url: [] for url in urls}
for number in range(rounds + 1):
    for url in urls:
        started = time.monotonic()
        with uproot.open(url + ":Events") as tree:
            tree.arrays(columns)
        if number:  # the first round warms everything up
            took[url].append(time.monotonic() - started)
print(json.dumps(took))
"""


def run(
    bed: Bed,
    site: Site,
    *,
    environ: Mapping[str, str],
    size_mib: int,
    rounds: int,
    say: Say,
) -> dict[str, float]:
    """Measure, and return the figures.

    Args:
        size_mib: Of the file that is copied.
        rounds: How often each copy is made; the best counts.

    Raises:
        ScenarioFailed: A read failed.
        TestbedError: iperf3 did not measure.
    """
    person = next(each for each in site.people("person") if "cms" in each.groups)
    client = data_tokens.hubs_client(bed)
    with data_tokens.session(site, person, client, environ) as browser:
        token = data_tokens.fetch(browser, client, *_SCOPES).access
    say(f"a file of {size_mib} MiB at the origin")
    with (
        at_node(bed, person, token) as reader,
        _iperf3_server(bed),
        file_at_origin(bed, f"bench-{time.time_ns()}.bin", size_mib) as (path, _),
    ):
        hosts = {"origin": "origin", "hit": "xcache"}
        figures = {"miss_mb_s": round(_copy(reader, f"root://xcache/{path}", 1, size_mib), 1)}
        say(f"miss: {figures['miss_mb_s']} MB/s")
        speeds: dict[str, dict[int, list[float]]] = {
            name: {streams: [] for streams in STREAMS} for name in (*hosts, "ceiling")
        }
        for number in range(rounds):
            for streams in STREAMS:
                speeds["ceiling"][streams].append(_ceiling(bed, streams))
                for name, host in hosts.items():
                    speed = _copy(reader, f"root://{host}/{path}", streams, size_mib)
                    speeds[name][streams].append(speed)
            say(f"round {number + 1} of {rounds}: {_best(speeds['hit']):.0f} MB/s at hits")
        say("uproot: some columns of a file, through a hit and from the node's own disk")
        figures |= _uproot(reader)
    for name, of_streams in speeds.items():
        for streams in (STREAMS[0], STREAMS[-1]):
            figures[f"{name}_{streams}_mb_s"] = round(max(of_streams[streams]), 1)
        figures[f"{name}_mb_s"] = round(_best(of_streams), 1)
    return {
        "hit_vs_ceiling_ratio": round(figures["hit_mb_s"] / figures["ceiling_mb_s"], 3),
        "hit_vs_origin_ratio": round(figures["hit_mb_s"] / figures["origin_mb_s"], 3),
        **figures,
    }


def _best(of_streams: Mapping[int, Sequence[float]]) -> float:
    return max(max(speeds) for speeds in of_streams.values())


def _copy(reader: DataClient, url: str, streams: int, size_mib: int) -> float:
    """MB a second of so many copies together."""
    done = reader.python(_COPY, url, str(streams), timeout_s=120)
    if not done.ok:
        raise ScenarioFailed(f"{url} could not be read", seen=done.stderr[-1000:])
    return streams * size_mib * 1.048576 / float(done.stdout)


@contextlib.contextmanager
def _iperf3_server(bed: Bed) -> Iterator[None]:
    """The other end of the ceiling, in the cache's container."""
    pid_file = "/run/xrootd/iperf3.pid"
    bed.exec("xcache", ["iperf3", "--server", "--daemon", "--pidfile", pid_file])
    try:
        wait_until(
            lambda: bed.exec("xcache", ["ss", "-Htln", "sport = :5201"]).stdout.strip(),
            10,
            what="iperf3 listening on xcache",
        )
        yield
    finally:
        bed.exec("xcache", ["sh", "-c", f"kill $(tr -d '\\000' < {pid_file})"])


def _ceiling(bed: Bed, streams: int) -> float:
    """MB a second that iperf3 brings from the cache's container to the node's, unencrypted."""
    argv = ["iperf3", "--client", "xcache", "--reverse", "--json", "--time", str(_CEILING_S),
            "--parallel", str(streams)]  # fmt: skip
    done = bed.exec(SERVICE, argv)
    try:
        return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 8e6
    except (ValueError, KeyError) as error:
        raise TestbedError("iperf3 measured nothing", seen=done.stdout[-500:]) from error


def _uproot(reader: DataClient) -> dict[str, float]:
    """Seconds of a partial read through a hit and from a local file, and their ratio."""
    local, far = f"{reader.folder}/local.root", f"root://xcache/{_UPROOT_FILE}"
    fetched = reader.run(["xrdcp", "-f", "--silent", far, local])
    if not fetched.ok:
        raise ScenarioFailed(f"{far} could not be read", seen=fetched.stderr[-1000:])
    done = reader.run([PYTHON, "-c", _READ, str(_UPROOT_ROUNDS), far, local])
    if not done.ok:
        raise ScenarioFailed(f"uproot could not read {far}", seen=done.stderr[-1000:])
    took = json.loads(done.stdout)
    hit, disk = (statistics.median(took[url]) for url in (far, local))
    return {
        "uproot_hit_vs_local_ratio": round(hit / disk, 3),
        "uproot_hit_s": round(hit, 3),
        "uproot_local_s": round(disk, 3),
    }
