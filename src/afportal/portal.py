"""One hub process's view of the facility: catalogue, backends, monitors, minters."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, InstanceOf, ValidationError

from afportal.backends import Backend, BackendSettings
from afportal.catalogue import BackendName, Catalogue, load, problems, with_classes
from afportal.credentials.delivery import Credentials
from afportal.credentials.settings import CredentialSettings, ServiceSettings, Settings
from afportal.extensions import backend_of, more_classes
from afportal.offers import Person, place_of
from afportal.phases import expect
from afportal.pool.watch import PoolWatch
from afportal.preflight import ANSWER_TIMEOUT_S, Preflight
from afportal.queue_monitor import QueueMonitor
from afportal.reconciler import Reconciler
from afportal.share.settings import ShareSettings
from afportal.tls import CellTls
from afportal.usage import Usage

if TYPE_CHECKING:
    from afportal.live_help.settings import LiveHelpSettings
    from afportal.own_register import OwnRegister
    from afportal.share.store import Shares

log = logging.getLogger(__name__)

RECORDS_KEPT = 5000


def _described(raw: Any) -> Any:
    """Read what portal.yaml says of one backend by the settings of its kind."""
    if not isinstance(raw, dict):
        return raw
    kind = backend_of(str(raw.get("kind") or ""))
    try:
        return kind.Settings.model_validate(raw)
    except ValidationError as error:
        raise ValueError(problems(error)) from error


def _loadable(name: str) -> str:
    more_classes(name)
    return name


Described = Annotated[InstanceOf[BackendSettings], BeforeValidator(_described)]
MoreOf = Annotated[str, AfterValidator(_loadable)]


class TlsSettings(Settings):
    """Where the hub's keys for TLS inside are; `afportal.tls.CellTls` says which files."""

    authority: Path
    cell: Path


class PreflightSettings(ServiceSettings):
    """Who looks before a submit whether a server could start: an agent on a node with the homes.

    Args:
        least_free_mib: so much a home must have free.
        programs: look for the environment's Python too; where that node has the same software as
            those that run servers.
    """

    least_free_mib: int = Field(default=10, ge=0)
    programs: bool = False


class IdleSettings(Settings):
    """When a server that nobody uses is ended.

    Args:
        end_after_min: after so many minutes without use; 0: never. A kernel that computes is use.
        warn_min: so many minutes before that its session is told, and asked.
    """

    end_after_min: float = Field(default=480, ge=0)
    warn_min: float = Field(default=15, gt=0)


class WarningSettings(Settings):
    """When a session's owner is warned of a limit.

    Args:
        time_min: so many minutes before the server's time is over, each once.
        memory_ratio: from so much of the memory on at which it is stopped.
    """

    time_min: tuple[Annotated[float, Field(gt=0)], ...] = (30, 5)
    memory_ratio: float = Field(default=0.9, gt=0, lt=1)


class PortalSettings(Settings):
    """portal.yaml.

    Args:
        cell: tag that every job of this hub instance carries.
        hub_url: where jobs reach the hub's API, "http://hub:8081/hub/api".
        catalogue: file of the catalogue, relative to portal.yaml.
        contact: whom people ask for what only an operator can do, "help@facility.example".
        backends: what this hub offers, the default first; `kind` of each is the name of an entry
            point in afportal.backends, by default the backend's own name.
        described: names of all backends of the file, also of those that this hub does not offer.
        classes: entry points in afportal.classes, whose classes are offered beside the catalogue's.
        credentials: who makes the person's own tokens for a session, whatever it runs on.
        idle: when a server that nobody uses is ended.
        preflight: who looks before a submit whether a server could start; default nobody.
        shares: where share links are kept; default: there are none.
        tls: the hub's keys; without them it listens in clear, and somebody else must make
            the network private.
        warnings: when a session's owner is warned of a limit.

    A file that several instances share leaves `cell` and `hub_url` to each one's call of
    `configure`, and "@{NAME}" stands for a value that is given there.
    """

    cell: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]
    hub_url: str
    catalogue: Path
    contact: str = ""
    backends: dict[BackendName, Described]
    described: frozenset[str] = frozenset()
    classes: tuple[MoreOf, ...] = ()
    credentials: CredentialSettings = CredentialSettings()
    idle: IdleSettings = IdleSettings()
    preflight: PreflightSettings | None = None
    shares: ShareSettings | None = None
    tls: TlsSettings | None = None
    warnings: WarningSettings = WarningSettings()


