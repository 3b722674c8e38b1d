"""`afportal check`: every error of a catalogue at once, each with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from afportal import cli
from afportal.catalogue import Catalogue, Environment, load
from afportal.form import STATIC

SHIPPED = Path(__file__).parents[2] / "compose" / "hub" / "config" / "catalogue.yaml"

WRONG = """\
environments:
  - name: python
    title: Python 3
    prefix: /opt/envs/notebook
    default_class: huge
  - name: python
    title: The same again
    prefix: /opt/envs/other
    prefix: /opt/envs/another
    gpus: many
classes:
  - name: small
    title: Small
    backends: [htcondor, PBS/1]
    cores: 0
    memory_mib: 1536
    memory_limit_mib: 1024
    runtime_min: 480
  - title: No name
    backends: [slurm]
    cores: 99
    memory_mib: 1024
    runtime_min: 60
    colour: red
    runtime_limit_min: 30
"""


def checked(capsys: pytest.CaptureFixture[str], *files: Path) -> tuple[int, list[str]]:
    status = cli.main(["check", *map(str, files)])
    said = capsys.readouterr()
    return status, (said.err or said.out).splitlines()


def test_the_shipped_catalogue_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = checked(capsys, SHIPPED)
    assert status == 0, lines
    assert lines[0].endswith("classes: right")


def test_the_shipped_flavours_are_those_of_a_real_facility() -> None:
    """22 beside the testbed's own, 13 of them with a GPU, on six environments that differ; each
    says what it stands in for."""
    catalogue = load(SHIPPED)
    flavours = [e for e in catalogue.environments if e.section]
    assert len(flavours) == 22
    assert sorted({e.gpus for e in flavours}) == ["", "k40:1", "t4:1"]
    assert sum(bool(e.gpus) for e in flavours) == 13
    assert {e.stand_in_for for e in flavours} == {"SL7", "CC8"}
    assert all("(stand-in for " in e.shown and e.icon for e in flavours)
    assert len({e.path for e in catalogue.environments}) == 6


def test_desys_three_classes_say_that_their_memory_is_declared() -> None:
    """12, 20, 48 GB; 1, 1, 2 cores; 12, 6, 3 hours."""
    naf = [c for c in load(SHIPPED).classes if c.name.startswith("naf-")]
    assert [(c.memory_mib // 1024, c.cores, c.runtime_min // 60) for c in naf] == [
        (12, 1, 12), (20, 1, 6), (48, 2, 3),
    ]  # fmt: skip
    assert all("declared, not real" in c.title for c in naf)


def test_every_icon_is_a_picture_and_nothing_else() -> None:
    """They are shown as images, where a script would not run; there is none all the same."""
    icons = sorted((STATIC / "icons").glob("*.svg"))
    assert icons
    for icon in icons:
        text = icon.read_text()
        assert text.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
        assert not any(word in text for word in ("script", "href", "style", "foreign", "onload"))


CONTAINER = {"image": "/images/a.sif"}
ENTRY = {"name": "a", "title": "A", "prefix": "/opt/a"}
CLASS = {
    "name": "small", "title": "Small", "backends": ["slurm"], "cores": 1, "memory_mib": 512,
    "runtime_min": 60,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"container": CONTAINER}, "either prefix or container"),
        ({"prefix": ""}, "either prefix or container"),
        ({"name": "own.a"}, "names with own. are people's own"),
        ({"icon": "nothing"}, "there is no such icon; there are"),
        ({"prefix": "relative/path"}, "prefix"),
        ({"prefix": "", "container": {"image": "docker://somewhere"}}, "image"),
        ({"prefix": "", "container": {**CONTAINER, "command": "sh"}}, "command"),
    ],
)
def test_what_an_environment_cannot_be(change: dict[str, object], told: str) -> None:
    raw = {"environments": [{**ENTRY, **change}], "classes": [CLASS], "launcher": "/opt/p"}
    with pytest.raises(ValueError, match=told):
        Catalogue.model_validate(raw)


@pytest.mark.parametrize(
    "change",
    [
        {"bind": [{"source": "/a:/b"}]},
        {"bind": [{"source": "/a,/b"}]},
        {"bind": [{"source": "/$(id)"}]},
        {"bind": [{"source": "a"}]},
        {"bind": [{"source": "/a", "target": "b"}]},
        {"bind": [{"source": "/a"}] * 33},
        {"environment": {"A-B": "x"}},
        {"environment": {"A": "x\ny"}},
        {"pass_on": ["PATH=/x"]},
        {"image": "/images/a sif\n"},
    ],
)
def test_a_container_is_data_without_separators(change: dict[str, object]) -> None:
    """No path or variable can be read as more than one argument of apptainer's."""
    with pytest.raises(ValueError, match="container"):
        Environment.model_validate(
            {"name": "a", "title": "A", "container": {**CONTAINER, **change}}
        )


