"""The house rules for what runs: two testbeds side by side, nothing open to the network."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

COMPOSE = Path(__file__).resolve().parents[2] / "compose"


def services() -> Iterator[tuple[Path, str, dict[str, Any]]]:
    for file in sorted(COMPOSE.glob("*/compose.yaml")):
        for name, service in yaml.safe_load(file.read_text())["services"].items():
            yield file, name, service


ALL = [pytest.param(service, id=name) for _, name, service in services()]
ONE_SHOTS = {
    dependency
    for _, _, service in services()
    for dependency, condition in service.get("depends_on", {}).items()
    if condition["condition"] == "service_completed_successfully"
}


@pytest.mark.parametrize("service", ALL)
def test_no_fixed_names_or_addresses(service: dict[str, Any]) -> None:
    assert "container_name" not in service
    assert "ipv4_address" not in str(service.get("networks"))


@pytest.mark.parametrize(
    "file", sorted(COMPOSE.glob("*/compose.yaml")), ids=lambda file: file.parent.name
)
def test_no_fixed_networks(file: Path) -> None:
    networks = yaml.safe_load(file.read_text()).get("networks") or {}
    assert not [name for name, network in networks.items() if {"ipam", "name"} & {*(network or {})}]


@pytest.mark.parametrize("service", ALL)
def test_ports_only_on_loopback_and_never_fixed(service: dict[str, Any]) -> None:
    """Only the front door publishes, at a port that can be chosen."""
    for port in service.get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:(\$\{AF_\w*PORT:-\d+\}):(\d+|\1)", port)
    assert service.get("network_mode") != "host"


@pytest.mark.parametrize("service", ALL)
def test_every_lasting_service_proves_that_it_works(
    service: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    if name in ONE_SHOTS:
        return
    probe = service["healthcheck"]
    assert probe["test"] not in (["NONE"], "NONE")
    for needed in ("start_period", "start_interval", "interval", "timeout", "retries"):
        assert needed in probe


@pytest.mark.parametrize("service", ALL)
def test_dependencies_wait_for_a_condition(service: dict[str, Any]) -> None:
    for condition in service.get("depends_on", {}).values():
        assert condition["condition"].startswith("service_")


@pytest.mark.parametrize("service", ALL)
def test_every_image_has_a_build_target(service: dict[str, Any]) -> None:
    tags = re.findall(r'tags\s*=\s*\["\$\{PROJECT\}/([^"]+)"\]', bake_file())
    assert service["image"].removeprefix("${AF_IMAGES:-af-testbed}/") in tags
    assert "build" not in service


def test_no_build_reads_a_context_that_is_not_there() -> None:
    root = COMPOSE.parent
    for dockerfile in re.findall(r'dockerfile\s*=\s*"([^"]+)"', bake_file()):
        assert (COMPOSE / dockerfile).is_file()
    for context in re.findall(r'context\s*=\s*"([^"]+)"', bake_file()):
        assert (root / context).is_dir()


def test_every_service_folder_is_included() -> None:
    """A service that the root file forgets would never run."""
    included = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["include"]
    paths = {entry if isinstance(entry, str) else entry["path"][0] for entry in included}
    there = {f"{file.parent.name}/compose.yaml" for file in COMPOSE.glob("*/compose.yaml")}
    assert {path.removeprefix("./") for path in paths} == there


def bake_file() -> str:
    return (COMPOSE / "docker-bake.hcl").read_text()
