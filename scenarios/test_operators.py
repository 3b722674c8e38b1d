"""What the reconciler did about jobs without a server, as who runs the facility sees it."""

import pytest

from testbed import orphans
from testbed.bed import Bed
from testbed.hub_client import HubClient
from testbed.logins import Logins
from testbed.promises import expect_within
from testbed.secret import Secret
from testbed.site import Site

pytestmark = [pytest.mark.needs("front_door", "slurm", "faults"), pytest.mark.timeout(400)]


def test_a_job_without_a_server_is_cancelled_and_shown(
    bed: Bed, site: Site, logins: Logins
) -> None:
    """It goes within two rounds, and the page says which and why; to nobody else."""
    hub = site.hub_for("slurm")
    owner = site.person("alice")
    cell = logins.client("heidi", hub=hub).instance
    done = bed.exec(
        "slurm-node",
        ["sbatch", "--parsable", f"--job-name=af-{cell}", "--comment=alice/lost", "--mem=64",
         "--time=00:09:00", "--output=/dev/null", "--chdir=/", "--wrap=exec sleep 500"],
        user=f"{owner.uid}:{owner.gid}",
    )  # fmt: skip
    assert done.ok, done.stderr
    job_id = done.stdout.strip().split(";")[0]
    expect_within(
        180,  # two rounds of a minute, and one that may have begun
        lambda: job_id not in {job.job_id for job in orphans.slurm_jobs(bed)},
        what=f"job {job_id} is cancelled",
        poll_s=2,
    )
    page = logins.browser("heidi").get(f"{site.entry_url(hub)}/hub/af/jobs", timeout=60)
    assert page.status_code == 200, page.text[:500]
    (row,) = [row for row in page.text.split("<tr ") if f"slurm {job_id}<" in row]
    assert 'data-af-done="cancelled"' in row
    assert "alice/lost" in row
    assert "no server of this hub has it" in row
    told = logins.observer(cell).get_json("/hub/api/af/reconciler")
    assert [deed["what"] for deed in told["deeds"] if deed["job_id"] == job_id] == ["cancelled"]
    assert told["round"]["took_s"] < 60
    # Every one of the scopes is needed, not any of them.
    heidi = logins.client("heidi", hub=hub)
    made = heidi.request(
        "POST", "/hub/api/users/heidi/tokens", json={"scopes": ["read:metrics"], "expires_in": 300}
    )
    assert made.status_code == 201, made.text
    token = Secret(made.json()["token"])
    narrow = HubClient(site.api_url(hub), "heidi", token, verify=site.verify)
    assert narrow.request("GET", "/hub/api/af/queue").status_code == 200
    answer = narrow.request("GET", "/hub/api/af/reconciler")
    assert answer.status_code == 403, answer.text
    narrow.close()
    logins.client("dave", hub=hub)
    answer = logins.browser("dave").get(f"{site.entry_url(hub)}/hub/af/jobs", timeout=60)
    assert answer.status_code in (403, 404)