def test_kernels_are_for_the_environments_that_can_start_them() -> None:
    """A server in a container starts no other container, and has what is meant for it by name."""
    argv = ["/k", "{connection_file}"]
    catalogue = Catalogue.model_validate(
        {
            "environments": [ENTRY, {"name": "c", "title": "C", "container": CONTAINER}],
            "classes": [CLASS],
            "kernels": [
                {"name": "plain", "title": "P", "argv": argv},
                {"name": "boxed", "title": "B", "argv": argv, "container": CONTAINER},
                {"name": "named", "title": "N", "argv": argv, "environments": ["c"]},
                {"name": "cms", "title": "E", "argv": argv, "groups": ["cms"]},
            ],
        }
    )
    folder, container = catalogue.environments

    def names(environment: Environment, *groups: str) -> list[str]:
        return [k.name for k in catalogue.kernels_of(environment, frozenset(groups))]

    assert names(folder) == ["plain", "boxed"]
    assert names(folder, "cms") == ["plain", "boxed", "cms"]
    assert names(container, "cms") == ["named"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"argv": ["/k"]}, "nobody could reach the kernel"),
        ({"environments": ["b"]}, "there is no environment b"),
    ],
)
def test_what_a_kernel_cannot_be(change: dict[str, object], told: str) -> None:
    kernel = {"name": "k", "title": "K", "argv": ["/k", "{connection_file}"], **change}
    raw = {"environments": [ENTRY], "classes": [CLASS], "kernels": [kernel]}
    with pytest.raises(ValueError, match=told):
        Catalogue.model_validate(raw)


def test_only_containers_need_a_launcher() -> None:
    """A catalogue of containers alone must say which Python of the nodes enters them."""
    raw = {"environments": [{"name": "c", "title": "C", "container": CONTAINER}]}
    with pytest.raises(ValueError, match="launcher"):
        Catalogue.model_validate({**raw, "classes": [CLASS]})
    found = Catalogue.model_validate({**raw, "classes": [CLASS], "launcher": "/opt/p/bin/python"})
    assert found.launching == "/opt/p/bin/python"


def test_every_error_is_told_with_its_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "catalogue.yaml"
    file.write_text(WRONG)
    status, lines = checked(capsys, file)
    assert status == 1
    told = [line.removeprefix(f"{file}: ") for line in lines]
    for begin in (
        "line 5: environments.0.default_class: there is no class huge",
        "line 6: environments.1.name: python is the name of environments.0 too",
        "line 9: environments.1.prefix: stands here a second time",
        "line 10: environments.1.gpus: String should match pattern",
        "line 14: classes.0.backends.1: String should match pattern",
        "line 15: classes.0.cores: Input should be greater than or equal to 1, not 0",
        "line 17: classes.0.memory_limit_mib: a server is stopped at 1024, below the 1536",
        "line 19: classes.1.name: Field required",
        "line 21: classes.1.cores: 99 is more than limits.cores, 16",
        "line 24: classes.1.colour: Extra inputs are not permitted",
        "line 25: classes.1.runtime_limit_min: a server may run for 60 at its start",
    ):
        assert any(line.startswith(begin) for line in told), (begin, told)
    assert len(told) == 11


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "this is no mapping"),
        ("- a\n- b\n", "this is no mapping"),
        ("environments: [\n", "line 2"),
        ("environments: {a: 1}\nclasses: 7\n", "line 2: classes"),
        ("a: &x [*x]\n", "line 1"),
    ],
)
def test_what_is_no_catalogue_at_all(
    text: str, told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "catalogue.yaml"
    file.write_text(text)
    status, lines = checked(capsys, file)
    assert status == 1
    assert any(told in line for line in lines), lines


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, lines = checked(capsys, tmp_path / "none.yaml", SHIPPED)
    assert status == 2
    assert "cannot be read" in lines[0]
