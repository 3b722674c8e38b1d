"""The engine is found as the docker command finds it; what is missing is said."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from testbed import engine, settings
from testbed.errors import TestbedError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2.26.1-4", (2, 26, 1)),
        ("v2.39.2", (2, 39, 2)),
        ("github.com/docker/buildx 0.13.1+ds1 0.13.1+ds1-1", (0, 13, 1)),
        ("github.com/docker/buildx v0.21.2 1360a9e8d25a2c3d03c2776d53ae62e6ff0a843d", (0, 21, 2)),
        ("1.45", (1, 45)),
        ("none", (0,)),
    ],
)
def test_versions(text: str, expected: tuple[int, ...]) -> None:
    assert engine.version_tuple(text) == expected


@pytest.mark.parametrize(
    ("tools", "lacking"),
    [
        (engine.Tools(None, None, None), "no docker command on PATH"),
        (engine.Tools("docker", None, None), "no compose plugin, no buildx plugin"),
        (engine.Tools("docker", (1, 29, 2), (0, 13)), "compose 1.29.2 is older than 2.20"),
        (engine.Tools("docker", (2, 20, 0), (0, 13)), ""),
    ],
)
def test_what_is_lacking(tools: engine.Tools, lacking: str) -> None:
    assert tools.lacking() == lacking
    assert tools.complete == (lacking == "")


def test_docker_host_comes_first() -> None:
    loaded = settings.load(environ={"DOCKER_HOST": "unix:///elsewhere.sock"})
    assert engine.host(loaded) == "unix:///elsewhere.sock"
    assert engine.current_context(loaded) == "default"


def test_the_context_in_use_is_read(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    loaded = replace(settings.load(environ={}), docker_config=config)
    assert engine.current_context(loaded) == "default"
    config.write_text(json.dumps({"currentContext": "desktop-linux"}))
    assert engine.current_context(loaded) == "desktop-linux"


def test_a_silent_address_gives_its_cure(tmp_path: Path) -> None:
    loaded = settings.load(environ={"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    with pytest.raises(TestbedError, match="no container engine answers") as raised:
        engine.connect(loaded)
    assert "unset DOCKER_HOST" in raised.value.cure
    assert "No such file" in raised.value.seen


def test_an_engine_that_somebody_chose_is_not_replaced(tmp_path: Path) -> None:
    """With DOCKER_HOST set nothing is installed or started; the person is told."""
    loaded = settings.load(environ={"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    with pytest.raises(TestbedError, match="DOCKER_HOST or the docker context"):
        engine.ensure(loaded, lambda text: pytest.fail(text))


def test_without_root_or_debian_the_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "answers", lambda _settings: False)
    monkeypatch.setattr(engine, "tools", lambda: engine.Tools(None, None, None))
    monkeypatch.setattr(engine.apt, "is_debian", lambda: False)
    loaded = replace(settings.load(environ={}), docker_config=Path("/nonexistent"))
    with pytest.raises(TestbedError, match="engine is not ready") as raised:
        engine.ensure(loaded, lambda text: pytest.fail(text))
    assert "compose plugin" in raised.value.cure


def test_a_pid_file_of_another_program_is_dropped(tmp_path: Path) -> None:
    stale, gone, mine = tmp_path / "a.pid", tmp_path / "b.pid", tmp_path / "c.pid"
    stale.write_text("1")  # init, or whatever runs first here: not dockerd
    gone.write_text("4194305")  # past the largest pid that Linux gives
    mine.write_text("1")
    name = Path("/proc/1/comm").read_text().strip()
    said: list[str] = []
    engine.drop_stale_pid_files(
        {stale: "dockerd", gone: "dockerd", mine: name, tmp_path / "none": "dockerd"}, said.append
    )
    assert [stale.exists(), gone.exists(), mine.exists()] == [False, False, True]
    assert len(said) == 2
