"""`afportal check`: every error of a catalogue at once, each with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from afportal import cli

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
    backends: [htcondor, pbs]
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
"""


def checked(capsys: pytest.CaptureFixture[str], *files: Path) -> tuple[int, list[str]]:
    status = cli.main(["check", *map(str, files)])
    said = capsys.readouterr()
    return status, (said.err or said.out).splitlines()


def test_the_shipped_catalogue_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = checked(capsys, SHIPPED)
    assert status == 0, lines
    assert lines[0].endswith("classes: right")


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
        "line 14: classes.0.backends.1: Input should be 'htcondor', 'slurm' or 'local', not 'pbs'",
        "line 15: classes.0.cores: Input should be greater than or equal to 1, not 0",
        "line 17: classes.0.memory_limit_mib: a server is stopped at 1024, below the 1536",
        "line 19: classes.1.name: Field required",
        "line 21: classes.1.cores: 99 is more than limits.cores, 16",
        "line 24: classes.1.colour: Extra inputs are not permitted",
    ):
        assert any(line.startswith(begin) for line in told), (begin, told)
    assert len(told) == 10


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
