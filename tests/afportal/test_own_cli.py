"""One command adds an environment, a container or a kernel of one's own, or says why not."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from afportal import cli, own_catalogue, own_sources
from afportal.own_environments import OwnCatalogue


class Hub:
    """Takes what it is sent, or refuses with a message."""

    def __init__(self, refusal: str = "") -> None:
        self.bodies: list[Any] = []
        self.tokens: list[str | None] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hub.bodies.append((self.path, json.loads(body)))
                hub.tokens.append(self.headers["Authorization"])
                names = [f"own.{e['name']}" for e in json.loads(body).get("environments", [])]
                answer = {"message": refusal} if refusal else {"offered": names}
                text = json.dumps(answer).encode()
                self.send_response(403 if refusal else 200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hub/api"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, with no session around it."""
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "JUPYTER_DATA_DIR", "AF_SECRETS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def session(home: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """session(refusal=""): a session in that home, whose hub takes what it is told or refuses."""
    hubs: list[Hub] = []

    def begin(refusal: str = "") -> Hub:
        hubs.append(Hub(refusal))
        (home / "secrets").mkdir()
        (home / "secrets" / "jupyterhub_token").write_text("the-servers-own")
        monkeypatch.setenv("AF_SECRETS", str(home / "secrets"))
        monkeypatch.setenv("JUPYTERHUB_API_URL", hubs[-1].url)
        return hubs[-1]

    yield begin
    for hub in hubs:
        hub.close()


def environment(folder: Path, **versions: str) -> Path:
    """A folder whose Python answers that it has these packages."""
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin" / "python"
    python.write_text(f"#!/bin/sh\necho '{json.dumps(versions)}'\n")
    python.chmod(0o755)
    return folder


def test_an_environment_is_added_in_one_command(
    home: Path, session: Callable[..., Hub], capsys: pytest.CaptureFixture[str]
) -> None:
    """The file in the home has it, and the hub hears of it with the server's own token."""
    hub = session()
    folder = environment(home / "My Env", jupyterlab="4.6.6", jupyterhub="6.1.1")
    assert cli.main(["add", str(folder), "--title", "Mine"]) == 0
    said = capsys.readouterr().out
    assert "the next start of a server offers it under Yours, as own.my-env" in said
    entry = {"name": "my-env", "title": "Mine", "prefix": str(folder)}
    assert yaml.safe_load(own_catalogue.file().read_text()) == {"environments": [entry]}
    assert hub.bodies == [("/hub/api/af/own-environments", {"environments": [entry]})]
    assert hub.tokens == ["token the-servers-own"]
    assert cli.main(["list"]) == 0
    assert "my-env\tenvironment" in capsys.readouterr().out
    assert cli.main(["remove", "my-env"]) == 0
    assert own_catalogue.load() == OwnCatalogue()
    assert hub.bodies[-1][1] == {}


def test_a_refusal_of_the_hubs_is_read_in_the_cell(
    home: Path, session: Callable[..., Hub], capsys: pytest.CaptureFixture[str]
) -> None:
    session("people of the group visitors may use the facility's containers only")
    folder = environment(home / "mine", jupyterlab="4.6.6", jupyterhub="6.1.1")
    assert cli.main(["add", str(folder)]) == 1
    assert "the hub refuses it: people of the group visitors" in capsys.readouterr().err
    assert not own_catalogue.file().exists()


