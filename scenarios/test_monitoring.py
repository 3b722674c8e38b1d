"""Prometheus sees everything, counts right, and says when something is wrong and what to do."""

import json
import re
import time
from collections.abc import Callable

import pytest

from testbed import faults
from testbed.bed import Bed
from testbed.data_client import DataClient, Records
from testbed.hub_client import Spawn
from testbed.hub_metrics import HubMetrics
from testbed.logins import Logins, Visitor
from testbed.prometheus import Alert, Prometheus
from testbed.promises import expect_within
from testbed.site import Site

pytestmark = pytest.mark.needs("faults")

SPAWNS = "afportal_spawn_seconds_count"
# Two scrapes and two evaluations, on a machine that has other things to do.
SOON_S = 90
SOURCES = {"htcondor/batch", "htcondor/notebooks", "slurm", "xcache", "certificates"}
FOLDER = "/etc/prometheus"


@pytest.fixture
def prometheus(bed: Bed) -> Prometheus:
    """The testbed's Prometheus."""
    return Prometheus(bed)


def hub_down(prometheus: Prometheus, instance: str) -> Alert | None:
    """The alert of one instance, if it holds."""
    for alert in prometheus.alerts():
        if (alert.name, alert.labels.get("instance")) == ("HubDown", instance):
            return alert
    return None


def test_everything_is_watched(site: Site, prometheus: Prometheus) -> None:
    """Each hub instance, both schedulers, the cache and every certificate give their figures."""
    hubs = {name for hub in site.hubs for name in hub.instances}
    wanted = hubs | {"exporter", "prometheus"}
    certified = {f"hub-{name}" for name in hubs} | {
        "proxy", "front", "login-node", "condor-ap", "slurmctld", "origin", "xcache",
    }  # fmt: skip

    def seen(expression: str, label: str) -> set[str]:
        return {dict(labels)[label] for labels in prometheus.values(expression)}

    def all_there() -> bool:
        return (
            seen("up == 1", "instance") == wanted
            and seen("exporter_source_up == 1", "source") == SOURCES
            and seen("tls_certificate_believed == 1", "service") == certified
            and prometheus.value("sum(htcondor_schedd_up)") == 2
        )

    expect_within(SOON_S, all_there, what=f"{', '.join(sorted(wanted))} are up", poll_s=1)
    ends_s = prometheus.value("min(tls_certificate_end_timestamp_seconds)")
    assert ends_s
    assert ends_s > time.time()


@pytest.mark.needs("htcondor")
def test_one_spawn_counts_once(
    prometheus: Prometheus, logins: Logins, alice: Visitor, spawn: Callable[..., Spawn]
) -> None:
    """Prometheus has what the hubs counted: one spawn more, on its backend, and no other."""
    observers = logins.observers()
    before = {
        name: HubMetrics.read(*observers).total(SPAWNS, backend=name)
        for name in ("htcondor", "slurm", "local")
    }
    spawn(alice.on("htcondor"), "htcondor")
    ready_s = time.time()
    expect_within(
        SOON_S,
        # timestamp() of a bare series is when it was scraped, of anything else when it is asked.
        lambda: (prometheus.value('min(timestamp(up{job="hub"}))') or 0) > ready_s,
        what="every hub was scraped after the spawn",
        poll_s=1,
    )
    after = prometheus.values(f"sum by (backend) ({SPAWNS})")
    seen = {dict(labels)["backend"]: value for labels, value in after.items()}
    assert seen == {**before, "htcondor": before["htcondor"] + 1}


def test_a_dead_hub_is_told_and_forgotten(bed: Bed, site: Site, prometheus: Prometheus) -> None:
    """A hub that is killed raises its alert, with the cure, and the alert goes when it is back."""
    instance = site.hubs[-1].instances[-1]

    def quiet() -> bool:
        return hub_down(prometheus, instance) is None

    expect_within(SOON_S, quiet, what="no HubDown before", poll_s=1)
    with faults.kill(bed, f"hub-{instance}"):
        alert = expect_within(
            SOON_S, lambda: hub_down(prometheus, instance), what="HubDown is told", poll_s=1
        )
        assert f"testbed restart hub-{instance}" in alert.cure
    expect_within(SOON_S, quiet, what="HubDown is over", poll_s=1)


