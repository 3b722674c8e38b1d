"""Figures of schedulers, XCache and certificates, from what these really said."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

from afportal.exporter.__main__ import page, parse, sources
from afportal.exporter.certificates import Certificates, Endpoint
from afportal.exporter.htcondor import Pool
from afportal.exporter.readings import Away, Readings, run
from afportal.exporter.slurm import Cluster
from afportal.exporter.xcache import Cache, Marks
from tests.afportal import authorities

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data" / "exporter"

Figures = dict[tuple[str, tuple[str, ...]], float]


def figures(metrics: list[Metric]) -> Figures:
    """Name and label values → value."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for metric in metrics
        for sample in metric.samples
    }


class Scripted:
    """A source that says what the test puts into it; None: it is away."""

    name = "scripted"

    def __init__(self) -> None:
        self.value: float | None = 1

    def read(self) -> list[Metric]:
        if self.value is None:
            raise Away("no answer")
        return [GaugeMetricFamily("scripted_value", "A value", value=self.value)]


def test_a_pools_figures() -> None:
    """One held and two running jobs of two cores each, on two machines that have 42 in all."""
    ads = json.loads((DATA / "condor_status.json").read_text())
    found = figures(Pool("batch", "cm", ["sched@condor-ap", "sched@other"]).metrics(ads))
    assert found["htcondor_schedd_jobs", ("batch", "sched@condor-ap", "running")] == 2
    assert found["htcondor_schedd_jobs", ("batch", "sched@condor-ap", "held")] == 1
    assert found["htcondor_cores", ("batch", "claimed")] == 4
    free = sum(ad["Cpus"] for ad in ads if ad.get("State") == "Unclaimed")
    assert found["htcondor_cores", ("batch", "unclaimed")] == free
    assert found["htcondor_negotiation_end_timestamp_seconds", ("batch",)] > 1.7e9


def test_a_schedd_that_is_not_there_shows_as_away() -> None:
    """An access point that the collector does not know is 0, not absent."""
    found = figures(Pool("batch", "cm", ["sched@condor-ap"]).metrics([]))
    assert found["htcondor_schedd_up", ("batch", "sched@condor-ap")] == 0
    assert not [key for key in found if key[0] == "htcondor_schedd_jobs"]


def test_a_clusters_figures() -> None:
    """Jobs, nodes and passes, in the units that the names say."""
    statistics = json.loads((DATA / "sdiag.json").read_text())["statistics"]
    found = figures(Cluster().metrics(statistics, "mixed 1\nidle 1\ndown* 3\nidle~ 2\n"))
    assert found["slurm_jobs", ("running",)] == 1
    assert found["slurm_jobs", ("pending",)] == 1
    assert found["slurm_nodes", ("idle",)] == 3
    assert found["slurm_nodes", ("down_silent",)] == 3
    assert found["slurm_schedule_seconds", ()] == pytest.approx(
        statistics["schedule_cycle_last"] / 1e6
    )


def test_a_caches_figures(tmp_path: Path) -> None:
    """What its files hold on the disk, and what the monitor counted."""
    files, totals = tmp_path / "files", tmp_path / "totals.json"
    (files / "data").mkdir(parents=True)
    (files / "data" / "a").write_bytes(b"x" * 100_000)
    totals.write_text('{"hit": 3, "miss": 1, "read_bytes": 9, "checksum_errors": 2}')
    found = figures(Cache(files, totals, Marks.parse("0.90 0.95 files 1g 3g 4g")).read())
    assert found["xcache_reads_total", ("hit",)] == 3
    assert found["xcache_checksum_errors_total", ()] == 2
    assert 100_000 <= found["xcache_files_bytes", ()] < 200_000
    assert found["xcache_files_most_bytes", ()] == 4 * 2**30
    used, mark = found["xcache_disk_used_bytes", ()], found["xcache_disk_high_mark_bytes", ()]
    assert 0 < used < mark / 0.95


def test_a_cache_without_totals_is_away(tmp_path: Path) -> None:
    with pytest.raises(Away, match=r"totals\.json"):
        Cache(tmp_path, tmp_path / "totals.json", Marks.parse("0.9 0.95")).read()


@pytest.mark.parametrize("setting", ["", "0.9", "0.9 0.95 files 1g", "0.9 0.95 file 1g 3g 4g"])
def test_marks_that_say_something_else_are_refused(setting: str) -> None:
    with pytest.raises(ValueError, match="LOW HIGH"):
        Marks.parse(setting)


def test_cache_and_exporter_have_the_same_marks() -> None:
    """The alert looks at the mark by which the cache is purged."""
    settings = {
        yaml.safe_load((ROOT / f"compose/{name}/compose.yaml").read_text())["services"][name][
            "environment"
        ]["AF_XCACHE_DISKUSAGE"]
        for name in ("xcache", "exporter")
    }
    assert len(settings) == 1


