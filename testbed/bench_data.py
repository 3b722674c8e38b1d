"""How fast data come: origin, XCache miss and hit, against what the network gives between the same
two containers.

Everything is measured in one run and in turns, on a compute node, as people's code would read.
The facility's own cache is taken as it is: it encrypts data and checks what lies on its disk. A
second one beside it does not check (`AF_XCACHE_CHECK`) and leaves it to the client whether data
are encrypted (`AF_XROOTD_TLS`), so that the price of either can be seen. Each is held against the
ceiling of its own container. Logins are encrypted everywhere.
"""

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from testbed import bench_met, data_tokens, extra_cache, settings
from testbed.bed import Bed, Completed
from testbed.data_client import PYTHON, SERVICE, DataClient, at_node, file_at_origin
from testbed.errors import ScenarioFailed, TestbedError
from testbed.results import Results, Run
from testbed.site import Site
from testbed.waiting import wait_until

Say = Callable[[str], None]

STREAMS = (1, 2, 4, 8)
CONNECTIONS = (2, 4)
_SCOPES = ("storage.read:/cms", "storage.read:/open")
_CEILING_S = 3
_UPROOT_ROUNDS = 7
_UPROOT_FILE = "/data/cms/met/part-0.root"
_PID_FILE = "/run/xrootd/iperf3.pid"
_PLAIN_CACHE = {"AF_XROOTD_TLS": "all -data", "AF_XCACHE_CHECK": "nocache"}
# What makes a client take data in the clear where the server leaves it the choice.
_IN_THE_CLEAR = {"XRD_TLSNODATA": "1"}

# Seconds that so many copies at once take, all thrown away, without the start of a container's
# exec. Each copy is a connection of its own, with so many streams.
_COPY = """
import subprocess, sys, time
url, copies, streams = sys.argv[1], int(sys.argv[2]), sys.argv[3]
argv = ["xrdcp", "-f", "--silent", "--streams", streams, url, "/dev/null"]
started = time.monotonic()
running = [subprocess.Popen(argv) for _ in range(copies)]
if any([copy.wait() for copy in running]):
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


@dataclass
class _Route:
    """One way that data come to the node: from where, and how fast it was, by streams."""

    name: str
    where: str  # a URL; of a ceiling, a host
    environment: Mapping[str, str] = field(default_factory=dict)
    mb_s: dict[str, list[float]] = field(default_factory=dict)

    def note(self, way: str, speed: float) -> None:
        self.mb_s.setdefault(way, []).append(speed)

    @property
    def best(self) -> float:
        return max(max(speeds) for speeds in self.mb_s.values())

    @property
    def median(self) -> float:
        """Of the way whose median is highest."""
        return max(statistics.median(speeds) for speeds in self.mb_s.values())

    def figures(self) -> dict[str, float]:
        found = {f"{self.name}_mb_s": self.best, f"{self.name}_median_mb_s": self.median}
        for way, speeds in self.mb_s.items():
            found[f"{self.name}_{way}_mb_s"] = max(speeds)
        return {name: round(value, 1) for name, value in found.items()}


def run(
    bed: Bed,
    site: Site,
    *,
    environ: Mapping[str, str],
    folder: Path,
    size_mib: int,
    rounds: int,
    say: Say,
) -> Results:
    """Measure, and write `results.json` into `folder`.

    Args:
        size_mib: Of the file that is copied.
        rounds: How often each copy is made; the best counts, medians are told.

    Raises:
        ScenarioFailed: A read failed.
        TestbedError: iperf3 did not measure.
    """
    measured = Run("bench data", site.name, {"size_mib": size_mib, "rounds": rounds})
    person = next(each for each in site.people("person") if "cms" in each.groups)
    client = data_tokens.hubs_client(bed)
    with data_tokens.session(site, person, client, environ) as browser:
        token = data_tokens.fetch(browser, client, *_SCOPES).access
    say(f"a file of {size_mib} MiB at the origin")
    with (
        at_node(bed, person, token) as reader,
        extra_cache.run(bed, "plain", _PLAIN_CACHE) as plain,
        file_at_origin(bed, f"bench-{time.time_ns()}.bin", size_mib) as (path, _),
        _iperf3_server(lambda argv: bed.exec("xcache", argv)),
        _iperf3_server(plain.exec),
    ):
        routes = [
            _Route("origin", f"root://origin/{path}"),
            _Route("hit", f"root://xcache/{path}"),
            _Route("hit_unchecked", f"root://{plain.host}/{path}"),
            _Route("hit_in_the_clear", f"root://{plain.host}/{path}", _IN_THE_CLEAR),
        ]
        ceilings = [_Route("ceiling", "xcache"), _Route("ceiling_in_the_clear", plain.host)]
        figures = {}
        for route in (routes[1], routes[2]):
            name = route.name.replace("hit", "miss") + "_mb_s"
            figures[name] = round(_copy(reader, route, size_mib), 1)
            say(f"{name} {figures[name]}")
        for number in range(rounds):
            for streams in STREAMS:
                for ceiling in ceilings:
                    ceiling.note(f"{streams}_streams", _ceiling(bed, ceiling.where, streams))
                for route in routes:
                    speed = _copy(reader, route, size_mib, streams=streams)
                    route.note(f"{streams}_streams", speed)
            for connections in CONNECTIONS:
                for route in routes:
                    speed = _copy(reader, route, size_mib, copies=connections)
                    route.note(f"{connections}_connections", speed)
            speeds = ", ".join(f"{route.name} {route.best:.0f}" for route in (*routes, *ceilings))
            say(f"round {number + 1} of {rounds}: best MB/s so far: {speeds}")
        say("uproot: some columns of a file, by each way and from the node's own disk")
        figures |= _uproot(reader, plain.host)
        figures |= bench_met.run(bed, reader, say)
    for route in (*routes, *ceilings):
        figures |= route.figures()
    results = measured.results((), _ratios(figures) | figures, settings.versions(bed.settings))
    results.write(folder)
    return results


def _ratios(figures: Mapping[str, float]) -> dict[str, float]:
    """What the goals are about: one speed as a share of another of the same run."""
    return {
        f"{name}_ratio": round(figures[f"{part}_mb_s"] / figures[f"{whole}_mb_s"], 3)
        for name, part, whole in (
            ("hit_vs_ceiling", "hit_in_the_clear", "ceiling_in_the_clear"),
            ("hit_encrypted_vs_ceiling", "hit", "ceiling"),
            ("hit_vs_origin", "hit", "origin"),
            ("hit_unchecked_vs_origin", "hit_unchecked", "origin"),
        )
    }


def _copy(
    reader: DataClient, route: _Route, size_mib: int, *, streams: int = 1, copies: int = 1
) -> float:
    """MB a second of so many copies together."""
    done = reader.python(
        _COPY, route.where, str(copies), str(streams), timeout_s=180, environment=route.environment
    )
    if not done.ok:
        raise ScenarioFailed(f"{route.where} could not be read", seen=done.stderr[-1000:])
    return copies * size_mib * 1.048576 / float(done.stdout)


@contextlib.contextmanager
def _iperf3_server(at_cache: Callable[[Sequence[str]], Completed]) -> Iterator[None]:
    """The other end of the ceiling, in a cache's container."""
    at_cache(["iperf3", "--server", "--daemon", "--pidfile", _PID_FILE])
    try:
        wait_until(
            lambda: at_cache(["ss", "-Htln", "sport = :5201"]).stdout.strip(),
            10,
            what="iperf3 listening at the cache",
        )
        yield
    finally:
        at_cache(["sh", "-c", f"kill $(tr -d '\\000' < {_PID_FILE})"])