@pytest.mark.needs("data")
def test_a_read_of_the_cache_counts_once(
    bed: Bed, alice_reads: DataClient, new_file: Callable[..., tuple[str, str]]
) -> None:
    """One read of a new file is one miss more, and its bytes came once from the origin."""
    # A first read whose record is there: what was read before it is counted too.
    path, _ = new_file(1)
    assert alice_reads.copy(f"root://xcache/{path}").ok
    Records(bed).of(path)
    path, _ = new_file(3)

    def totals() -> dict[str, int]:
        said = bed.exec("exporter", ["cat", "/var/lib/xrootd-monitor/totals.json"], user="root")
        found: dict[str, int] = json.loads(said.stdout)
        return found

    before = totals()
    assert alice_reads.copy(f"root://xcache/{path}").ok
    after = expect_within(
        60, lambda: (now := totals()) != before and now, what="the read is counted", poll_s=1
    )
    rise = {name: after[name] - before[name] for name in after}
    mib = 2**20
    assert rise == {
        "hit": 0, "miss": 1, "read_bytes": 3 * mib, "fetched_bytes": 3 * mib, "checksum_errors": 0,
    }  # fmt: skip


def test_rules_keep_their_tests(bed: Bed) -> None:
    """promtool finds nothing to complain of, and each alert comes when its test says."""
    check = ["promtool", "check", "config", "--lint-fatal", f"{FOLDER}/config/prometheus.yaml"]
    tests = [f"{FOLDER}/tests/{name}.yaml" for name in ("portal", "facility")]
    for argv in (check, ["promtool", "test", "rules", *tests]):
        done = bed.exec("prometheus", argv)
        assert done.ok, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "slip"), [("portal", "s/for: .*/for: 0s/"), ("facility", "s/ > / < /")]
)
def test_rules_with_a_slip_fail_their_tests(bed: Bed, name: str, slip: str) -> None:
    """The tests of the rules would notice a threshold or a time that is wrong."""
    script = (
        f"rm -rf /tmp/slip && cp -r {FOLDER} /tmp/slip && "
        f"sed -i '{slip}' /tmp/slip/config/rules/{name}.yaml && "
        f"! cmp -s {FOLDER}/config/rules/{name}.yaml /tmp/slip/config/rules/{name}.yaml && "
        f"promtool check rules /tmp/slip/config/rules/{name}.yaml && echo read && "
        f"promtool test rules /tmp/slip/tests/{name}.yaml"
    )
    done = bed.exec("prometheus", ["sh", "-c", script])
    assert "\nread\n" in done.stdout, done.stderr
    assert not done.ok
    assert "FAILED" in done.stdout + done.stderr


def test_nobody_reaches_prometheus(bed: Bed) -> None:
    """From a machine where people's sessions run it is not there; the exporter's page is."""
    ask = ["curl", "-sS", "--max-time", "10"]
    # The way is open: curl comes as far as the exporter's certificate.
    done = bed.exec("slurm-node", [*ask, "https://exporter:9720/metrics"])
    assert done.exit_code == 60, done.stderr
    done = bed.exec("slurm-node", [*ask, "http://prometheus:9090/api/v1/query?query=up"])
    assert done.exit_code == 7, (done.exit_code, done.stderr)  # refused: nothing listens there


@pytest.mark.parametrize(
    ("path", "status"), [("metrics", 200), ("api/users", 403), ("api/af/queue", 200)]
)
def test_its_token_reads_figures_and_nothing_else(
    bed: Bed, site: Site, path: str, status: int
) -> None:
    """Whoever steals Prometheus' token learns how many, not who."""
    hub = site.hubs[0]
    script = (
        'printf \'header = "Authorization: Bearer %s"\\n\' "$(cat /keys/prometheus/hub_token)" | '
        "curl -sS -K - -o /dev/null -w '%{http_code}' --cacert /keys/inside-tls/ca.pem "
        f"https://hub-{hub.instances[0]}:8081/{hub.name}/hub/{path}"
    )
    done = bed.exec("prometheus", ["sh", "-c", script])
    assert done.stdout == str(status), done.stderr


def test_the_exporter_cannot_read_slurms_key(bed: Bed) -> None:
    """Its munged holds what makes anybody towards Slurm; what answers on the network does not."""
    looked = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; stat -c ' uid=%u' $p; done"
    running = bed.exec("exporter", ["sh", "-c", looked], user="root").stdout
    uids = re.findall(r"-m afportal\.exporter .* uid=(\d+)", running)
    assert uids, running
    assert set(uids) == {"906"}
    for name in ("/keys/munge/munge.key", "/etc/munge/munge.key"):
        done = bed.exec("exporter", ["cat", name], user="906:906")
        assert "Permission denied" in done.stderr, name
        assert bed.exec("exporter", ["test", "-s", name], user="root").ok, name
