"""A person gets a server on each backend, as themselves, and nothing of it stays."""

from collections.abc import Callable

import pytest

from testbed import orphans
from testbed.hub_client import HubClient, Spawn, SpawnRefused
from testbed.kernels import Kernel
from testbed.results import HUB_PHASES
from testbed.site import Site

WHO = "import os, pwd; (os.getuid(), pwd.getpwuid(os.getuid()).pw_name)"


@pytest.mark.parametrize("which", [0, 1], ids=["first person", "second person"])
def test_server_runs_as_its_owner(
    site: Site,
    people: tuple[HubClient, HubClient],
    backend: str,
    spawn: Callable[..., Spawn],
    which: int,
) -> None:
    """Two different people get a server on each backend, and its kernel is theirs."""
    client = people[which]
    spawn(client, backend)
    with Kernel.start(client) as kernel:
        answer = kernel.run(WHO).value
    person = site.person(client.user)
    assert answer == f"({person.uid}, '{person.name}')"


def test_job_is_gone_after_stop(
    alice: HubClient,
    batch_backend: str,
    spawn: Callable[..., Spawn],
    jobs_behind: Callable[..., list[orphans.Job]],
    expect_no_job: Callable[..., None],
) -> None:
    """A stopped server leaves no job in its scheduler's queue."""
    spawn(alice, batch_backend)
    (job,) = jobs_behind(alice)
    assert (job.backend, job.owner, job.state) == (batch_backend, alice.user, "running")
    alice.stop()
    assert "" not in alice.servers()
    expect_no_job(alice)


def test_every_phase_is_stamped(
    alice: HubClient, backend: str, spawn: Callable[..., Spawn]
) -> None:
    """Each phase of a spawn has the hub's stamp, in order, and none lies in the future."""
    seen = spawn(alice, backend)
    expected = [p for p in HUB_PHASES if backend == "htcondor" or p != "matched"]
    stamped = [phase for phase in HUB_PHASES if phase in seen.hub_unix_s]
    assert set(expected) <= set(stamped)
    stamps = [seen.hub_unix_s[phase] for phase in stamped]
    assert stamps == sorted(stamps)
    for phase in stamped:
        assert seen.hub_unix_s[phase] <= seen.own_unix_s[phase] + 0.05
    account = alice.spawn_account()
    assert account["backend"] == backend
    assert account["phases"] == pytest.approx(seen.hub_unix_s)


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
    alice: HubClient,
    stopped_after: Callable[..., HubClient],
    options: dict[str, str | int],
    word: str,
) -> None:
    """Options that nobody may have are refused at once, and the message names them."""
    with pytest.raises(SpawnRefused) as refusal:
        stopped_after(alice).spawn(options)
    assert refusal.value.status == 400
    assert word in str(refusal.value)
    assert site.name  # the refusal left no job: the look for orphans follows


# What a facility with stand-in GPUs of these kinds asks for on each backend.
GPU_OPTIONS = {
    "htcondor": {"class": "regular", "gpus": "t4:1"},
    "slurm": {"partition": "gpu", "qos": "gpu", "gpus": "k40:1", "runtime_min": 60},
}


@pytest.mark.needs("gpu")
def test_a_gpu_is_given(alice: HubClient, batch_backend: str, spawn: Callable[..., Spawn]) -> None:
    """Who asks for a GPU of a kind gets a server that sees one device."""
    spawn(alice, batch_backend, **GPU_OPTIONS[batch_backend])
    with Kernel.start(alice) as kernel:
        seen = kernel.run('import os; os.environ.get("CUDA_VISIBLE_DEVICES", "none")').value
    assert seen not in ("'none'", "''"), seen
    assert "," not in seen


@pytest.mark.needs("htcondor", "slurm")
def test_named_servers_side_by_side(
    alice: HubClient,
    spawn: Callable[..., Spawn],
    jobs_behind: Callable[..., list[orphans.Job]],
) -> None:
    """A default server on one scheduler and a named one on the other do not meet."""
    spawn(alice, "htcondor")
    spawn(alice, "slurm", server="second")
    assert [job.backend for job in jobs_behind(alice)] == ["htcondor"]
    assert [job.backend for job in jobs_behind(alice, "second")] == ["slurm"]
    alice.stop("second")
    with Kernel.start(alice) as kernel:
        assert kernel.run("6 * 7").value == "42"
