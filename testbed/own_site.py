"""The site file of a testbed of one's own: people from its directory, secrets from its volumes."""

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from testbed import hubs
from testbed.bed import Bed
from testbed.errors import TestbedError
from testbed.site import (
    BACKENDS,
    Backend,
    BackendName,
    Hub,
    Login,
    Person,
    Site,
    keep_secret,
    write_site,
)

_PASSWORDS = "/run/keys/ldap/passwords.json"
_SEEDS = "/run/keys/keycloak/totp.json"
_FEDERATION = "/run/keys/keycloak/federation.json"
_PROVIDER = "federation"
_OBSERVER_STEM = "/keys/hub/judge_stem"
_CA = "/keys/tls/ca.pem"
_BASE = "dc=af,dc=test"
_OPTIONS: Mapping[BackendName, Backend] = {"htcondor": Backend(options={"class": "reserved"})}


@dataclass
class Account:
    """A person of the directory."""

    name: str
    uid: int
    gid: int
    groups: list[str] = field(default_factory=list)


def write(bed: Bed) -> Path:
    """Write the site file of a running testbed; secrets go into files of mode 0600 beside it.

    Raises:
        TestbedError: A service does not give what is needed.
        UsageError: `hubs.yaml` is wrong.
    """
    folder = bed.settings.state_dir
    secrets = folder / "secrets"
    secrets.mkdir(parents=True, exist_ok=True)
    secrets.chmod(0o700)
    offered = hubs.read(bed.settings.home)
    site = Site(
        name=bed.project,
        front_door=bed.front_door_url,
        ca_bundle=Path("ca.pem"),
        needs=("faults", "students", "metrics", "gpu", "data", "front_door"),
        login=Login(kind="keycloak"),
        hubs=tuple(
            Hub(
                name=hub.name,
                url=f"{bed.front_door_url}/{hub.name}",
                api_url=f"{bed.front_door('api')}/{hub.name}",
                backends=hub.backends,
                instances=hub.instance_names,
            )
            for hub in offered
        ),
        backends={
            name: _OPTIONS.get(name, Backend())
            for name in BACKENDS
            if any(name in hub.backends for hub in offered)
        },
        users=(
            *_people(bed, folder, secrets),
            _observer(bed, folder, secrets, offered[0].instance_names[0]),
        ),
    )
    new = folder / "ca.pem.new"
    new.write_text(_read(bed, "proxy", _CA))
    new.replace(folder / "ca.pem")  # in one step: others may be reading it
    write_site(site, bed.settings.site_file)
    return bed.settings.site_file


def _people(bed: Bed, folder: Path, secrets: Path) -> Iterable[Person]:
    """Who logs in with a password of the directory, and who through the other organisation.

    Of people who are enrolled already the seed of their second factor is kept too.
    """
    passwords = json.loads(_read(bed, "ldap", _PASSWORDS))
    seeds = json.loads(_read(bed, "keycloak", _SEEDS))
    federated = json.loads(_read(bed, "keycloak", _FEDERATION))
    for account in accounts(_directory(bed)):
        password, totp = (secrets / f"{account.name}.{kind}" for kind in ("password", "totp"))
        if account.name not in passwords:
            continue
        keep_secret(password, passwords[account.name])
        if account.name in seeds:
            keep_secret(totp, seeds[account.name])
        yield Person(
            name=account.name,
            role=_role(account),
            password_file=password.relative_to(folder),
            totp_file=totp.relative_to(folder),
            uid=account.uid,
            gid=account.gid,
            groups=tuple(account.groups),
        )
    for name, password in sorted(federated.items()):
        path = secrets / f"{name}.password"
        keep_secret(path, password)
        yield Person(
            name=name,
            role="federated",
            provider=_PROVIDER,
            password_file=path.relative_to(folder),
        )


def _role(account: Account) -> Literal["person", "student", "visitor"]:
    if "visitors" in account.groups:
        return "visitor"
    return "student" if "tutorial" in account.groups else "person"


def _observer(bed: Bed, folder: Path, secrets: Path, instance: str) -> Person:
    """The judges' own identity; at each instance its token has that instance's name behind it."""
    path = secrets / "observer.token"
    keep_secret(path, _read(bed, f"hub-{instance}", _OBSERVER_STEM).strip())
    return Person(name="observer", role="observer", token_file=path.relative_to(folder))


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
