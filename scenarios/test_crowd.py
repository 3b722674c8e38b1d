"""Many people at once: everybody gets their own server."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from testbed.bed import Bed
from testbed.hub_client import HubClient
from testbed.kernels import Kernel
from testbed.logins import Logins
from testbed.orphans import jobs
from testbed.site import Site

CROWD = 20


@pytest.mark.soak
@pytest.mark.needs("students", "faults")
@pytest.mark.timeout(900)
def test_twenty_at_once_are_the_right_owners(
    bed: Bed, site: Site, logins: Logins, batch_backend: str
) -> None:
    """Twenty students spawn at the same moment; each kernel and each job is its owner's."""
    students = site.people("student")[:CROWD]
    assert len(students) == CROWD
    clients = [logins.client(student.name, batch_backend) for student in students]
    # Small, so that the whole crowd fits onto the testbed's nodes at once.
    options = {"backend": batch_backend, **site.backend(batch_backend).options, "memory_mib": 768}

    def uid_of(client: HubClient) -> int:
        client.spawn(options, timeout_s=300)
        with Kernel.start(client) as kernel:
            return int(kernel.run("import os; os.getuid()", timeout_s=120).value)

    try:
        with ThreadPoolExecutor(max_workers=CROWD) as pool:
            uids = list(pool.map(uid_of, clients))
        owners = {job.server: job.owner for job in jobs(bed)}
    finally:
        with ThreadPoolExecutor(max_workers=CROWD) as pool:
            list(pool.map(lambda client: client.stop(timeout_s=180), clients))
    assert uids == [student.uid for student in students]
    for student in students:
        assert owners[f"{student.name}/"] == student.name
