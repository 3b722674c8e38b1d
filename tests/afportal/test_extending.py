"""A facility's own backends and classes: as docs/extending.md has them, and when they are wrong."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from traitlets.config import Config

from afportal import cli, extensions
from afportal.backends.slurm import SlurmBackend
from afportal.catalogue import load, with_classes
from afportal.portal import make_backend, read_settings
from tests.afportal.portal_in_process import RunningPortal, running_portal

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "extending.md"
Install = Callable[..., None]

CATALOGUE = """\
environments:
  - {name: none, title: A stand-in, prefix: PREFIX, stand_in: true}
classes:
  - {name: small, title: Small, backends: [machine], cores: 1, memory_mib: 512, runtime_min: 60}
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """install(group, name, value, **modules): a package with that entry point, as pip leaves it."""
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    before = {*sys.modules}

    def deed(group: str, name: str, value: str, **modules: str) -> None:
        for module, text in modules.items():
            (site / f"{module}.py").write_text(text)
        info = site / f"{name}_of_mine-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {info.stem}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")

    yield deed
    for name in {*sys.modules} - before:
        if str(getattr(sys.modules[name], "__file__", "") or "").startswith(str(site)):
            del sys.modules[name]


@pytest.fixture
def portal(tmp_path: Path, install: Install) -> Iterator[RunningPortal]:
    """A hub whose one backend is that of the page, and which has its classes too."""
    backend, classes = blocks("python")
    install("afportal.backends", "machine", "machine:OneMachine", machine=backend)
    # It is night there, and all are at the machine.
    classes = classes.replace("datetime.now().hour >= 22", "True").replace("slurm", "machine")
    classes = classes.replace("cores=8", "cores=2")
    install("afportal.classes", "nights", "nights:classes", nights=classes)
    prefix = tmp_path / "environment"
    (prefix / "bin").mkdir(parents=True)
    # The real session, in this Python; its log is the test's.
    (prefix / "bin" / "python").write_text(
        textwrap.dedent(f"""\
            #!{sys.executable}
            import os, runpy, sys
            os.environ["XDG_STATE_HOME"] = {str(tmp_path)!r}
            sys.path.insert(0, {str(ROOT / "src")!r})
            del sys.argv[1:4]
            runpy.run_module("afportal.session", run_name="__main__", alter_sys=True)
            """)
    )
    (prefix / "bin" / "python").chmod(0o755)
    (tmp_path / "catalogue.yaml").write_text(CATALOGUE.replace("PREFIX", str(prefix)))
    settings = tmp_path / "portal.yaml"
    settings.write_text(
        "catalogue: catalogue.yaml\n"
        "backends: {machine: {most: 1, launcher: [env, 'WHO={person}']}}\n"
        "classes: [nights]\n"
    )
    config = Config()
    config.PortalSpawner.req_homedir = str(tmp_path)
    config.JupyterHub.allow_named_servers = True
    with running_portal(tmp_path, settings, config) as running:
        yield running


def test_the_pages_backend_starts_and_ends_servers(portal: RunningPortal) -> None:
    """From the request to a server that answers, a refusal of its own, and the end."""
    portal.person("alice")
    asked = portal.ask("POST", "/users/alice/server", json={"backend": "machine"})
    assert asked.status_code in (201, 202), asked.text
    told = portal.ask("GET", "/users/alice/server/progress").text
    assert '"ready": true' in told, told
    account = portal.ask("GET", "/af/spawns/alice").json()
    assert (account["backend"], account["state"]) == ("machine", "running")
    job = int(account["job_id"])
    assert b"WHO=alice" in Path(f"/proc/{job}/environ").read_bytes()

    portal.ask("POST", "/users/alice/servers/second", json={"backend": "machine"})
    refused = portal.spawn_failed("alice", "second")
    assert refused == "1 servers run here, and no more may"

    assert portal.ask("DELETE", "/users/alice/server").status_code == 204
    with pytest.raises(ProcessLookupError):
        os.kill(job, 0)
    # What started is proposed again, what failed is not.
    servers = portal.hub.app.users["alice"].spawners
    assert servers[""].orm_spawner.user_options == {"backend": "machine"}
    assert servers["second"].orm_spawner.user_options == {}


def test_the_pages_classes_are_for_whom_they_are(portal: RunningPortal) -> None:
    """A class of the moment is in the form of its people, started by them, refused to others."""
    tokens = {"carol": portal.person("carol", "cms"), "bob": portal.person("bob")}

    def offered(name: str) -> list[str]:
        (machine,) = portal.ask("GET", "/af/offer", tokens[name]).json()["backends"]
        assert machine["title"] == "This machine"
        return [c["name"] for c in machine["classes"]]

    assert (offered("carol"), offered("bob")) == (["small", "night"], ["small"])
    refused = portal.ask("POST", "/users/bob/server", json={"class": "night"})
    assert refused.status_code == 400
    assert "class night asked; machine offers you small" in refused.text

    portal.portal.more_classes["wrong"] = lambda person, groups: [person, groups]  # type: ignore[list-item]
    assert offered("carol") == ["small", "night"]