def test_no_stale_figure_is_shown() -> None:
    """A source that is away has no figures until it answers again."""
    readings, source = Readings(), Scripted()
    readings.take(source)
    assert figures(list(readings.collect()))["scripted_value", ()] == 1
    source.value = None
    readings.take(source)
    found = figures(list(readings.collect()))
    assert ("scripted_value", ()) not in found
    assert found["exporter_source_up", ("scripted",)] == 0
    source.value = 2
    readings.take(source)
    assert figures(list(readings.collect()))["scripted_value", ()] == 2


def test_a_fault_of_a_source_shows_as_away() -> None:
    """Also what nobody expected of an answer leaves no old figure on the page."""
    readings, source = Readings(), Scripted()
    readings.take(source)
    source.read = lambda: [][1]  # type: ignore[method-assign]
    readings.take(source)
    found = figures(list(readings.collect()))
    assert found["exporter_source_up", ("scripted",)] == 0
    assert ("scripted_value", ()) not in found


def test_two_pools_share_a_family() -> None:
    """The page names each family once, as Prometheus demands."""
    readings = Readings()
    for label in ("batch", "notebooks"):
        pool = Pool(label, "cm", ["sched@ap"])
        said = pool.metrics([])
        pool.read = lambda said=said: said  # type: ignore[method-assign, misc]
        readings.take(pool)
    names = [metric.name for metric in readings.collect()]
    assert len(names) == len(set(names))
    found = figures(list(readings.collect()))
    assert {key[1][0] for key in found if key[0] == "htcondor_schedd_up"} == {"batch", "notebooks"}


def test_a_client_that_fails_is_away() -> None:
    """Its own words are the reason; a program that is not installed is one too."""
    with pytest.raises(Away, match="no such file"):
        run(["sh", "-c", "echo 'no such file' >&2; exit 3"])
    with pytest.raises(Away, match="no-such-program"):
        run(["no-such-program"])


@pytest.fixture
def served() -> Iterator[int]:
    """The port of a page in clear."""
    readings = Readings()
    readings.take(Scripted())
    server = page(readings, ("127.0.0.1", 0), None)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_page_is_prometheus(served: int) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{served}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    names = {family.name for family in text_string_to_metric_families(text)}
    assert {"exporter_source_up", "scripted_value"} <= names


def test_the_testbeds_command_line_is_understood() -> None:
    """What start-exporter says makes the five sources that its healthcheck counts."""
    script = (ROOT / "compose/exporter/files/usr/local/bin/start-exporter").read_text()
    words = script.partition("-m afportal.exporter")[2].replace("\\\n", " ")
    words = words.replace("$AF_XCACHE_DISKUSAGE", "0.90_0.95_files_1g_3g_4g")
    argv = [re.sub(r'["$]', "", word).replace("_", " ") for word in words.split()]
    names = [source.name for source, _ in sources(parse(argv))]
    assert names == ["htcondor/batch", "htcondor/notebooks", "slurm", "xcache", "certificates"]


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[int]:
    """The port of a page with TLS, of the authority in `ca.pem`; somebody silent is connected."""
    authority = authorities.authority("inside")
    authority.write(tmp_path, "ca")
    authorities.authority("another").write(tmp_path, "other")
    authorities.certificate(authority, "localhost").write(tmp_path, "tls")
    server = page(Readings(), ("127.0.0.1", 0), tmp_path)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with socket.create_connection(("127.0.0.1", server.server_address[1])):
        yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_end_of_a_shown_certificate(secured: int, tmp_path: Path) -> None:
    """By a handshake, which somebody who is silent does not hold up."""
    until = Endpoint("page", f"localhost:{secured}", tmp_path / "ca.pem").good_until()
    assert 23 * 3600 < until - time.time() < 25 * 3600


def test_a_certificate_of_somebody_else_is_not_believed(secured: int, tmp_path: Path) -> None:
    """Shown as 0 with no end, beside one that is good; hubs are those of Prometheus' targets."""
    hubs = tmp_path / "hubs.json"
    hubs.write_text(json.dumps([{"targets": [f"localhost:{secured}"], "labels": {}}]))
    wrong = Endpoint("wrong", f"localhost:{secured}", tmp_path / "other.pem")
    away = Endpoint("away", "localhost:1", tmp_path / "ca.pem")
    found = figures(Certificates([wrong, away], hubs, tmp_path / "ca.pem").read())
    believed = {key[1][0]: value for key, value in found.items() if "believed" in key[0]}
    assert believed == {"wrong": 0, "away": 0, "localhost": 1}
    assert [key[1] for key in found if "end_timestamp" in key[0]] == [("localhost",)]
