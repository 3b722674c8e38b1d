"""hubs.yaml as the portal reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from afportal.hubs import read_hubs
from afportal.portal import read_settings

CONFIG = Path(__file__).parents[2] / "compose" / "hub" / "config"
VALUES = {"AF_PORT": "8443"}
GOOD = "{title: T, backends: [local], instances: 1, login: header}"


def test_the_facilitys_hubs() -> None:
    """htc and hpc in two instances each, and the test hub of all backends in one."""
    hubs = read_hubs(CONFIG / "hubs.yaml")
    assert hubs.names == ("htc", "hpc", "oauth")
    assert hubs.hub("htc").instance_names == ("htc-1", "htc-2")
    assert hubs.hub_of("hpc-2").backends == ("slurm", "local")
    assert hubs.hub("oauth").login == "keycloak"
    for unknown in ("htc-1", "nohub"):
        with pytest.raises(KeyError):
            hubs.hub(unknown)
    with pytest.raises(KeyError):
        hubs.hub_of("htc-3")


def test_every_backend_of_a_hub_is_described() -> None:
    """What hubs.yaml names, portal.yaml describes; the first is each hub's default."""
    for hub, instance in read_hubs(CONFIG / "hubs.yaml").instances():
        settings = read_settings(
            CONFIG / "portal.yaml",
            cell=instance,
            hub_url="http://h",
            backends=hub.backends,
            values=VALUES,
        )
        assert tuple(settings.backends) == hub.backends
        assert settings.cell == instance


def test_an_instance_must_say_what_only_it_knows() -> None:
    """Without cell and address, or with a backend that is not described, nothing starts."""
    with pytest.raises(ValueError, match=r"cell.*hub_url"):
        read_settings(CONFIG / "portal.yaml", values=VALUES)
    with pytest.raises(ValueError, match=r"@\{AF_PORT\} stands for nothing"):
        read_settings(CONFIG / "portal.yaml", cell="c-1", hub_url="h")
    with pytest.raises(ValueError, match="pbs not described"):
        read_settings(
            CONFIG / "portal.yaml", cell="c-1", hub_url="h", backends=["pbs"], values=VALUES
        )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"hubs:\n  htc: {GOOD}\n  htc: {GOOD}\n", ["htc: this name is taken already"]),
        (f"hubs:\n  api: {GOOD}\n", ["api is reserved"]),
        (f"hubs:\n  Http-Hub: {GOOD}\n", ["hub Http-Hub: name"]),
        (f"hubs:\n  a: {GOOD}\nhub: {{}}\n", ["hub: not known here"]),
        ("hubs: {}\n", ["a mapping of hub names"]),
        ("hubs: [a]\n", ["a mapping of hub names"]),
        ("hubs:\n  a: 1\n", ["hub a: title: Field required; backends: Field required"]),
        (
            "hubs:\n"
            "  a: {title: T, backends: [P/S, local, local], instances: 0, login: none, port: 1}\n"
            "  b: {title: T, backends: [], instances: 2, login: keycloak}\n",
            ["backends.0", "instances", "login", "port", "at least one", "exactly one instance"],
        ),
        ("hubs: {a: [}", ["line 1"]),
    ],
)
def test_all_errors_are_told_at_once(tmp_path: Path, text: str, said: list[str]) -> None:
    """A wrong file is refused with everything that is wrong in it."""
    file = tmp_path / "hubs.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"hubs\.yaml") as refused:
        read_hubs(file)
    for part in said:
        assert part in str(refused.value)