def read_settings(
    path: str | Path,
    *,
    cell: str | None = None,
    hub_url: str | None = None,
    backends: Sequence[str] | None = None,
    values: Mapping[str, str] | None = None,
) -> PortalSettings:
    """Read portal.yaml, with what is given here in place of what stands there.

    Raises:
        ValueError: with every error it holds; a backend that it does not describe.
    """
    text = Path(path).read_text()
    for name, value in (values or {}).items():
        text = text.replace(f"@{{{name}}}", value)
    if left := re.findall(r"@\{\w*\}", text):
        raise ValueError(f"{path}: {', '.join(sorted({*left}))} stands for nothing")
    raw: Any = yaml.safe_load(text)
    if isinstance(raw, dict):
        raw |= {n: v for n, v in (("cell", cell), ("hub_url", hub_url)) if v is not None}
        for name, backend in (raw.get("backends") or {}).items():
            if isinstance(backend, dict):
                backend.setdefault("kind", name)
        described = raw.get("backends") or {}
        raw["described"] = [*described]
        if backends is not None:
            if missing := [name for name in backends if name not in described]:
                raise ValueError(f"{path}: backends: {', '.join(missing)} not described")
            raw["backends"] = {name: described[name] for name in backends}
    try:
        return PortalSettings.model_validate(raw)
    except ValidationError as error:
        raise ValueError(f"{path}: {problems(error)}") from error


def make_preflight(settings: PortalSettings, tls: ssl.SSLContext | None) -> Preflight | None:
    """Build who looks before a submit, if the facility has such a one."""
    wanted = settings.preflight
    if wanted is None:
        return None
    return Preflight(
        wanted.client(tls, timeout_s=ANSWER_TIMEOUT_S),
        least_free_mib=wanted.least_free_mib,
        programs=wanted.programs,
    )


def make_backend(
    name: str, settings: BackendSettings, cell: str, tls: ssl.SSLContext | None = None
) -> Backend:
    """Build one backend. Raises ValueError that names it where that fails."""
    try:
        return backend_of(settings.kind)(settings, name=name, cell=cell, tls=tls)
    except Exception as error:
        raise ValueError(f"backends.{name}: {type(error).__name__}: {error}") from error


def make_credentials(settings: PortalSettings, tls: ssl.SSLContext | None) -> Credentials:
    """Build what gathers people's credentials; the hub's database is looked for when needed."""
    wanted = settings.credentials
    minters = {
        name: minter.client(tls)
        for name, minter in (("htcondor", wanted.htcondor), ("slurm", wanted.slurm))
        if minter is not None
    }
    if wanted.data is None:
        return Credentials(wanted, minters)
    from jupyterhub.app import JupyterHub

    from afportal.credentials.data_tokens import DataTokens
    from afportal.credentials.offline_tokens import OfflineTokens
    from afportal.credentials.token_client import TokenClient

    def has_server(person: str) -> bool:
        user = JupyterHub.instance().users.get(person)
        # A stop goes on for a moment after its job is gone.
        return user is not None and any(
            getattr(spawner, "job_id", "") or (spawner.active and not spawner._stop_pending)
            for spawner in user.spawners.values()
        )

    data = DataTokens(
        TokenClient(wanted.data, settings.cell),
        OfflineTokens(lambda: JupyterHub.instance().db),
        has_server,
    )
    return Credentials(wanted, minters, data)


def make_shares(settings: PortalSettings) -> Shares | None:
    """Return the facility's share links, if it has them; they are looked for when needed."""
    if settings.shares is None:
        return None
    from afportal.share.store import Shares

    return Shares(settings.shares)


