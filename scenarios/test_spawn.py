"""A person gets a server on each backend, as themselves, and nothing of it stays."""

from collections.abc import Callable

import pytest

from testbed import faults, orphans
from testbed.bed import Bed
from testbed.errors import UsageError
from testbed.hub_client import HubClient, Spawn, SpawnRefused
from testbed.kernels import Kernel
from testbed.logins import Logins, Visitor
from testbed.pytest_plugin import cannot_judge
from testbed.results import HUB_PHASES
from testbed.site import Site

WHO = "import os, pwd; (os.getuid(), pwd.getpwuid(os.getuid()).pw_name)"


@pytest.mark.parametrize("which", [0, 1], ids=["first person", "second person"])
def test_server_runs_as_its_owner(
    site: Site,
    people: tuple[Visitor, Visitor],
    backend: str,
    spawn: Callable[..., Spawn],
    which: int,
) -> None:
    """Two different people get a server on each backend, and its kernel is theirs."""
    client = people[which].on(backend)
    spawn(client, backend)
    with Kernel.start(client) as kernel:
        answer = kernel.run(WHO).value
    person = site.person(client.user)
    assert answer == f"({person.uid}, '{person.name}')"


def test_job_is_gone_after_stop(
    alice: Visitor,
    batch_backend: str,
    spawn: Callable[..., Spawn],
    jobs_behind: Callable[..., list[orphans.Job]],
    expect_no_job: Callable[..., None],
) -> None:
    """A stopped server leaves no job in its scheduler's queue."""
    client = alice.on(batch_backend)
    spawn(client, batch_backend)
    (job,) = jobs_behind(client)
    assert (job.backend, job.owner, job.state) == (batch_backend, client.user, "running")
    client.stop()
    assert "" not in client.servers()
    expect_no_job(client)


def test_every_phase_is_stamped(alice: Visitor, backend: str, spawn: Callable[..., Spawn]) -> None:
    """Each phase of a spawn has the hub's stamp, in order, and none lies in the future."""
    client = alice.on(backend)
    seen = spawn(client, backend)
    expected = [p for p in HUB_PHASES if backend == "htcondor" or p != "matched"]
    stamped = [phase for phase in HUB_PHASES if phase in seen.hub_unix_s]
    assert set(expected) <= set(stamped)
    stamps = [seen.hub_unix_s[phase] for phase in stamped]
    assert stamps == sorted(stamps)
    for phase in stamped:
        assert seen.hub_unix_s[phase] <= seen.own_unix_s[phase] + 0.05
    account = client.spawn_account()
    assert account["backend"] == backend
    assert account["phases"] == pytest.approx(seen.hub_unix_s)


@pytest.mark.needs("faults")
def test_a_planted_delay_is_in_the_spawn_and_then_gone(
    alice: Visitor, bed: Bed, spawn: Callable[..., Spawn]
) -> None:
    """What `testbed gate --self-check` plants lies between accepted and submitted, at every hub."""
    client = alice.on("local")
    with faults.delayed_spawns(bed, 3):
        spawn(client, "local")
    phases = client.spawn_account()["phases"]
    assert phases["submitted"] - phases["accepted"] >= 2.9
    for hub in (name for name in bed.services() if name.startswith("hub-")):
        left = bed.exec(hub, ["sh", "-c", "ls /srv/hub/data"]).stdout
        assert "jupyterhub.sqlite" in left
        assert "planted" not in left


@pytest.mark.needs("htcondor")
@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"backend": "pbs"}, "backend"),
        ({"backend": "htcondor", "cores": 10_000}, "10000"),
        ({"backend": "htcondor", "cores": "many"}, "cores"),
        ({"backend": "htcondor", "class": "no-such"}, "no-such"),
        ({"backend": "htcondor", "cmd": "id"}, "cmd"),
        ({"backend": "slurm", "partition": "x; id"}, "partition"),
    ],
)
def test_wrong_options_are_refused(
    site: Site,
    alice: Visitor,
    stopped_after: Callable[..., HubClient],
    options: dict[str, str | int],
    word: str,
) -> None:
    """Options that nobody may have are refused at once, and the message names them."""
    backend = options["backend"] if options["backend"] in site.backends else "htcondor"
    with pytest.raises(SpawnRefused) as refusal:
        stopped_after(alice.on(str(backend))).spawn(options)
    assert refusal.value.status == 400
    assert word in str(refusal.value)
    assert site.name  # the refusal left no job: the look for orphans follows


# What a facility with stand-in GPUs of these kinds asks for on each backend.
GPU_OPTIONS = {
    "htcondor": {"class": "regular", "gpus": "t4:1"},
    "slurm": {"partition": "gpu", "qos": "gpu", "gpus": "k40:1", "runtime_min": 60},
}


@pytest.mark.needs("gpu")
def test_a_gpu_is_given(alice: Visitor, batch_backend: str, spawn: Callable[..., Spawn]) -> None:
    """Who asks for a GPU of a kind gets a server that sees one device."""
    client = alice.on(batch_backend)
    spawn(client, batch_backend, **GPU_OPTIONS[batch_backend])
    with Kernel.start(client) as kernel:
        seen = kernel.run('import os; os.environ.get("CUDA_VISIBLE_DEVICES", "none")').value
    assert seen not in ("'none'", "''"), seen
    assert "," not in seen


@pytest.mark.needs("htcondor", "slurm")
def test_named_servers_side_by_side(
    site: Site,
    alice: Visitor,
    spawn: Callable[..., Spawn],
    jobs_behind: Callable[..., list[orphans.Job]],
    pytestconfig: pytest.Config,
) -> None:
    """A default server on one scheduler and a named one on the other do not meet."""
    try:
        hub = site.hub_for("htcondor", "slurm")
    except UsageError as error:
        cannot_judge(pytestconfig, str(error))
    client = alice.at(hub)
    spawn(client, "htcondor")
    spawn(client, "slurm", server="second")
    assert [job.backend for job in jobs_behind(client)] == ["htcondor"]
    assert [job.backend for job in jobs_behind(client, "second")] == ["slurm"]
    client.stop("second")
    with Kernel.start(client) as kernel:
        assert kernel.run("6 * 7").value == "42"


@pytest.mark.needs("front_door")
def test_a_new_server_is_looked_at_and_lives(
    site: Site, alice: Visitor, logins: Logins, spawn: Callable[..., Spawn], batch_backend: str
) -> None:
    """The hub's first look at a server that is just ready, for its owner's page, finds it running.

    What the scheduler said before the job began is not held against it.
    """
    client = alice.on(batch_backend)
    home = f"{site.entry_url(site.hub_for(batch_backend))}/hub/home"
    browser = logins.browser(client.user)
    for _ in range(5):
        spawn(client, batch_backend)
        assert browser.get(home, timeout=60).status_code == 200
        assert client.servers()[""]["ready"], client.spawn_account()
        client.stop()