def test_a_python_without_jupyterlab_is_a_kernel(
    home: Path, session: Callable[..., Hub], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is in the launcher at once, and gone when it is removed."""
    session()
    folder = environment(home / "old", ipykernel="6.0")
    assert cli.main(["add", str(folder)]) == 0
    kernel = home / ".local/share/jupyter/kernels/own-old/kernel.json"
    assert json.loads(kernel.read_text())["argv"] == [
        f"{folder}/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}",
    ]  # fmt: skip
    assert "added kernel old" in capsys.readouterr().out
    assert cli.main(["remove", "old"]) == 0
    assert not kernel.exists()


def test_what_a_server_runs_in_is_not_taken_from_under_it(
    home: Path,
    session: Callable[..., Hub],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is offered no more, and its folder stays; elsewhere the folder goes too."""
    session()
    for name in ("used", "unused"):
        folder = environment(
            home / ".local/share/afportal/environments" / name,
            jupyterlab="4.6.6",
            jupyterhub="6.1.1",
        )
        assert cli.main(["add", str(folder)]) == 0
    used = home / ".local/share/afportal/environments/used"
    monkeypatch.setenv("PATH", f"{used}/bin:/usr/bin:/bin")
    assert cli.main(["remove", "used"]) == 0
    assert "this server runs in it" in capsys.readouterr().out
    assert cli.main(["remove", "unused"]) == 0
    assert used.exists()
    assert not used.with_name("unused").exists()
    assert own_catalogue.load() == OwnCatalogue()


def test_a_kernel_of_somebody_elses_making_stays(home: Path, session: Callable[..., Hub]) -> None:
    """Only what was written here is removed."""
    session()
    theirs = home / ".local/share/jupyter/kernels/own-mine/kernel.json"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("{}")
    folder = environment(home / "mine", jupyterlab="4.6.6", jupyterhub="6.1.1")
    assert cli.main(["add", str(folder)]) == 0
    assert cli.main(["remove", "mine"]) == 0
    assert theirs.exists()


def test_a_container_is_added_with_what_it_is_told(
    home: Path, session: Callable[..., Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = session()
    monkeypatch.setattr(own_sources, "_container_serves", lambda *_: True)
    image = home / "box.sif"
    image.write_bytes(b"#!/usr/bin/env run-singularity\n".ljust(32, b"\0") + b"SIF_MAGIC\0")
    assert (
        cli.main(
            ["add", str(image), "--python", "/opt/server/bin/python", "--bind", "/data:/in:rw",
             "--env", "RELEASE=2026.1", "--pass-on", "PATH"]
        )
        == 0
    )  # fmt: skip
    (entry,) = hub.bodies[0][1]["environments"]
    assert entry["container"] == {
        "image": str(image),
        "python": "/opt/server/bin/python",
        "bind": [{"source": "/data", "target": "/in", "writable": True}],
        "environment": {"RELEASE": "2026.1"},
        "pass_on": ["PATH"],
    }


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "is not there"),
        (["empty"], "no requirements.txt"),
        (["file"], "a SIF file was expected"),
        (["bare"], "install one of them there"),
        (["other"], "has JupyterHub 5.2.1; the servers here need"),
        (["bare", "--name", "No Name"], "name: String should match"),
        (["good", "--bind", "/a"], "this is a folder"),
        (["bare", "--bind", "a"], "bind.0.source: an absolute path is wanted"),
        (["bare", "--env", "NAME"], "NAME=VALUE is wanted"),
        (["bare", "--env", "A-B=1"], "environment"),
        (["bare", "--bind", "/a:/b:rx"], "PATH:THERE:rw is wanted"),
        (["ext::sh -c id"], "is not there"),
    ],
)
def test_a_bad_definition_is_refused_with_a_reason(
    home: Path,
    session: Callable[..., Hub],
    arguments: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is kept of it, and the hub hears nothing."""
    hub = session()
    monkeypatch.chdir(home)
    (home / "empty").mkdir()
    (home / "file").write_text("text")
    monkeypatch.setattr(own_sources, "_version", lambda _: "6.1.1")
    environment(home / "good", jupyterlab="4.6.6", jupyterhub="6.1.1")
    environment(home / "bare")
    environment(home / "other", jupyterlab="4.4.0", jupyterhub="5.2.1")
    assert cli.main(["add", *arguments]) == 1
    assert told in capsys.readouterr().err
    assert not own_catalogue.file().exists()
    assert hub.bodies == []


@pytest.mark.usefixtures("home")
def test_a_file_that_was_spoilt_by_hand_is_told_with_its_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    own_catalogue.file().parent.mkdir(parents=True)
    own_catalogue.file().write_text("environments:\n  - name: a\n    prefix: here\n")
    assert cli.main(["list"]) == 1
    assert "line 3: environments.0.prefix" in capsys.readouterr().err


def test_outside_of_a_session_the_next_one_tells_the_hub(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = environment(home / "mine", jupyterlab="4.6.6", jupyterhub="6.1.1")
    assert cli.main(["add", str(folder)]) == 0
    assert "the next one that starts tells the hub" in capsys.readouterr().out
    assert own_catalogue.load().environments[0].name == "mine"


def test_an_environment_is_made_of_requirements(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On top of the one that this runs in; what cannot be had is told with pip's own words."""
    project = home / "project"
    project.mkdir()
    wheel = "little-1.0-py3-none-any.whl"
    with zipfile.ZipFile(project / wheel, "w") as file:
        file.writestr("little.py", "ANSWER = 42\n")
        file.writestr(
            "little-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: little\nVersion: 1.0\n"
        )
        file.writestr(
            "little-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        file.writestr("little-1.0.dist-info/RECORD", "")
    (project / "requirements.txt").write_text(f"./{wheel}\npydantic\n")
    made = own_sources.make(project, "project")
    done = subprocess.run(
        [made / "bin" / "python", "-I", "-c", "import little, pydantic; print(little.ANSWER)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "42\n"
    assert sys.prefix not in str(made)
    (project / "requirements.txt").write_text("./not-there.whl\n")
    with pytest.raises(own_sources.NotUsable, match="ended with 1"):
        own_sources.make(project, "other")
    assert not made.with_name("other").exists()
    # What was there before goes on, and is not taken from under the server that runs in it.
    with pytest.raises(own_sources.NotUsable, match="ended with 1"):
        own_sources.make(project, "project")
    assert (made / "bin" / "python").exists()
    assert [folder.name for folder in made.parent.iterdir()] == ["project"]
    monkeypatch.setenv("PATH", f"{made}/bin:/usr/bin")
    with pytest.raises(own_sources.NotUsable, match="this server runs in"):
        own_sources.make(project, "project")
    assert (made / "bin" / "python").exists()
