"""Keycloak's realms as data, filled in as the service does at start."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testbed import hubs

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "compose"
REALMS = COMPOSE / "keycloak" / "config" / "realms"
ROSTER = COMPOSE / "ldap" / "config" / "people.json"
PREPARE = COMPOSE / "keycloak" / "files" / "usr" / "local" / "sbin" / "prepare-realms"
MAKE_DIRECTORY = COMPOSE / "ldap" / "files" / "usr" / "local" / "sbin" / "make-directory"
SECRETS = tuple(f"{name}_client_secret" for name in ("proxy", "oauth", "data", "federation"))

hashes = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl to hash passwords with")

Prepare = Callable[[], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def realms(tmp_path: Path) -> Path:
    """A copy of the realm files, to be spoilt."""
    return Path(shutil.copytree(REALMS, tmp_path / "realms"))


@pytest.fixture
def prepare(tmp_path: Path, realms: Path) -> Prepare:
    keys = tmp_path / "keys"
    keys.mkdir()
    for name in SECRETS:
        (keys / name).write_text(f"made-up-{name}\n")

    def run() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, str(PREPARE), str(realms), str(ROSTER), str(keys),
             str(tmp_path / "out")],
            env={**os.environ, "AF_PORT": "9999"}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def prepared(tmp_path: Path, realm: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((tmp_path / "out" / f"{realm}.json").read_text())
    return content


def test_everybody_gets_the_second_factor_that_is_theirs(prepare: Prepare, tmp_path: Path) -> None:
    """Seeded people have a code, who enrols is not there yet, the federation's needs none."""
    done = prepare()
    assert done.returncode == 0, done.stderr
    roster = json.loads(ROSTER.read_text())["people"]
    seeds = json.loads((tmp_path / "keys" / "totp.json").read_text())
    users = {user["username"]: user for user in prepared(tmp_path, "af")["users"]}
    for person in roster:
        name = person["name"]
        if person.get("enrols"):
            assert name not in users
            assert name not in seeds
        elif "federation" in person:
            assert users[name]["credentials"] == []
            assert users[name]["federatedIdentities"][0]["userId"] == person["federation"]
            assert name not in seeds
        else:
            assert [entry["type"] for entry in users[name]["credentials"]] == ["otp"]
            assert re.fullmatch(r"[A-Z2-7]{32}", seeds[name])
    assert len({*seeds.values()}) == len(seeds)


def test_secrets_stay_what_they_are_and_are_nobody_elses(prepare: Prepare, tmp_path: Path) -> None:
    prepare()
    files = [tmp_path / "keys" / name for name in ("totp.json", "federation.json")]
    first = [file.read_text() for file in files]
    prepare()
    assert [file.read_text() for file in files] == first
    for file in (*files, tmp_path / "out" / "af.json"):
        assert file.stat().st_mode & 0o777 == 0o600


def test_addresses_are_exact_and_of_this_port(prepare: Prepare, tmp_path: Path) -> None:
    prepare()
    for realm in ("af", "federation"):
        for client in prepared(tmp_path, realm)["clients"]:
            for address in client["redirectUris"]:
                assert ":9999/" in address
                assert "*" not in address
            assert client["secret"].startswith("made-up-")
            assert not client["directAccessGrantsEnabled"]


def test_no_group_is_made_by_a_log_in(prepare: Prepare, tmp_path: Path) -> None:
    assert prepare().returncode == 0
    groups = [group["name"] for group in prepared(tmp_path, "af")["groups"]]
    assert sorted(groups) == sorted(json.loads(ROSTER.read_text())["groups"])


def test_each_groups_data_are_the_groups_alone(prepare: Prepare, tmp_path: Path) -> None:
    """A scope without a role would be everybody's; only what is open may have none."""
    assert prepare().returncode == 0
    realm = prepared(tmp_path, "af")
    experiments = {person["experiment"] for person in json.loads(ROSTER.read_text())["people"]}
    scopes = {s["name"] for s in realm["clientScopes"] if s["name"].startswith("storage.")}
    assert scopes == {f"storage.read:/{name}" for name in (*experiments, "open")}
    needed = {entry["clientScope"]: entry["roles"] for entry in realm["scopeMappings"]}
    holders = {group["name"]: group.get("realmRoles", []) for group in realm["groups"]}
    for name in experiments:
        assert needed[f"storage.read:/{name}"] == holders[name] == [f"data-{name}"]
    clients = [client for client in realm["clients"] if client["clientId"].startswith("data-")]
    assert clients
    for client in clients:
        assert scopes <= {*client["optionalClientScopes"]}
        assert not scopes & {*client["defaultClientScopes"]}


