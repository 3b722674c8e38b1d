"""A load comes, is measured phase by phase, and leaves nothing behind, however it ends."""

import itertools
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import HttpUrl

from testbed import bench_load
from testbed.bed import Bed
from testbed.hub_client import HubClient, expect_ok
from testbed.load_plan import LoadPlan
from testbed.load_process import NOTES
from testbed.logins import Logins, Visitor
from testbed.promises import expect_within
from testbed.results import HUB_PHASES, Results, SpawnRecord
from testbed.site import Login, Person, Site, keep_secret, load_site, write_site
from testbed.smoke import Verdict

pytestmark = pytest.mark.needs("faults")

BACKEND = "htcondor"
IN_ORDER = ("ready", "kernel_asked", "kernel_idle", "first_cell", "stop_asked", "gone", "job_gone")


def plan(site: Site, **more: object) -> LoadPlan:
    asked = {
        "behaviours": ("script",), "shape": "burst", "backend": BACKEND, "people": 2,
        "seconds": 120.0, "pause_s": 1.0, "timeout_s": 180.0,
    }  # fmt: skip
    return LoadPlan.checked(site, own=True, **(asked | more))  # type: ignore[arg-type]


@pytest.fixture
def load(bed: Bed, run_folder: Path) -> Callable[..., Verdict]:
    """load(site, site_file, own, **plan): run a load."""

    def deed(site: Site, site_file: Path, *, own: bool, **more: object) -> Verdict:
        return bench_load.run(
            site,
            site_file,
            plan(site, **more),
            environ=dict(os.environ),
            folder=run_folder,
            loadtests_folder=bed.settings.home / "loadtests",
            bed=bed if own else None,
        )

    return deed


@pytest.fixture
def elsewhere(site: Site, tmp_path: Path) -> Callable[..., tuple[Site, Path]]:
    """elsewhere(tokens, **changes): a site file of the same facility with other people."""

    def deed(tokens: dict[str, str], **changes: object) -> tuple[Site, Path]:
        hub = site.hub_for(BACKEND)
        people = []
        for name, token in tokens.items():
            keep_secret(tmp_path / name, token)
            people.append(Person(name=name, token_file=tmp_path / name))
        made = site.model_copy(
            update={
                "name": "elsewhere",
                "hubs": (hub.model_copy(update={"backends": (BACKEND,), **changes}),),
                "backends": {BACKEND: site.backend(BACKEND)},
                "login": Login(),
                "users": tuple(people),
                "needs": (),
                "ca_bundle": site.folder / (site.ca_bundle or ""),
            }
        )
        path = tmp_path / "site.toml"
        write_site(made, path)
        return load_site(path), path

    return deed


@pytest.mark.needs(BACKEND, "metrics")
@pytest.mark.timeout(900)
def test_a_burst_by_two_behaviours_is_on_record_and_leaves_nothing(
    bed: Bed, site: Site, load: Callable[..., Verdict]
) -> None:
    """Newcomers log in, leavers leave their servers; every phase is there, and in order."""
    more = {"behaviours": ("newcomer", "leaver"), "people": 4}
    verdict = load(site, bed.settings.site_file, own=True, **more)
    records = verdict.results.spawns
    assert verdict.failures == []
    assert Counter(record.behaviour for record in records) == {"newcomer": 2, "leaver": 2}
    assert len({record.user for record in records}) == len({r.job_id for r in records}) == 4
    for record in records:
        expect_in_order(record)
        assert ("logged_in" in record.own_unix_s) == (record.behaviour == "newcomer")
    figures = verdict.figures
    assert (figures["failed"], figures["orphans"], figures["left_behind"]) == (0, 0, 0)
    assert figures["jobs"] == 4  # by the schedulers' own records, which agree with ours
    assert figures["clock_own_count"] == figures["clock_hub_metric_count"] == 4
    assert not list((site.folder / NOTES).glob("*/*.json"))