SLURM = "{url: 'http://s:6820', minter: {url: 'http://m:9700', secret_file: SECRET}MORE}"


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """A portal.yaml with two clusters, and their catalogue."""
    (tmp_path / "secret").write_bytes(b"s" * 32)
    classes = CATALOGUE.replace("[machine]", "[slurm, hpc2]").replace("PREFIX", "/opt/x")
    (tmp_path / "catalogue.yaml").write_text(classes)
    slurm = SLURM.replace("SECRET", str(tmp_path / "secret"))
    file = tmp_path / "portal.yaml"
    file.write_text(
        "cell: c-1\nhub_url: http://h\ncatalogue: catalogue.yaml\nbackends:\n"
        f"  slurm: {slurm.replace('MORE', '')}\n"
        f"  hpc2: {slurm.replace('MORE', ', kind: slurm, partition: short')}\n"
    )
    return file


def test_a_hub_has_two_clusters_of_a_kind(settings: Path) -> None:
    """Each by its own name and settings; one that is not its kind's is called by its own name."""
    read = read_settings(settings)
    made = {name: make_backend(name, b, read.cell) for name, b in read.backends.items()}
    assert [type(b) for b in made.values()] == [SlurmBackend, SlurmBackend]
    assert [(b.name, b.title, b.traits.usual_partition) for b in made.values()] == [
        ("slurm", "Slurm", ""), ("hpc2", "hpc2", "short"),
    ]  # fmt: skip
    titled = read.backends["hpc2"].model_copy(update={"title": "The new cluster"})
    assert make_backend("hpc2", titled, "c-1").title == "The new cluster"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("kind: slurm", "kind: pbs"), "backends.hpc2: there is no entry point pbs in "
                                       "afportal.backends, only broken, half, htcondor, local"),
        (("kind: slurm", "kind: broken"), "backends.hpc2: broken (broken:Pbs) cannot be imported: "
                                          "ModuleNotFoundError: No module named 'pbs_of_mine'"),
        (("kind: slurm", "kind: half"), "half (half:Half) lacks cancel, statuses"),
        (("kind: slurm", "kind: none"), "none (half:NONE) is no subclass of afportal.backends"),
        (("partition: short", "colour: red"), "backends.hpc2: colour: Extra inputs"),
        (("kind: slurm, partition: short", "kind: slurm, url: 7"), "backends.hpc2: url: "),
        (("hpc2:", "'hpc/2':"), "backends.hpc/2"),
        (("hpc2:", "hpc3:"), "line 4: classes.0.backends.1: hpc2 is none of hpc3, slurm"),
        (("cell:", "classes: [nights]\ncell:"), "there is no entry point nights in afportal.class"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_before_a_hub_starts(
    settings: Path,
    install: Install,
    capsys: pytest.CaptureFixture[str],
    change: tuple[str, str],
    told: str,
) -> None:
    """One message with the place, what is wrong there, and what there is."""
    broken = "import pbs_of_mine\n"
    half = (
        "from afportal.backends import Backend\nNONE = 3\n"
        "class Half(Backend):\n    async def submit(self, request): return '1'\n"
    )
    install("afportal.backends", "broken", "broken:Pbs", broken=broken)
    install("afportal.backends", "half", "half:Half", half=half)
    install("afportal.backends", "none", "half:NONE")
    assert cli.main(["check", str(settings)]) == 0
    assert "backends slurm (slurm), hpc2 (slurm)" in capsys.readouterr().out
    text = settings.read_text()
    assert change[0] in text
    settings.write_text(text.replace(*change))
    assert cli.main(["check", str(settings)]) == 1
    assert told in capsys.readouterr().err


def test_two_of_one_name_are_told_apart_by_nobody(install: Install) -> None:
    """Which of them would be taken must not depend on what is installed where."""
    install("afportal.backends", "slurm", "elsewhere:Slurm")
    with pytest.raises(ValueError, match=r"several.*SlurmBackend, elsewhere:Slurm"):
        extensions.backend_of("slurm")


def test_further_classes_take_nothing_away() -> None:
    """Containers, kernels, and whom a group binds to containers are as without them."""
    shipped = load(Path(__file__).parents[2] / "compose/hub/config/catalogue.yaml")
    assert shipped.kernels
    assert shipped.containers_only
    night = shipped.classes[0].model_copy(update={"name": "night"})
    found = with_classes(shipped, (night,))
    assert found.classes == (*shipped.classes, night)
    assert found == shipped.model_copy(update={"classes": found.classes})
    with pytest.raises(ValueError, match="night is the name of"):
        with_classes(shipped, (night, night))