def _ceiling(bed: Bed, host: str, streams: int) -> float:
    """MB a second that iperf3 brings from a cache's container to the node's, unencrypted."""
    argv = ["iperf3", "--client", host, "--reverse", "--json", "--time", str(_CEILING_S),
            "--parallel", str(streams)]  # fmt: skip
    done = bed.exec(SERVICE, argv)
    try:
        return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 8e6
    except (ValueError, KeyError) as error:
        raise TestbedError("iperf3 measured nothing", seen=done.stdout[-500:]) from error


def _uproot(reader: DataClient, plain_host: str) -> dict[str, float]:
    """Seconds of a partial read by each way and from a local file, and hit to local as a ratio."""
    local = f"{reader.folder}/local.root"
    urls = {
        "hit": f"root://xcache/{_UPROOT_FILE}",
        "hit_in_the_clear": f"root://{plain_host}/{_UPROOT_FILE}",
        "origin": f"root://origin/{_UPROOT_FILE}",
        "local": local,
    }
    fetched = reader.run(["xrdcp", "-f", "--silent", urls["hit"], local])
    if not fetched.ok:
        raise ScenarioFailed(f"{urls['hit']} could not be read", seen=fetched.stderr[-1000:])
    # The servers that encrypt data do so whatever a client would take.
    done = reader.run(
        [PYTHON, "-c", _READ, str(_UPROOT_ROUNDS), *urls.values()],
        environment=_IN_THE_CLEAR, timeout_s=300,
    )  # fmt: skip
    if not done.ok:
        raise ScenarioFailed(f"uproot could not read {_UPROOT_FILE}", seen=done.stderr[-1000:])
    took = json.loads(done.stdout)
    medians = {name: statistics.median(took[url]) for name, url in urls.items()}
    return {
        "uproot_hit_vs_local_ratio": round(medians["hit"] / medians["local"], 3),
        **{f"uproot_{name}_s": round(median, 3) for name, median in medians.items()},
    }