def expect_in_order(record: SpawnRecord) -> None:
    """Every phase is there, none before the one it follows."""
    hub = [record.hub_unix_s[phase] for phase in HUB_PHASES]
    own = [record.own_unix_s[phase] for phase in IN_ORDER]
    for stamps in (hub, own):
        assert all(a <= b for a, b in itertools.pairwise(stamps)), record
    assert record.own_unix_s["click"] <= record.own_unix_s["ready"]


@pytest.mark.timeout(300)
def test_a_facility_that_is_down_is_counted_as_down(
    elsewhere: Callable[..., tuple[Site, Path]], load: Callable[..., Verdict]
) -> None:
    """Nobody listens there: no latency comes of it, and nothing is left to be cleaned."""
    at, path = elsewhere(
        {"alice": "a", "bob": "b"}, url=HttpUrl("https://localhost:1"), api_url=None
    )
    verdict = load(at, path, own=False)
    assert verdict.figures["failed_facility_down"] == verdict.figures["visits"] == 2
    assert verdict.figures["left_behind"] == 0
    assert not [name for name in verdict.figures if "_p50_s" in name]
    assert not verdict.ok


@pytest.mark.needs("front_door")
@pytest.mark.timeout(300)
def test_people_without_the_right_are_counted_as_that(
    alice: Visitor, elsewhere: Callable[..., tuple[Site, Path]], load: Callable[..., Verdict]
) -> None:
    """A token that may only read, one that no hub made, and a name that nobody has."""
    client = alice.on(BACKEND)
    path = f"/hub/api/users/{client.user}/tokens"
    made = client.request(
        "POST", path, json={"scopes": ["read:users!user"], "expires_in": 600, "note": "may read"}
    )
    expect_ok(made, f"POST {path}")
    tokens = {
        client.user: made.json()["token"],
        "bob": f"{'0' * 32}.{client.instance}",
        "nobody": client.token,
    }
    verdict = load(*elsewhere(tokens), own=False, people=3)
    seen = {record.user: record.cause for record in verdict.results.spawns}
    assert seen == {client.user: "not_allowed", "bob": "token_refused", "nobody": "unknown_person"}
    assert not [name for name in verdict.figures if "_p50_s" in name]
    assert not client.servers()


@pytest.fixture
def loading(bed: Bed, logins: Logins, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A load by the command line, with somebody's server ready in it."""
    name = plan(logins.site, people=1).accounts(logins.site)[0].name
    client = logins.client(name, BACKEND)
    argv = [
        sys.executable, "-m", "testbed", "bench", "load", "--shape", "tutorial", "--people", "1",
        "--seconds", "150", "--backend", BACKEND, "--project", bed.project, "--out", str(tmp_path),
    ]  # fmt: skip
    with (tmp_path / "said").open("wb") as out:
        process = subprocess.Popen(argv, stdout=out, stderr=out, cwd=bed.settings.work)
        try:
            expect_within(
                180, lambda: ready(client), what=f"a server of {name} in the load", poll_s=0.5
            )
            yield process
        finally:
            process.kill()
            process.wait()
            expect_within(
                120, lambda: not client.servers(), what=f"no server of {name}", poll_s=0.5
            )


def ready(client: HubClient) -> bool:
    return any(model.get("ready") for model in client.servers().values())


@pytest.mark.soak
@pytest.mark.needs(BACKEND)
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_an_end_in_the_midst_leaves_nothing(
    loading: "subprocess.Popen[bytes]", name: str, tmp_path: Path, site: Site
) -> None:
    """Asked to end, it cleans up and says so; killed, its own child cleans up.

    The fixture looks that no server stays, and the plugin that no job does.
    """
    loading.send_signal(getattr(signal, name))
    code = loading.wait(120)
    if name == "SIGKILL":
        assert code == -signal.SIGKILL
        return
    assert code == 1
    results = Results.read(tmp_path / "results.json")
    assert "ended by SIGTERM before the load was over" in results.failures
    assert [record.cause for record in results.spawns] == ["cut_short"]
    assert "gone" in results.spawns[0].own_unix_s
    assert not list((site.folder / NOTES).glob("*/*.json"))
