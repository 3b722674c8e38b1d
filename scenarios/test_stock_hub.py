"""What the portal is compared with is the real thing, and leaves nothing behind."""

from pathlib import Path

import pytest

from testbed import orphans, stock_hub
from testbed.bed import Bed
from testbed.hub_client import HubClient
from testbed.kernels import Kernel
from testbed.round_trip import RoundTrip
from testbed.site import Site

WHO = "import os, pwd; (os.getuid(), pwd.getpwuid(os.getuid()).pw_name)"


@pytest.mark.soak  # the benchmarks alone use it
@pytest.mark.needs("faults", "htcondor", "slurm")
@pytest.mark.timeout(600)
def test_stock_batchspawner_gives_a_person_their_server_on_each_backend(
    bed: Bed, site: Site, run_folder: Path
) -> None:
    """A stock hub of its own starts a server as its owner on the facility's HTCondor and Slurm,
    is no part of the testbed's services, and is gone afterwards with all its jobs."""
    person = site.people("person")[0]
    services = list(stock_hub.TUNED.values())
    seen: dict[str, str] = {}
    with stock_hub.run(bed, services, logs=run_folder) as hubs:
        assert not set(services) & set(bed.services())
        for backend, service in stock_hub.TUNED.items():

            def ask(client: HubClient, server: str, backend: str = backend) -> None:
                with Kernel.start(client, server) as kernel:
                    seen[backend] = kernel.run(WHO).value

            client = hubs[service].client(person.name)
            trip = RoundTrip(client, hub=service, backend=backend, options={}, timeout_s=120)
            record = trip.run(0, while_running=ask)
            assert record.outcome == "ready", record.reason
            client.close()
        assert bed.published_port() == bed.settings.port
    assert seen == dict.fromkeys(stock_hub.TUNED, f"({person.uid}, '{person.name}')")
    assert not set(services) & set(bed.summaries())
    left = bed.exec("slurmctld", ["squeue", "--noheader", f"--name={stock_hub.SLURM_JOBS}"])
    assert left.stdout == ""
    held = f'Activity == "Busy" && RemoteOwner == "{person.name}@af.test"'
    argv = ["condor_status", "-pool", "condor-cm:9619", "-constraint", held, "-af", "JobId"]
    assert bed.exec("condor-cm", argv).stdout == ""
    assert not [job for job in orphans.jobs(bed) if job.owner == person.name]
