"""hubs.yaml as the harness renders it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from testbed import hubs
from testbed.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
GOOD = "{title: T, backends: [local], instances: 1, login: header}"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with the facility's own hubs.yaml and what is rendered from it."""
    for path in (
        hubs.HUBS_FILE,
        hubs.COMPOSE_FILE,
        hubs.KEYS_FILE,
        hubs.ROUTES_FILE,
        hubs.TARGETS_FILE,
        hubs.PORTAL_FILE,
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    return tmp_path


def write(home: Path, text: str) -> None:
    (home / hubs.HUBS_FILE).write_text(text)


def test_what_is_committed_is_current() -> None:
    """`testbed hubs` was run after hubs.yaml was changed."""
    assert hubs.changes(ROOT) == []


def test_portal_and_harness_read_the_same() -> None:
    """Both models of hubs.yaml name the same hubs, backends and instances."""
    code = (
        "import json, sys; from afportal.hubs import read_hubs\n"
        "print(json.dumps({h.name: [h.title, h.description, list(h.backends), h.login,"
        " list(h.instance_names)] for h in read_hubs(sys.argv[1]).hubs}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / hubs.HUBS_FILE)],
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {
        h.name: [h.title, h.description, list(h.backends), h.login, list(h.instance_names)]
        for h in hubs.read(ROOT)
    }


def test_each_instance_is_a_cell() -> None:
    """Hub, proxy and volume of its own; only the proxy of the facility publishes a port."""
    made = yaml.safe_load(hubs.compose_text(hubs.read(ROOT)))
    for hub in hubs.read(ROOT):
        for instance in hub.instance_names:
            service = made["services"][f"hub-{instance}"]
            assert service["environment"]["AF_INSTANCE"] == instance
            assert service["environment"]["AF_HUB"] == hub.name
            own = {f"cell-{instance}:/srv/hub/data", f"key-cell-{instance}:/keys/cell:ro"}
            authority = "key-inside-tls:/keys/inside-tls:ro"
            assert own <= {*service["volumes"]}
            assert {*made["services"][f"chp-{instance}"]["volumes"]} == own | {authority}
            assert {f"cell-{instance}", f"key-cell-{instance}"} <= {*made["volumes"]}
    cells = [name for name in made["volumes"] if name.startswith("cell-")]
    assert len(made["services"]) == 2 * len(cells)
    assert not [name for name, service in made["services"].items() if "ports" in service]


def test_each_cell_has_keys_of_its_own() -> None:
    """The service `keys` makes them in a volume each, for the instances that there are."""
    made = yaml.safe_load(hubs.keys_text(hubs.read(ROOT)))
    names = [name for hub in hubs.read(ROOT) for name in hub.instance_names]
    keys = made["services"]["keys"]
    assert keys["environment"]["AF_INSTANCES"].split() == names
    assert keys["volumes"] == [f"key-cell-{name}:/keys/cell-{name}" for name in names]
    assert [*made["volumes"]] == [f"key-cell-{name}" for name in names]


def test_the_front_doors_lines() -> None:
    """Instances first, then their hub; a hub that asks Keycloak itself is open."""
    lines = hubs.routes_text(hubs.read(ROOT)).splitlines()
    assert [line for line in lines if line.startswith("Use")] == [
        "Use Instance htc htc-1",
        "Use Instance htc htc-2",
        "Use Hub htc",
        "Use Instance hpc hpc-1",
        "Use Instance hpc hpc-2",
        "Use Hub hpc",
        "Use OpenHub oauth oauth-1",
    ]


def test_a_hub_is_added_by_a_few_lines(home: Path) -> None:
    """What comes and goes is told; a second time nothing changes."""
    text = (ROOT / hubs.HUBS_FILE).read_text()
    write(home, text.replace("instances: 2", "instances: 1", 1) + f"  lhc: {GOOD}\n")
    told = {change.path: change.words for change in hubs.render(home)}
    assert told[hubs.COMPOSE_FILE] == "+ chp-lhc-1, + hub-lhc-1, - chp-htc-2, - hub-htc-2"
    assert told[hubs.KEYS_FILE] == "6 lines"
    assert told[hubs.ROUTES_FILE] == "+ Instance lhc lhc-1, + Hub lhc, - Instance htc htc-2"
    assert hubs.render(home) == []


def test_a_file_that_was_edited_by_hand_is_made_anew(home: Path) -> None:
    """The rendered files hold nothing of their own."""
    with (home / hubs.COMPOSE_FILE).open("a") as file:
        file.write("# mine\n")
    assert [(c.path, c.words) for c in hubs.render(home)] == [(hubs.COMPOSE_FILE, "1 lines")]
    assert (home / hubs.COMPOSE_FILE).read_text() == (ROOT / hubs.COMPOSE_FILE).read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"hubs:\n  htc: {GOOD}\n  htc: {GOOD}\n", ["htc: this name is taken already"]),
        (f"hubs:\n  user: {GOOD}\n", ["hub user: name: user is reserved"]),
        (f"hubs:\n  two-words: {GOOD}\n", ["hub two-words: name"]),
        ("hubs: 1\n", ["a mapping of hub names"]),
        ("hubs: {a: [}", ["line 1"]),
        (
            "hubs:\n"
            "  a: {title: T, backends: [pbs], instances: 0, login: header, port: 1}\n"
            "  b: {title: T, backends: [local], instances: 2, login: keycloak}\n"
            "other: 1\n",
            ["hub a: backends.0", "hub a: instances", "hub a: port", "exactly one instance",
             "other: not known here"],
        ),
    ],
)  # fmt: skip
def test_bad_input_is_told_whole_with_its_cure(home: Path, text: str, said: list[str]) -> None:
    """One message with every error; nothing is rendered."""
    before = (home / hubs.COMPOSE_FILE).read_text()
    write(home, text)
    with pytest.raises(UsageError) as refused:
        hubs.render(home)
    for part in said:
        assert part in refused.value.seen
    assert "testbed hubs" in refused.value.cure
    assert (home / hubs.COMPOSE_FILE).read_text() == before


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """A tree without hubs.yaml says which file is wanted."""
    with pytest.raises(UsageError) as refused:
        hubs.read(tmp_path)
    assert "hubs.yaml" in str(refused.value)
