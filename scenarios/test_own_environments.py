"""A person adds an environment from a notebook; the next form offers it to that person alone."""

from collections.abc import Callable

import pytest

from testbed.hub_client import HubClient, Spawn, SpawnRefused
from testbed.kernels import Kernel
from testbed.logins import Visitor

pytestmark = pytest.mark.needs("faults")

# A project with a package of its own, as somebody would check it out.
PROJECT = """
import pathlib, zipfile
folder = pathlib.Path.home() / "af-testbed" / "project"
folder.mkdir(parents=True, exist_ok=True)
name = "little-1.0-py3-none-any.whl"
with zipfile.ZipFile(folder / name, "w") as wheel:
    wheel.writestr("little.py", "ANSWER = 42\\n")
    about = "little-1.0.dist-info"
    wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\\nName: little\\nVersion: 1.0\\n")
    kind = "Root-Is-Purelib: true\\nTag: py3-none-any\\n"
    wheel.writestr(f"{about}/WHEEL", f"Wheel-Version: 1.0\\n{kind}")
    wheel.writestr(f"{about}/RECORD", "")
(folder / "requirements.txt").write_text(f"./{name}\\n")
"""


def cell(client: HubClient, code: str, timeout_s: float = 120) -> str:
    """Run a cell in a new kernel of a person's server; what it printed."""
    kernel = Kernel.start(client)
    try:
        return kernel.run(code, timeout_s).stdout
    finally:
        kernel.shut_down()


def own(client: HubClient) -> dict[str, str]:
    """Name → title of what a person's form has under Yours."""
    offered = client.get_json("/hub/api/af/offer")["environments"]
    return {e["name"]: e["title"] for e in offered if e["section"] == "Yours"}


def test_an_environment_from_a_notebook_is_offered_and_starts(
    alice: Visitor, bob: Visitor, batch_backend: str, spawn: Callable[..., Spawn]
) -> None:
    """One command in a cell: the next server runs in it, on either scheduler, nobody else's."""
    client = alice.on(batch_backend)
    spawn(client, batch_backend, environment="python")
    said = cell(client, PROJECT + "\n!afportal add ~/af-testbed/project --title 'My project'")
    assert "the next start of a server offers it under Yours, as own.project" in said, said
    assert own(client)["own.project"] == "My project"
    assert "own.project" not in own(bob.on(batch_backend))
    with pytest.raises(SpawnRefused, match=r"environment own\.project asked"):
        spawn(bob.on(batch_backend), batch_backend, environment="own.project")
    client.stop()
    spawn(client, batch_backend, environment="own.project")
    assert cell(client, "import little; print(little.ANSWER)").strip() == "42"
    said = cell(client, "!afportal remove project; afportal list")
    assert "nothing added yet" in said, said
    assert "own.project" not in own(client)


def test_a_container_from_a_notebook_starts(
    alice: Visitor, batch_backend: str, spawn: Callable[..., Spawn]
) -> None:
    """A sandbox folder with what it is told: a whole server, with the command in it as well."""
    client = alice.on(batch_backend)
    spawn(client, batch_backend, environment="python")
    said = cell(
        client,
        "!afportal add /cvmfs/unpacked.stand-in/debian-12 --name box"
        " --python /opt/server/bin/python --env MINE=yes --bind /scratch:/work:rw",
    )
    assert "as own.box" in said, said
    client.stop()
    spawn(client, batch_backend, environment="own.box")
    told = "os.environ['MINE'], os.path.isdir('/work'), sys.prefix"
    found = cell(client, f"import os, sys; print({told})")
    assert found.split() == ["yes", "True", "/opt/server"]
    said = cell(client, "!afportal remove box")
    assert "removed box" in said, said
    assert "own.box" not in own(client)


def test_a_kernel_from_a_notebook_is_there_at_once(
    alice: Visitor, batch_backend: str, spawn: Callable[..., Spawn]
) -> None:
    """Beside the others of the server that runs."""
    client = alice.on(batch_backend)
    spawn(client, batch_backend, environment="python")
    said = cell(client, "!afportal add /opt/envs/plain --name bare --kernel")
    assert "added kernel bare" in said, said
    kernel = Kernel.start(client, name="own-bare")
    try:
        assert kernel.run("import sys; print(sys.prefix)").stdout.strip() == "/opt/envs/plain"
    finally:
        kernel.shut_down()
    assert "own.bare" in own(client)
    assert "removed bare" in cell(client, "!afportal remove bare")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("/etc", "no requirements.txt (to make one of)"),
        ("/etc/passwd", "a SIF file was expected"),
        ("/usr --name 'a b'", "name: String should match"),
        ("/opt/envs/plain --bind /a:/b:rx", "PATH:THERE:rw is wanted"),
    ],
)
def test_a_bad_definition_is_refused_with_a_reason(
    alice: Visitor, spawn: Callable[..., Spawn], arguments: str, told: str
) -> None:
    client = alice.on("local")
    spawn(client, "local", environment="python")
    said = cell(client, f"!afportal add {arguments}")
    assert told in said, said
    assert own(client) == {}
