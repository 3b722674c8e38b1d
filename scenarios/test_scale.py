"""Stand-ins for servers are real jobs that a hub takes for servers, and leave nothing behind."""

import json
from pathlib import Path

import pytest

from testbed import bench_scale, orphans, scale_steps
from testbed.bed import Bed
from testbed.logins import Logins
from testbed.site import Site

SERVERS = 5


@pytest.mark.soak
@pytest.mark.needs("faults", "students", "metrics", "htcondor", "slurm")
@pytest.mark.timeout(600)
def test_a_hub_holds_stand_ins_on_both_schedulers(
    bed: Bed, site: Site, logins: Logins, run_folder: Path
) -> None:
    """Five stand-ins, spread over HTCondor and Slurm, become ready and stay so on one hub that
    counts its queries; afterwards no job, no server and no offer of a stand-in is left."""
    # Longer than the pause between two of a calm hub's queries.
    extent = scale_steps.Extent(SERVERS, at_once=3, window_s=1, last_window_s=45)
    verdict = bench_scale.run(
        site,
        environ=bed.settings.environ,
        folder=run_folder,
        backends=["htcondor", "slurm"],
        bed=bed,
        extent=extent,
    )
    assert verdict.failures == []
    figures = verdict.figures
    assert (figures["servers_max"], figures["failed"], figures["orphans"]) == (SERVERS, 0, 0)
    spawns = verdict.results.spawns
    assert {spawn.backend for spawn in spawns} == {"htcondor", "slurm"}
    # What was measured stands on every record.
    assert {spawn.options["environment"] for spawn in spawns} == {"stand-in"}
    told = json.loads((run_folder / "scale.json").read_text())
    assert told["servers_are"] == "stand-in"
    last = told["steps"][-1]
    assert set(last["queries"]) == {"htcondor", "slurm"}
    assert all(count > 0 for count in last["queries"].values())
    # The hub is an ordinary one again, and says so to who asks for one.
    hub = site.hub_for("htcondor", "slurm")
    client = logins.client(site.people("student")[0].name, hub=hub)
    answer = client.request(
        "POST",
        f"/hub/api/users/{client.user}/server",
        json={"backend": "slurm", **bench_scale.STAND_IN},
    )
    assert answer.status_code == 400, answer.text
    assert "stand-in" in answer.json()["message"]
    assert not [s for s in orphans.servers(logins.observers()) if s.name.startswith("scale-")]