class Portal:
    """What all spawners of one hub process share."""

    _instance: ClassVar[Portal | None] = None

    def __init__(
        self,
        settings: PortalSettings,
        catalogue: Catalogue,
        backends: Mapping[str, Backend],
        credentials: Credentials | None = None,
        tls: CellTls | None = None,
        preflight: Preflight | None = None,
    ) -> None:
        self.settings = settings
        self.preflight = preflight
        self.tls = tls
        self.catalogue = catalogue
        self.more_classes = {name: more_classes(name) for name in settings.classes}
        self.backends = dict(backends)
        for name in self.backends:
            expect(name)
        self.monitors = {name: QueueMonitor(backend) for name, backend in self.backends.items()}
        self.reconciler: Reconciler | None = None
        self.idle: asyncio.Task[None] | None = None
        # A facility may put in what changes with the day.
        self.idle_settings: Callable[[], IdleSettings] = lambda: settings.idle
        self.pools = {name: PoolWatch(backend) for name, backend in self.backends.items()}
        self.records: OrderedDict[tuple[str, str], Callable[[], dict[str, Any]]] = OrderedDict()
        self.usage = Usage()
        self.own: OwnRegister | None = None
        self.shares = make_shares(settings)
        # `configure` puts it in where this hub has it.
        self.live_help: LiveHelpSettings | None = None
        self.sweeping: asyncio.Task[None] | None = None
        self.credentials = credentials or Credentials(settings.credentials, {})

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        cell: str | None = None,
        hub_url: str | None = None,
        backends: Sequence[str] | None = None,
        values: Mapping[str, str] | None = None,
        catalogue_file: str | Path | None = None,
    ) -> Portal:
        """Read portal.yaml and its catalogue, and become this process's portal."""
        settings = read_settings(path, cell=cell, hub_url=hub_url, backends=backends, values=values)
        catalogue = load(
            Path(path).parent / (catalogue_file or settings.catalogue), settings.described
        )
        tls = CellTls(settings.tls.authority, settings.tls.cell) if settings.tls else None
        asking = tls.asking() if tls else None
        try:
            made = {
                name: make_backend(name, backend, settings.cell, asking)
                for name, backend in settings.backends.items()
            }
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        credentials = make_credentials(settings, asking)
        preflight = make_preflight(settings, asking)
        cls._instance = cls(settings, catalogue, made, credentials, tls, preflight)
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

    def catalogue_for(self, person: str, groups: frozenset[str]) -> Catalogue:
        """Return what is offered to a person at this moment: the facility's own classes too.

        What is wrong with these is logged, and the catalogue is offered without them.
        """
        offered = self.catalogue
        for name, more in self.more_classes.items():
            try:
                offered = with_classes(offered, tuple(more(person, groups)))
            except Exception:
                log.exception("classes %s for %s are left out", name, person)
        return offered

    async def person(
        self,
        name: str,
        groups: frozenset[str],
        defaults: Callable[[str], Mapping[str, Any]],
        backends: Sequence[BackendName],
        *,
        wait: bool = True,
    ) -> Person:
        """Return what is known of the places that somebody may ask for.

        Args:
            defaults: of a backend, options that the facility sets where a person does not.
            backends: the places.
            wait: ask schedulers whose last answer is old; else nothing is known of them.
        """
        watches = [self.pools[backend] for backend in backends]
        looks = (
            await asyncio.gather(*(watch.look() for watch in watches))
            if wait
            else [watch.newest for watch in watches]
        )
        return Person(
            name,
            groups,
            {
                backend: place_of(
                    backend, look, name, groups, self.backends[backend].traits,
                    defaults(backend), self.backends[backend].title,
                )
                for backend, look in zip(backends, looks, strict=True)
            },
            self.own.of(name).offered(self.catalogue, groups) if self.own is not None else (),
        )  # fmt: skip

    def keep_record(self, user: str, server: str, record: Callable[[], dict[str, Any]]) -> None:
        """Keep how the newest spawn of a server went, also after the server is gone."""
        self.records[(user, server)] = record
        self.records.move_to_end((user, server))
        while len(self.records) > RECORDS_KEPT:
            self.records.popitem(last=False)

    async def close(self) -> None:
        """End monitors and connections."""
        await asyncio.gather(*(m.close() for m in self.monitors.values()))
        await asyncio.gather(*(p.close() for p in self.pools.values()))
        await asyncio.gather(*(b.close() for b in self.backends.values()))
        if self.preflight is not None:
            self.preflight.close()
        if self.shares is not None:
            self.shares.close()
