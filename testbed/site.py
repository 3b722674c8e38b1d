"""The site file: how to reach a facility, what it has, and who may be used to judge it.

An example:

    name = "af-testbed"
    front_door = "https://hubs.af.localhost:8443"
    ca_bundle = "ca.pem"
    needs = ["faults", "metrics"]

    [login]
    kind = "keycloak"

    [[hubs]]
    name = "htc"
    url = "https://hubs.af.localhost:8443/htc"
    api_url = "https://api.af.localhost:8443/htc"
    backends = ["htcondor", "local"]
    instances = ["htc-1", "htc-2"]

    [backends.htcondor]
    options = { class = "reserved" }

    [[users]]
    name = "alice"
    password_file = "secrets/alice.password"
    totp_file = "secrets/alice.totp"
    uid = 20001

A facility with one plain JupyterHub and its own login form needs neither `[login]` nor more
of a hub than its name.
"""

import difflib
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from testbed.errors import UsageError
from testbed.secret import Secret

BackendName = Literal["htcondor", "slurm", "local"]
BACKENDS: tuple[BackendName, ...] = ("htcondor", "slurm", "local")

# What a scenario can ask of a site beside a backend (`@pytest.mark.needs(…)`).
NEEDS = {
    "faults": "its services may be stopped, paused and killed (a testbed's own)",
    "students": "at least 20 people for crowds",
    "metrics": "the hub's /hub/metrics can be read",
    "gpu": "GPUs, or stand-ins, can be asked for",
    "data": "an origin and an XCache, told of by a monitor (a testbed's own)",
    "front_door": "the testbed's own front door: names, sticky routes, API door, Keycloak",
}

_INLINE_SECRETS = ("password", "token", "secret", "totp")


def _without_slash(url: HttpUrl) -> HttpUrl:
    if url.path not in (None, "", "/"):
        raise ValueError("give scheme, host and port only; the hub's paths are added")
    return url


def _base_of_a_hub(url: HttpUrl) -> HttpUrl:
    if url.query or url.fragment or (url.path or "").rstrip("/").endswith("/hub"):
        raise ValueError("give the hub's base path at most; /hub is added")
    return url


