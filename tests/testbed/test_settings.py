"""Flag before environment before memory before default; what cannot be is refused."""

from pathlib import Path

import pytest

from testbed import settings
from testbed.errors import UsageError


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As if installed from a wheel and run in an empty folder."""
    package = tmp_path / "site-packages" / "testbed"
    package.mkdir(parents=True)
    monkeypatch.setattr(settings, "PACKAGE", package)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@pytest.mark.usefixtures("elsewhere")
def test_precedence() -> None:
    assert settings.load(environ={}).port == 8443
    settings.remember(settings.load(environ={}), port=8002)
    assert settings.load(environ={}).port == 8002
    assert settings.load(environ={"AF_PORT": "8003"}).port == 8003
    assert settings.load(port=8004, environ={"AF_PORT": "8003"}).port == 8004


def test_each_project_remembers_for_itself(elsewhere: Path) -> None:
    settings.remember(settings.load("one", environ={}), port=8002, scale={"condor-ep": 3})
    assert settings.remembered(settings.load("one", environ={}))["scale"] == {"condor-ep": 3}
    assert settings.remembered(settings.load("two", environ={})) == {}
    assert settings.load("one", environ={}).site_file == elsewhere / ".testbed/one/site.toml"
    assert settings.load(environ={}).site_file == elsewhere / ".testbed/site.toml"


@pytest.mark.usefixtures("elsewhere")
def test_a_far_origin_stays_far_until_told_otherwise() -> None:
    assert not settings.load(environ={}).far
    settings.remember(settings.load(environ={}, far=True), far=True)
    assert settings.load(environ={}).far
    assert not settings.load(environ={}, far=False).far


def test_an_installed_wheel_writes_where_it_is_run(elsewhere: Path) -> None:
    loaded = settings.load(environ={})
    assert loaded.work == elsewhere
    assert loaded.compose_file == settings.PACKAGE / "compose" / "compose.yaml"


def test_the_front_doors_names_share_one_port() -> None:
    loaded = settings.load(port=9999, environ={})
    assert loaded.front_door("hubs") == "https://hubs.af.localhost:9999"
    assert loaded.front_door("api", 8444) == "https://api.af.localhost:8444"


@pytest.mark.parametrize("name", ["Up", "a/b", "-x", "ä", "a b"])
def test_a_name_that_cannot_be_a_project_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a compose project"):
        settings.load(name, environ={})


@pytest.mark.parametrize("port", ["x", "0x50", "-1"])
def test_a_port_that_is_no_number_is_refused(port: str) -> None:
    with pytest.raises(UsageError, match="AF_PORT must be a whole number"):
        settings.load(environ={"AF_PORT": port})


def test_a_port_out_of_range_is_refused() -> None:
    with pytest.raises(UsageError, match="not between"):
        settings.load(port=70000, environ={})


@pytest.mark.usefixtures("elsewhere")
def test_a_broken_memory_is_no_memory() -> None:
    loaded = settings.load(environ={})
    loaded.state_dir.mkdir(parents=True)
    (loaded.state_dir / "up.json").write_text("{half")
    assert settings.load(environ={}).port == 8443


def test_the_ca_bundle_of_the_environment_comes_first(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("x")
    assert settings.load(environ={"SSL_CERT_FILE": str(bundle)}).ca_bundle == bundle
