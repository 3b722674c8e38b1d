"""The site file: how to reach a facility, what it has, and who may be used to judge it.

An example:

    name = "af-testbed"
    front_door = "http://127.0.0.1:8000"
    needs = ["faults", "metrics"]

    [[hubs]]
    name = "hub"

    [backends.htcondor]
    options = { class = "reserved" }

    [[users]]
    name = "alice"
    password_file = "secrets/alice.password"
    uid = 20001
"""

import difflib
import json
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
}

_INLINE_SECRETS = ("password", "token", "secret")


def _without_slash(url: HttpUrl) -> HttpUrl:
    if url.path not in (None, "", "/"):
        raise ValueError("give scheme, host and port only; the hub's paths are added")
    return url


FrontDoor = Annotated[HttpUrl, AfterValidator(_without_slash)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Hub(_Part):
    """One hub instance; without an address of its own it answers at the front door."""

    name: str
    url: FrontDoor | None = None


class Backend(_Part):
    """A backend the site offers, with the options a spawn sends when it names none."""

    options: Mapping[str, str | int] = Field(default_factory=dict)


class Person(_Part):
    """Somebody the judges may log in as. Exactly one source of a secret.

    A person with role `observer` is never spawned for; the hub lets them read metrics
    and other people's servers.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9._-]{0,31}$")
    role: Literal["person", "student", "observer"] = "person"
    password_env: str | None = None
    password_file: Path | None = None
    token_env: str | None = None
    token_file: Path | None = None
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
        if all(person.role == "observer" for person in self.users):
            problems.append("users: nobody to spawn for; only observers")
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def meets(self, need: str) -> bool:
        """Whether the site has a backend, or meets a need, of this name."""
        return need in self.backends or need in self.needs

    def hub_url(self, name: str | None = None) -> str:
        """Where a hub answers, without a slash at the end; the first hub by default.

        Raises:
            UsageError: No hub has that name.
        """
        for hub in self.hubs:
            if name in (None, hub.name):
                return str(hub.url or self.front_door).rstrip("/")
        known = ", ".join(hub.name for hub in self.hubs)
        raise UsageError(f"no hub {name!r} in site {self.name}", seen=f"it has {known}")

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
        try:
            secret = Secret(path.read_text(encoding="utf-8").strip())
        except OSError as error:
            raise UsageError(
                f"{person.name}: the {person.logs_in_by} file cannot be read",
                seen=f"{path}: {error.strerror}",
            ) from error
        if not secret:
            raise UsageError(
                f"{person.name}: the {person.logs_in_by} file is empty", seen=str(path)
            )
        return secret

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
        if isinstance(value, Mapping) and not _is_plain(value):
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