FrontDoor = Annotated[HttpUrl, AfterValidator(_without_slash)]
HubBase = Annotated[HttpUrl, AfterValidator(_base_of_a_hub)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Login(_Part):
    """How people log in: at JupyterHub's own form, or at Keycloak behind the front door."""

    kind: Literal["form", "keycloak"] = "form"


class Hub(_Part):
    """A hub; without an address of its own it answers at the front door.

    `url` is where a browser enters and `api_url` where a script with a token does, by default
    the same; both with the hub's base path. A hub that names no `backends` has all of the
    site's. `instances` are the cells of a balanced hub: a token's last part names one.
    """

    name: str
    url: HubBase | None = None
    api_url: HubBase | None = None
    backends: tuple[BackendName, ...] = ()
    instances: tuple[str, ...] = ()

    def offers(self, *backends: str) -> bool:
        """Whether all of these backends can be had here."""
        return not self.backends or set(backends) <= set(self.backends)


class Backend(_Part):
    """A backend the site offers, with the options a spawn sends when it names none."""

    options: Mapping[str, str | int] = Field(default_factory=dict)


class Person(_Part):
    """Somebody the judges may log in as. Exactly one source of a secret.

    A person with role `observer` is never spawned for; the hub lets them read metrics
    and other people's servers. One with role `federated` comes from another organisation:
    `provider` is its name on the login page. A `visitor` may use less than others, as only
    environments in containers.

    `totp_file` or `totp_env` has the base32 seed of a second factor. A file that is not there
    yet belongs to somebody who enrols at their first login, and is written then.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9._-]{0,31}$")
    role: Literal["person", "student", "visitor", "observer", "federated"] = "person"
    provider: str | None = None
    password_env: str | None = None
    password_file: Path | None = None
    token_env: str | None = None
    token_file: Path | None = None
    totp_env: str | None = None
    totp_file: Path | None = None
    uid: int | None = Field(default=None, ge=1)
    gid: int | None = Field(default=None, ge=1)
    groups: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = [self.password_env, self.password_file, self.token_env, self.token_file]
        if sum(source is not None for source in sources) != 1:
            raise ValueError(
                "name exactly one of password_env, password_file, token_env, token_file"
            )
        if self.totp_env and self.totp_file:
            raise ValueError("name one of totp_env, totp_file")
        if self.logs_in_by == "token" and (self.totp_env or self.totp_file):
            raise ValueError("a token needs no second factor: leave totp_env, totp_file out")
        if (self.role == "federated") != (self.provider is not None):
            raise ValueError('role = "federated" and provider go together')
        return self

    @property
    def logs_in_by(self) -> Literal["password", "token"]:
        return "token" if self.token_env or self.token_file else "password"


class Site(_Part):
    """A facility under judgement."""

    name: str
    front_door: FrontDoor
    ca_bundle: Path | None = None
    needs: tuple[str, ...] = ()
    login: Login = Login()
    hubs: tuple[Hub, ...] = Field(min_length=1)
    backends: Mapping[BackendName, Backend] = Field(min_length=1)
    users: tuple[Person, ...] = Field(min_length=1)

    _folder: Path = PrivateAttr(default=Path())

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = []
        for need in self.needs:
            if need not in NEEDS:
                near = difflib.get_close_matches(need, NEEDS, n=1)
                meant = f"; did you mean {near[0]!r}?" if near else ""
                problems.append(f"needs: unknown {need!r}{meant} (known: {', '.join(NEEDS)})")
        for what, names in (
            ("hubs", [hub.name for hub in self.hubs]),
            ("users", [person.name for person in self.users]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                problems.append(f"{what}: named more than once: {', '.join(twice)}")
        if not self.people():
            problems.append("users: nobody to spawn for; only observers or federated people")
        problems += [
            f"hubs: {hub.name} offers {name}, which is not among the backends"
            for hub in self.hubs
            for name in hub.backends
            if name not in self.backends
        ]
        problems += [
            f"backends.{backend}: no hub offers it"
            for backend in self.backends
            if not any(hub.offers(backend) for hub in self.hubs)
        ]
        second_factor = [p.name for p in self.users if p.totp_env or p.totp_file]
        if second_factor and self.login.kind == "form":
            problems.append(
                f"users: {', '.join(second_factor)}: a second factor needs [login] kind = "
                '"keycloak"'
            )
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def meets(self, need: str) -> bool:
        """Whether the site has a backend, or meets a need, of this name."""
        return need in self.backends or need in self.needs

    @property
    def folder(self) -> Path:
        """Where the site file lies; its relative paths count from there."""
        return self._folder

    def hub(self, name: str) -> Hub:
        """The hub of this name.

        Raises:
            UsageError: No hub has that name.
        """
        for hub in self.hubs:
            if hub.name == name:
                return hub
        known = ", ".join(hub.name for hub in self.hubs)
        raise UsageError(f"no hub {name!r} in site {self.name}", seen=f"it has {known}")

    def hub_for(self, *backends: str) -> Hub:
        """The first hub that offers all of these backends.

        Raises:
            UsageError: None does.
        """
        for backend in backends:
            self.backend(backend)
        for hub in self.hubs:
            if hub.offers(*backends):
                return hub
        raise UsageError(f"no hub of site {self.name} offers {' and '.join(backends)} together")

    def routes(self) -> list[tuple[Hub, str]]:
        """Hub and backend of every way to a server worth proving, in the file's order.

        A hub counts if it offers something that none before it did, and then with all that
        it offers.
        """
        found: list[tuple[Hub, str]] = []
        for hub in self.hubs:
            offered = [name for name in BACKENDS if name in self.backends and hub.offers(name)]
            if set(offered) - {backend for _, backend in found}:
                found += [(hub, backend) for backend in offered]
        return found

    def entry_url(self, hub: Hub) -> str:
        """Where a browser enters a hub, without a slash at the end."""
        return str(hub.url or self.front_door).rstrip("/")

    def api_url(self, hub: Hub) -> str:
        """Where a script with a token reaches a hub, without a slash at the end."""
        return str(hub.api_url or self.entry_url(hub)).rstrip("/")

    def people(self, *roles: str) -> tuple[Person, ...]:
        """The users of these roles (by default `person` and `student`), in the file's order."""
        wanted = roles or ("person", "student")
        return tuple(person for person in self.users if person.role in wanted)

    def person(self, name: str) -> Person:
        """The user of this name.

        Raises:
            UsageError: No user has that name.
        """
        for person in self.users:
            if person.name == name:
                return person
        near = difflib.get_close_matches(name, [person.name for person in self.users], n=1)
        raise UsageError(
            f"no user {name!r} in site {self.name}",
            seen=f"did you mean {near[0]!r}?" if near else "",
            cure="testbed users",
        )

    def backend(self, name: str) -> Backend:
        """The backend of this name.

        Raises:
            UsageError: The site has no such backend.
        """
        for known, backend in self.backends.items():
            if known == name:
                return backend
        raise UsageError(
            f"no backend {name!r} in site {self.name}",
            seen=f"it has {', '.join(self.backends)}",
        )

    def secret(self, person: Person, environment: Mapping[str, str]) -> Secret:
        """The password or token of a person, read now.

        Args:
            person: One of `users`.
            environment: Where `password_env` and `token_env` are looked up.

        Raises:
            UsageError: The variable is not set, or the file cannot be read or is empty.
        """
        variable = person.password_env or person.token_env
        if variable:
            if not environment.get(variable):
                raise UsageError(
                    f"{person.name}: {variable} is not set", cure=f"export {variable}=…"
                )
            return Secret(environment[variable])
        path = self._folder / (person.password_file or person.token_file or Path())
        return _secret_in(path, f"{person.name}: the {person.logs_in_by} file")

    def totp(self, person: Person, environment: Mapping[str, str]) -> Secret | None:
        """The seed of a person's second factor, read now; None while they have none known here.

        Raises:
            UsageError: The variable is not set, or the file is there and cannot be read.
        """
        if person.totp_env:
            if not environment.get(person.totp_env):
                raise UsageError(
                    f"{person.name}: {person.totp_env} is not set",
                    cure=f"export {person.totp_env}=…",
                )
            return Secret(environment[person.totp_env])
        path = self._totp_file(person)
        return _secret_in(path, f"{person.name}: the totp file") if path.exists() else None

    def keep_totp(self, person: Person, seed: Secret) -> Path:
        """Write down the seed of somebody who has just enrolled; returns the file, mode 0600."""
        path = self._totp_file(person)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        keep_secret(path, seed)
        return path

    def _totp_file(self, person: Person) -> Path:
        return self._folder / (person.totp_file or Path("secrets") / f"{person.name}.totp")

    @property
    def verify(self) -> str | bool:
        """What `requests` shall check certificates against."""
        return str(self._folder / self.ca_bundle) if self.ca_bundle else True


def load_site(path: Path) -> Site:
    """Read a site file.

    Args:
        path: The TOML file; paths inside it count from its folder.

    Raises:
        UsageError: The file cannot be read or is wrong; every error is in the message.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"site file {path} cannot be read",
            seen=error.strerror or str(error),
            cure="testbed up (it writes one), or --site FILE",
        ) from error
    return parse_site(text, path)


def parse_site(text: str, path: Path) -> Site:
    """Parse the text of a site file; `path` names it in messages and anchors its paths."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML", seen=str(error)) from error
    try:
        site = Site.model_validate(document)
    except ValidationError as error:
        lines = sorted({line for detail in error.errors() for line in _explain(detail)})
        count = "1 error" if len(lines) == 1 else f"{len(lines)} errors"
        raise UsageError(
            f"{path}: {count}", seen="\n" + "\n".join(f"  {line}" for line in lines)
        ) from error
    site._folder = path.parent
    return site


