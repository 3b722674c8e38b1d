"""The command line's own promises: exit codes, one JSON object, clear words."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.cli import output
from testbed.errors import ScenarioFailed, TestbedError, UsageError


def testbed(
    *argv: str,
    environ: dict[str, str] | None = None,  # noqa: PT028 - no test, see below
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "testbed", *argv],
        env={"PATH": "/usr/bin:/bin", "NO_COLOR": "1", **(environ or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


testbed.__test__ = False  # type: ignore[attr-defined] # pytest takes the name for a test's


@pytest.mark.parametrize(
    "argv",
    [
        ["nonsense"],
        ["up", "--nonsense"],
        ["up", "--ep", "0"],
        ["up", "--ep", "many"],
        ["bench", "nonsense"],
        ["fault", "kill", "condor-ap", "--for", "-1"],
        ["fault", "meteor", "condor-ap"],
        ["fault", "kill"],
        ["logs", "--project", "No/Such"],
        ["bench", "spawn", "--site", "/nonexistent/site.toml"],
        ["bench", "load", "--site", "/nonexistent/site.toml"],
        ["bench", "load", "--people", "0"],
        ["bench", "load", "--master", "2", "--worker", "127.0.0.1"],
        ["smoke", "--rounds", "0"],
        ["login"],
        ["login", "alice", "--token", "--jar", "x"],
        ["bench", "login", "--people", "0"],
        ["gate", "reports/latest"],
        ["gate", "/nonexistent", "/nonexistent"],
        ["gate", "/nonexistent", "/nonexistent", "--confidence", "101"],
        ["gate", "/nonexistent", "/nonexistent", "--confidence", "nan"],
        ["report", "/nonexistent"],
    ],
)
def test_usage_errors_end_with_2(argv: list[str]) -> None:
    done = testbed(*argv, "--json")
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr
    answer = json.loads(done.stdout)
    assert (answer["ok"], answer["exit_code"], answer["figures"]) == (False, 2, {})


def test_no_engine_ends_with_3_and_its_cure(tmp_path: Path) -> None:
    done = testbed("status", "--json", environ={"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    assert done.returncode == 3
    answer = json.loads(done.stdout)
    assert "no container engine answers" in answer["error"]
    assert answer["cure"]


def test_down_works_without_an_engine(tmp_path: Path) -> None:
    environ = {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    for argv in (["down"], ["down", "--volumes"]):
        done = testbed(*argv, "--project", "unit-test", "--json", environ=environ)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["ok"] is True


def test_doctor_finds_a_missing_engine_and_ends_with_1(tmp_path: Path) -> None:
    done = testbed("doctor", "--json", environ={"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    assert done.returncode == 1
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["engine"]["cure"]


def test_a_broken_site_file_shows_all_its_errors(tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text('name = 1\nfront_dor = "http://x"\n')
    done = testbed("bench", "spawn", "--site", str(site))
    assert done.returncode == 2
    assert "front_dor" in done.stderr
    assert "front_door" in done.stderr


SITE = """
name = "lab"
front_door = "https://hubs.example.org"
[login]
kind = "keycloak"
[[hubs]]
name = "hub"
[backends.local]
[[users]]
name = "alice"
password_env = "ALICE"
totp_env = "ALICE_TOTP"
[[users]]
name = "ivan"
password_env = "ALICE"
totp_file = "ivan.totp"
[[users]]
name = "nora"
role = "federated"
provider = "abroad"
password_env = "ALICE"
"""


def test_users_shows_passwords_and_codes_to_people_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table has them; the object for a program names where they are."""
    from testbed.bed import Bed
    from testbed.cli import people
    from testbed.settings import Settings

    (tmp_path / "site.toml").write_text(SITE)
    monkeypatch.setattr(Settings, "site_file", tmp_path / "site.toml")
    monkeypatch.setenv("ALICE", "swordfish")
    monkeypatch.setenv("ALICE_TOTP", "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")
    monkeypatch.setattr(Bed, "summaries", dict)
    people.users(None, "unit-test", False)
    shown = capsys.readouterr().out
    alice, ivan, nora = (
        next(line for line in shown.splitlines() if name in line)
        for name in ("alice", "ivan", "nora")
    )
    assert "swordfish" in alice
    assert re.search(r"\b\d{6}\b +\d+ s", alice)
    assert "enrols at first login" in ivan
    assert "through abroad" in nora
    assert "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP" not in shown
    people.users(None, "unit-test", True)
    answer = json.loads(capsys.readouterr().out)
    assert "swordfish" not in str(answer)
    assert [user["enrolled"] for user in answer["users"]] == [True, False, False]
    assert not (tmp_path / "used-codes.json").exists()


def test_fault_without_a_name_lists_them() -> None:
    done = testbed("fault", "--json")
    assert done.returncode == 0
    assert set(json.loads(done.stdout)["faults"]) >= {"stop", "kill", "pause"}


@pytest.mark.parametrize(
    ("error", "code"), [(ScenarioFailed, 1), (UsageError, 2), (TestbedError, 3)]
)
def test_errors_carry_their_exit_code(
    error: type[TestbedError], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    raised = error("wanted", seen="seen", cure="do")
    assert raised.exit_code == code
    output.failed(raised, ["up", "--json"])
    streams = capsys.readouterr()
    assert json.loads(streams.out)["exit_code"] == code
    assert streams.err == "testbed: wanted: seen\n  try: do\n"


def test_a_commands_own_json_flag_is_not_ours(capsys: pytest.CaptureFixture[str]) -> None:
    output.failed(UsageError("x"), ["exec", "hub", "--", "jq", "--json"])
    assert capsys.readouterr().out == ""


def test_log_tails_stand_on_lines_of_their_own() -> None:
    error = TestbedError("ldap did not come up", seen="\nldap: exited\n  | no key", cure="logs")
    assert str(error) == "ldap did not come up:\nldap: exited\n  | no key\n  try: logs"
