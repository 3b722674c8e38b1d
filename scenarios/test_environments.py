"""Every environment of the catalogue is another one, and gives what was asked for."""

from collections.abc import Callable
from pathlib import Path

import pytest

from testbed import notebooks
from testbed.hub_client import HubClient, Spawn, SpawnRefused
from testbed.logins import Logins, Visitor
from testbed.site import Site

# The tools of these flavours are the testbed's own.
pytestmark = pytest.mark.needs("faults")

FOLDER = Path(__file__).parent / "notebooks" / "environments"
# Flavour → the notebooks that only pass there.
NOTEBOOKS = {
    "accel-lcape": ("plain",),
    "accel-reads": ("r",),
    "cms-lpc": ("experiment",),
    "fife": ("sif",),
    "astro": ("sandbox",),
    "python": ("coffea", "experiment_kernel", "container_kernel"),
}


@pytest.fixture
def victor(logins: Logins, site: Site) -> Callable[[str], HubClient]:
    """victor(backend): of a group that is bound to containers."""
    return lambda backend: logins.client(site.people("visitor")[0].name, backend)


@pytest.fixture
def kept(run_folder: Path) -> Callable[[str], Path]:
    """kept(name): where the executed copy of a notebook goes."""
    return lambda name: run_folder / f"{name}.ipynb"


@pytest.mark.parametrize("flavour", NOTEBOOKS)
def test_each_environment_is_another_one(
    alice: Visitor,
    batch_backend: str,
    flavour: str,
    spawn: Callable[..., Spawn],
    kept: Callable[[str], Path],
) -> None:
    """A notebook finds there what no other environment has, on either scheduler."""
    client = alice.on(batch_backend)
    spawn(client, batch_backend, environment=flavour)
    for name in NOTEBOOKS[flavour]:
        notebooks.run(notebooks.read(FOLDER / f"{name}.ipynb"), client, copy=kept(name))


@pytest.mark.parametrize(
    ("options", "cores", "memory_mib", "gpu"),
    [
        ({"class": "regular"}, 2, 4096, ""),
        ({"class": "naf-12"}, 1, 12288, ""),
        ({"class": "naf-48"}, 2, 49152, ""),
        ({"class": "regular", "environment": "accel-lcape-k40"}, 2, 4096, "k40"),
        ({"class": "regular", "environment": "accel-lcape-t4"}, 2, 4096, "t4"),
    ],
    ids=["regular", "naf-12", "naf-48", "k40", "t4"],
)
def test_what_was_asked_for_is_granted(
    alice: Visitor,
    batch_backend: str,
    options: dict[str, str],
    cores: int,
    memory_mib: int,
    gpu: str,
    spawn: Callable[..., Spawn],
    kept: Callable[[str], Path],
) -> None:
    """Cores, memory and the kind of GPU, by the scheduler's own word in the notebook."""
    client = alice.on(batch_backend)
    spawn(client, batch_backend, **options)
    notebooks.run(
        notebooks.read(FOLDER / "granted.ipynb"),
        client,
        copy=kept("granted"),
        parameters={"cores": cores, "memory_mib": memory_mib, "gpu": gpu},
    )


def test_people_from_outside_get_containers_only(
    victor: Callable[[str], HubClient],
    batch_backend: str,
    spawn: Callable[..., Spawn],
    kept: Callable[[str], Path],
) -> None:
    """By what they are offered, and by what a request is answered."""
    client = victor(batch_backend)
    offered = client.get_json("/hub/api/af/offer")["environments"]
    assert offered
    assert all(environment["container"] for environment in offered)
    with pytest.raises(SpawnRefused, match="group visitors may use containers only"):
        spawn(client, batch_backend, environment="python")
    spawn(client, batch_backend, environment="astro")
    notebooks.run(notebooks.read(FOLDER / "sandbox.ipynb"), client, copy=kept("sandbox"))