def test_every_instance_has_a_data_client_of_its_own(prepare: Prepare, tmp_path: Path) -> None:
    """Two that shared one would end each other's offline sessions."""
    assert prepare().returncode == 0
    clients = {client["clientId"]: client for client in prepared(tmp_path, "af")["clients"]}
    assert "data" not in clients
    for hub in hubs.read(ROOT):
        for number in range(1, hubs.MOST_INSTANCES + 1):
            (address,) = clients[f"data-{hub.name}-{number}"]["redirectUris"]
            assert address.endswith(f":9999/{hub.name}/hub/data-token")


def test_a_client_asks_only_for_scopes_that_there_are(prepare: Prepare, tmp_path: Path) -> None:
    """With scopes of its own in its file, a realm has none of those that come by themselves."""
    assert prepare().returncode == 0
    realm = prepared(tmp_path, "af")
    known = {scope["name"] for scope in realm["clientScopes"]}
    for client in realm["clients"]:
        assert {*client["defaultClientScopes"], *client["optionalClientScopes"]} <= known


@hashes
def test_keycloak_knows_people_by_the_directorys_own_id(prepare: Prepare, tmp_path: Path) -> None:
    """Two programs count the id; were they apart, every seeded person would be a stranger."""
    prepare()
    done = subprocess.run(
        [sys.executable, str(MAKE_DIRECTORY), str(ROSTER), str(tmp_path / "passwords.json")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    directory = dict(re.findall(r"(?m)^entryUUID: (\S+)\nuid: (\S+)$", done.stdout))
    users = prepared(tmp_path, "af")["users"]
    assert users
    for user in users:
        assert directory[user["attributes"]["LDAP_ID"][0]] == user["username"]


@hashes
def test_who_comes_through_the_federation_has_no_password(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords.json"
    done = subprocess.run(
        [sys.executable, str(MAKE_DIRECTORY), str(ROSTER), str(passwords)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    entries = {
        found[1]: entry
        for entry in done.stdout.split("\n\n")
        if (found := re.search(r"(?m)^uid: (\S+)$", entry))
    }
    assert "userPassword" not in entries["nora"]
    assert "userPassword" in entries["alice"]
    assert "nora" not in json.loads(passwords.read_text())


# Wrong realm files


def test_a_file_that_is_no_json_is_named_with_line_and_cure(prepare: Prepare, realms: Path) -> None:
    file = realms / "af.json"
    lines = file.read_text().splitlines()
    number = next(i for i, line in enumerate(lines) if '"loginTheme"' in line)
    lines[number] = lines[number].rstrip(",")
    file.write_text("\n".join(lines))
    done = prepare()
    assert done.returncode != 0
    assert f"compose/keycloak/config/realms/af.json line {number + 2}: " in done.stderr
    assert "delimiter" in done.stderr
    assert "try: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("wrong", "right", "told"),
    [
        ("@{hub_url}/-/oidc", "@{hubs_url}/-/oidc", "@{hub_url} stands for nothing"),
        (
            '"alias": "pages"',
            '"alias": "password and code: pages"',
            'has no "password and code: pages"',
        ),
        (
            '"authenticatorConfig": "none"',
            '"authenticatorConfig": "not registered"',
            'has no "none"',
        ),
        ('"realm": "cms"', '"realm": "af"', '"realm" must be "af"'),
        ('"enabled": "yes"', '"enabled": true', '"enabled" must be true or false'),
    ],
)
def test_what_cannot_be_is_named(
    prepare: Prepare, realms: Path, wrong: str, right: str, told: str
) -> None:
    file = realms / "af.json"
    text = file.read_text()
    assert right in text
    file.write_text(text.replace(right, wrong, 1))
    done = prepare()
    assert done.returncode != 0
    assert told in done.stderr
    assert re.search(r"af\.json line \d+: ", done.stderr)


def test_no_secret_lies_in_a_realm_file() -> None:
    for file in REALMS.glob("*.json"):
        for name, value in re.findall(
            r'"(secret|clientSecret|password)": "([^"]*)"', file.read_text()
        ):
            assert value.startswith("@{"), f"{file.name}: {name}"
