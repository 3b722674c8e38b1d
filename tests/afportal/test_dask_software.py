"""What a cluster's workers run in: as it is asked for, or as the notebook itself does."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from afportal import worker_environments
from afportal.catalogue import Catalogue
from afportal.credentials.delivery import Delivery
from afportal.dask import software, worker
from afportal.dask.software import Software, chosen
from afportal.session import inside

CONTAINER = {
    "image": "/images/a b.sif",
    "python": "/opt/server/bin/python",
    "bind": [{"source": "/data"}],
    "environment": {"RELEASE": "$(id)"},
}
SMALL = {
    "name": "s", "title": "S", "backends": ["slurm"], "cores": 1, "memory_mib": 512,
    "runtime_min": 60,
}  # fmt: skip


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A session's environment: what the hub told of, and a home with an own environment."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in (inside.CONTAINER, inside.LAUNCHER, *software._ENTERED):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "afportal").mkdir()
    (tmp_path / "afportal" / "catalogue.yaml").write_text(
        "environments: [{name: mine, container: {image: /home/alice/box}}]"
    )
    (tmp_path / worker_environments.FILE).write_text(
        json.dumps({"python": {"prefix": "/opt/envs/p"}, "sif": {"container": CONTAINER}})
    )
    return {"AF_SECRETS": str(tmp_path)}


def test_workers_run_where_the_notebook_does(session: dict[str, str]) -> None:
    """In its container, which the session knows as it was entered; else in its environment."""
    plain = chosen(None, None, None, session)
    assert plain.is_ours
    assert plain.command("--key", "sealed") == [
        sys.executable, "-I", "-m", "afportal.dask.worker", "--key", "sealed",
    ]  # fmt: skip
    told = inside.told(CONTAINER, {}) | session
    entered = chosen(None, None, None, told)
    assert json.loads(entered.container) == CONTAINER
    command = entered.command("--key", "sealed")
    assert command[:5] == [sys.executable, "-I", "-m", "afportal.dask.worker", "--in"]
    assert command[6:] == ["--python", sys.executable, "--key", "sealed"]


def test_workers_run_in_what_is_asked_for(session: dict[str, str]) -> None:
    """An environment by its name, one's own, an image's path, or a container as data."""
    assert chosen("python", None, None, session).python == "/opt/envs/p/bin/python"
    sif = chosen("sif", None, None, session)
    assert (sif.python, json.loads(sif.container)) == (CONTAINER["python"], CONTAINER)
    assert not sif.is_ours
    assert json.loads(chosen("mine", None, None, session).container) == {"image": "/home/alice/box"}
    image = chosen(None, "/images/x", "/opt/x/bin/python", session)
    assert (image.python, image.container) == ("/opt/x/bin/python", '{"image":"/images/x"}')
    assert chosen(None, CONTAINER, None, session) == sif


@pytest.mark.parametrize(
    ("environment", "container", "words"),
    [
        ("none", None, r"environment 'none' asked; there are: mine, python, sif"),
        ("sif", "/images/x", "take one"),
        (None, "images/x", r"container .* asked: image: .*absolute path"),
        (None, {"image": "/x", "mounts": []}, "mounts: Extra inputs"),
    ],
)
def test_what_is_no_software_is_named(
    session: dict[str, str], environment: str | None, container: Any, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        chosen(environment, container, None, session)


def test_a_container_of_somebody_elses_is_named(session: dict[str, str]) -> None:
    """How a worker would come into it is not known."""
    with pytest.raises(ValueError, match=r"in the container /x\.sif, which the portal did not"):
        chosen(None, None, None, {**session, "APPTAINER_CONTAINER": "/x.sif"})


def test_a_session_knows_what_its_person_may_use() -> None:
    """Neither what is another group's, nor what is no environment for people."""
    catalogue = Catalogue.model_validate(
        {
            "environments": [
                {"name": "p", "title": "P", "prefix": "/opt/p"},
                {"name": "cms", "title": "C", "prefix": "/opt/c", "groups": ["cms"]},
                {"name": "c", "title": "C", "container": CONTAINER, "backends": ["slurm"]},
                {"name": "load", "title": "L", "prefix": "/opt/p", "stand_in": True},
            ],
            "classes": [SMALL],
            "containers_only": ["visitors"],
        }
    )

    def given(*groups: str) -> Any:
        delivery = Delivery()
        worker_environments.put(delivery, catalogue, frozenset(groups))
        return json.loads(delivery.files[worker_environments.FILE])

    assert given() == {"p": {"prefix": "/opt/p"}, "c": {"container": CONTAINER}}
    assert set(given("cms")) == {"p", "cms", "c"}
    assert set(given("visitors")) == {"c"}


def test_the_key_is_taken_on_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the scheduler's programs are; in the container it is at the same path."""
    seen: dict[str, Any] = {}

    class Entered(Exception):
        pass

    def execve(_path: str, argv: list[str], environment: dict[str, str]) -> None:
        seen.update(argv=argv, environment=environment)
        raise Entered

    credentials = tmp_path / "credentials"
    credentials.mkdir()
    keys = {"ca.pem": "a", "worker.pem": "b", "worker.key": "a key"}
    (credentials / "dask_x.use").write_text(json.dumps(keys))
    here = {"_CONDOR_CREDS": str(credentials), "_CONDOR_SCRATCH_DIR": str(tmp_path)}
    monkeypatch.setattr(os, "environ", {"PATH": os.defpath, **here})
    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setattr(inside, "program", lambda: "/usr/bin/apptainer")
    place = Software("/opt/x/bin/python", json.dumps(CONTAINER), "/opt/l/bin/python")
    command = place.command("--key", "credd:dask_x", "--folder", "/f", "tls://s:1", "--nanny")
    with pytest.raises(Entered):
        worker.main(command[4:])
    argv = seen["argv"]
    at = argv.index(CONTAINER["image"])
    assert argv[at + 1 : at + 4] == ["/opt/x/bin/python", "-I", "-c"]
    rest = argv[at + 5 :]
    assert rest[:3] == ["/.afportal/afportal", "afportal.dask.worker", "--key"]
    kind, _, folder = rest[3].partition(":")
    assert (kind, (Path(folder) / "worker.key").read_text()) == ("folder", "a key")
    assert rest[4:] == ["--folder", "/f", "--packages", "", "tls://s:1", "--nanny"]
    assert f"{tmp_path}:{tmp_path}:rw" in argv
    assert "a key" not in str(seen)
    assert seen["environment"]["APPTAINERENV_RELEASE"] == "$(id)"
