"""The site file of a testbed of one's own: people from its directory, secrets from its volumes."""

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from testbed.bed import Bed
from testbed.errors import TestbedError
from testbed.site import Backend, Hub, Person, Site, write_site

_PASSWORDS = "/run/keys/ldap/passwords.json"
_OBSERVER_TOKEN = "/keys/hub/judge_token"  # noqa: S105 - a place, not a token
_BASE = "dc=af,dc=test"


@dataclass
class Account:
    """A person of the directory."""

    name: str
    uid: int
    gid: int
    groups: list[str] = field(default_factory=list)


def write(bed: Bed) -> Path:
    """Write the site file of a running testbed, and its secrets in files of mode 0600 beside it.

    Raises:
        TestbedError: The directory or the hub does not give what is needed.
    """
    folder = bed.settings.state_dir
    secrets = folder / "secrets"
    secrets.mkdir(parents=True, exist_ok=True)
    secrets.chmod(0o700)
    passwords = json.loads(_read(bed, "ldap", _PASSWORDS))
    people = []
    for account in accounts(_directory(bed)):
        path = secrets / f"{account.name}.password"
        _keep(path, passwords[account.name])
        people.append(
            Person(
                name=account.name,
                role="student" if "tutorial" in account.groups else "person",
                password_file=path.relative_to(folder),
                uid=account.uid,
                gid=account.gid,
                groups=tuple(account.groups),
            )
        )
    path = secrets / "observer.token"
    _keep(path, _read(bed, "hub", _OBSERVER_TOKEN).strip())
    people.append(Person(name="observer", role="observer", token_file=path.relative_to(folder)))
    site = Site(
        name=bed.project,
        front_door=bed.front_door_url,
        needs=("faults", "students", "metrics", "gpu"),
        hubs=(Hub(name="hub"),),
        backends={
            "htcondor": Backend(options={"class": "reserved"}),
            "slurm": Backend(),
            "local": Backend(),
        },
        users=tuple(people),
    )
    write_site(site, bed.settings.site_file)
    return bed.settings.site_file


def accounts(ldif: str) -> list[Account]:
    """People with their groups, in order of uid, from `ldapsearch -LLL` over people and groups."""
    people: dict[str, Account] = {}
    members: dict[str, list[str]] = {}
    names: dict[int, str] = {}
    for entry in entries(ldif):
        if "posixAccount" in entry["objectClass"]:
            name = entry["uid"][0]
            people[name] = Account(name, int(entry["uidNumber"][0]), int(entry["gidNumber"][0]))
        elif "posixGroup" in entry["objectClass"]:
            members[entry["cn"][0]] = list(entry.get("memberUid", []))
            names[int(entry["gidNumber"][0])] = entry["cn"][0]
    for account in people.values():
        primary = names.get(account.gid)
        groups = {group for group, inside in members.items() if account.name in inside}
        account.groups = sorted(groups | ({primary} if primary else set()))
    return sorted(people.values(), key=lambda account: account.uid)


def entries(ldif: str) -> list[Mapping[str, list[str]]]:
    """The entries of an LDIF text: attribute → values.

    Source: RFC 2849: a line that begins with a space continues the last; `::` is base64.
    """
    found: list[Mapping[str, list[str]]] = []
    entry: dict[str, list[str]] = {}
    for line in [*ldif.replace("\n ", "").splitlines(), ""]:
        if not line.strip():
            if entry:
                found.append(entry)
            entry = {}
        elif not line.startswith("#"):
            name, _, value = line.partition(":")
            if value.startswith(":"):
                value = base64.b64decode(value[1:]).decode()
            entry.setdefault(name, []).append(value.strip())
    return found


def _directory(bed: Bed) -> str:
    done = bed.exec(
        "ldap",
        ["ldapsearch", "-LLL", "-x", "-H", "ldap://localhost", "-b", _BASE,
         "(|(objectClass=posixAccount)(objectClass=posixGroup))",
         "objectClass", "uid", "uidNumber", "gidNumber", "cn", "memberUid"],
    )  # fmt: skip
    if not done.ok:
        raise TestbedError(
            "the directory does not answer", seen=done.stderr, cure="testbed logs ldap"
        )
    return done.stdout


def _read(bed: Bed, service: str, path: str) -> str:
    done = bed.exec(service, ["cat", path], user="root")
    if not done.ok:
        raise TestbedError(f"{service} has no {path}", seen=done.stderr.strip(), cure="testbed up")
    return done.stdout


def _keep(path: Path, secret: str) -> None:
    part = path.with_suffix(".part")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secret + "\n")
    part.replace(path)