def write_site(site: Site, path: Path) -> None:
    """Write a site file that `load_site` reads back, replacing an older one at once."""
    data = site.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    part = path.with_suffix(".part")
    part.write_text(_toml(data), encoding="utf-8")
    part.replace(path)


def keep_secret(path: Path, secret: str) -> None:
    """Write a secret into a file that nobody else can read, whole or not at all."""
    part = path.with_name(path.name + ".part")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secret + "\n")
    part.replace(path)


def _secret_in(path: Path, what: str) -> Secret:
    try:
        secret = Secret(path.read_text(encoding="utf-8").strip())
    except OSError as error:
        raise UsageError(f"{what} cannot be read", seen=f"{path}: {error.strerror}") from error
    if not secret:
        raise UsageError(f"{what} is empty", seen=str(path))
    return secret


def _explain(detail: Any) -> list[str]:
    """Turn one pydantic error into lines that name the place as the file has it."""
    place = ""
    for step in detail["loc"]:
        place += f"[{step}]" if isinstance(step, int) else f".{step}" if place else str(step)
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        last = str(detail["loc"][-1])
        message = "unknown field"
        if last in _INLINE_SECRETS:
            message = (
                f"no secrets in a site file; put it in a file (mode 0600) and name that as "
                f"{last}_file, or a variable as {last}_env"
                if last != "secret"
                else "no secrets in a site file; use password_file or token_file"
            )
    elif detail["type"] == "missing":
        message = "missing"
    return [f"{place}: {line}" if place else line for line in message.splitlines()]


def _toml(data: Mapping[str, Any]) -> str:
    """Write the site's small part of TOML: scalars and lists, tables, lists of tables."""
    lines = [f"{key} = {_value(value)}" for key, value in data.items() if _is_plain(value)]
    for key, value in data.items():
        if isinstance(value, Mapping) and all(_is_plain(item) for item in value.values()):
            lines += ["", f"[{key}]"]
            lines += [f"{field} = {_value(item)}" for field, item in value.items()]
        elif isinstance(value, Mapping):
            for name, table in value.items():
                lines += ["", f"[{key}.{name}]"]
                lines += [f"{field} = {_value(item)}" for field, item in table.items()]
        elif isinstance(value, list) and not _is_plain(value):
            for table in value:
                lines += ["", f"[[{key}]]"]
                lines += [f"{field} = {_value(item)}" for field, item in table.items()]
    return "\n".join(lines) + "\n"


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return not any(isinstance(item, Mapping) for item in value)
    return not isinstance(value, Mapping)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{k} = {_value(v)}" for k, v in value.items()) + " }"
    # A JSON string is a TOML basic string.
    return json.dumps(str(value), ensure_ascii=False)
