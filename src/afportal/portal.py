"""One hub process's view of the facility: catalogue, backends, monitors, minters."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from afportal.backends import Backend
from afportal.catalogue import BackendName, Catalogue, load, problems
from afportal.queue_monitor import QueueMonitor
from afportal.signed_client import ServiceError, SignedClient, mint
from afportal.signed_http import read_secret

log = logging.getLogger(__name__)

RECORDS_KEPT = 5000


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MinterSettings(_Settings):
    """A minter: where it listens, and the secret shared with it."""

    url: str
    secret_file: Path


class HTCondorSettings(_Settings):
    """The hub's own access point."""

    kind: Literal["htcondor"] = "htcondor"
    schedd: str
    collector: str
    credd: str
    token_directory: Path
    domain: str


class SlurmSettings(_Settings):
    """slurmrestd, and the minter that makes a person's JWT for a submit."""

    kind: Literal["slurm"] = "slurm"
    url: str
    minter: MinterSettings
    identity: str = "hub"
    partition: str = ""
    nudge: str = ""
    version: str = "v0.0.42"


class LocalSettings(_Settings):
    """The login node's agent."""

    kind: Literal["local"] = "local"
    url: str
    secret_file: Path


BackendSettings = Annotated[
    HTCondorSettings | SlurmSettings | LocalSettings, Field(discriminator="kind")
]


class CredentialSettings(_Settings):
    """What a session gets of the person's own, wherever it runs."""

    htcondor: MinterSettings | None = None


class PortalSettings(_Settings):
    """portal.yaml.

    Args:
        cell: tag that every job of this hub instance carries.
        hub_url: where jobs reach the hub's API, "http://hub:8081/hub/api".
        catalogue: file of the catalogue, relative to portal.yaml.
        backends: what this hub offers, the default first.
        credentials: who makes the person's own tokens for a session, whatever it runs on.

    A file that several instances share leaves `cell` and `hub_url` to each one's call of
    `configure`.
    """

    cell: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]
    hub_url: str
    catalogue: Path
    backends: dict[BackendName, BackendSettings]
    credentials: CredentialSettings = CredentialSettings()


def read_settings(
    path: str | Path,
    *,
    cell: str | None = None,
    hub_url: str | None = None,
    backends: Sequence[str] | None = None,
) -> PortalSettings:
    """Read portal.yaml, with what is given here in place of what stands there.

    Raises:
        ValueError: with every error it holds; a backend that it does not describe.
    """
    raw: Any = yaml.safe_load(Path(path).read_text())
    if isinstance(raw, dict):
        raw |= {n: v for n, v in (("cell", cell), ("hub_url", hub_url)) if v is not None}
        for name, backend in (raw.get("backends") or {}).items():
            if isinstance(backend, dict):
                backend.setdefault("kind", name)
        if backends is not None:
            described = raw.get("backends") or {}
            if missing := [name for name in backends if name not in described]:
                raise ValueError(f"{path}: backends: {', '.join(missing)} not described")
            raw["backends"] = {name: described[name] for name in backends}
    try:
        return PortalSettings.model_validate(raw)
    except ValidationError as error:
        raise ValueError(f"{path}: {problems(error)}") from error


def make_backend(settings: HTCondorSettings | SlurmSettings | LocalSettings, cell: str) -> Backend:
    """Build one backend; its module is imported only where it is used."""
    if isinstance(settings, HTCondorSettings):
        from afportal.backends.htcondor import HTCondorBackend

        return HTCondorBackend(
            schedd=settings.schedd,
            collector=settings.collector,
            credd=settings.credd,
            token_directory=settings.token_directory,
            domain=settings.domain,
            cell=cell,
        )
    if isinstance(settings, SlurmSettings):
        from afportal.backends.slurm import SlurmBackend

        return SlurmBackend(
            url=settings.url,
            version=settings.version,
            minter=SignedClient(settings.minter.url, read_secret(settings.minter.secret_file)),
            identity=settings.identity,
            partition=settings.partition,
            nudge=settings.nudge,
            cell=cell,
        )
    from afportal.backends.local import LocalBackend

    return LocalBackend(url=settings.url, secret=read_secret(settings.secret_file), cell=cell)


class Portal:
    """What all spawners of one hub process share."""

    _instance: ClassVar[Portal | None] = None

    def __init__(
        self, settings: PortalSettings, catalogue: Catalogue, backends: Mapping[str, Backend]
    ) -> None:
        self.settings = settings
        self.catalogue = catalogue
        self.backends = dict(backends)
        self.monitors = {name: QueueMonitor(backend) for name, backend in self.backends.items()}
        self.records: OrderedDict[tuple[str, str], Callable[[], dict[str, Any]]] = OrderedDict()
        condor = settings.credentials.htcondor
        self._condor_minter = (
            SignedClient(condor.url, read_secret(condor.secret_file)) if condor else None
        )

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        cell: str | None = None,
        hub_url: str | None = None,
        backends: Sequence[str] | None = None,
    ) -> Portal:
        """Read portal.yaml and its catalogue, and become this process's portal."""
        settings = read_settings(path, cell=cell, hub_url=hub_url, backends=backends)
        catalogue = load(Path(path).parent / settings.catalogue)
        made = {str(n): make_backend(b, settings.cell) for n, b in settings.backends.items()}
        cls._instance = cls(settings, catalogue, made)
        return cls._instance

    @classmethod
    def instance(cls) -> Portal:
        """Return this process's portal. Raises RuntimeError before `configure` ran."""
        if cls._instance is None:
            raise RuntimeError(
                "no portal; jupyterhub_config.py must call afportal.configure.configure"
            )
        return cls._instance

    @property
    def backend_names(self) -> tuple[BackendName, ...]:
        """What this hub offers, the default first."""
        return tuple(self.settings.backends)

    def keep_record(self, user: str, server: str, record: Callable[[], dict[str, Any]]) -> None:
        """Keep how the newest spawn of a server went, also after the server is gone."""
        self.records[(user, server)] = record
        self.records.move_to_end((user, server))
        while len(self.records) > RECORDS_KEPT:
            self.records.popitem(last=False)

    async def secrets_for(self, person: str, lifetime_s: int) -> dict[str, str]:
        """Return files for a session's private folder: path → content.

        A minter that does not answer leaves its token out and a warning in the log: a
        server without it still computes.
        """
        files: dict[str, str] = {}
        if self._condor_minter is not None:
            try:
                files["condor/tokens.d/portal"] = (
                    await mint(self._condor_minter, person, lifetime_s) + "\n"
                )
            except ServiceError as error:
                log.warning("no HTCondor token for %s: %s", person, error)
        return files

    async def close(self) -> None:
        """End monitors and connections."""
        await asyncio.gather(*(m.close() for m in self.monitors.values()))
        await asyncio.gather(*(b.close() for b in self.backends.values()))
