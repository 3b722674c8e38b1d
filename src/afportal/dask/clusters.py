"""Clusters whose scheduler is in the notebook and whose workers are batch jobs."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.config
from dask.utils import parse_timedelta
from dask_jobqueue.core import JobQueueCluster
from distributed.core import Status
from distributed.security import Security
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_unix_socket

from afportal.dask import keys, ready_made, versions
from afportal.dask import requirements as home_requirements
from afportal.dask.software import chosen
from afportal.dask.worker_jobs import HTCondorJob, Place, SLURMJob
from afportal.jobs.access_point import AccessPoint

if TYPE_CHECKING:
    from afportal.containers import Container

_LOGS = ".local/state/afportal/dask"
_KEPT_LOGS_S = 7 * 24 * 3600
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")


class _FacilityCluster(JobQueueCluster):
    """What both clusters have beyond dask-jobqueue's own."""

    def __init__(
        self,
        n_workers: int = 0,
        *,
        cores: int | None = None,
        memory: str | None = None,
        walltime: str | None = None,
        name: str | None = None,
        requirements: bool = True,
        environment: str | None = None,
        container: str | Mapping[str, Any] | Container | None = None,
        scheduler_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self._pages: HTTPServer | None = None
        bundle = keys.of_session(os.environ)
        cluster = name or f"{type(self).__name__}-{secrets.token_hex(3)}"
        if not _NAME.fullmatch(cluster):
            raise ValueError(
                f"name {cluster!r} asked; jobs and log files are called so: letters, digits, "
                "'.', '_' and '-', 60 at most"
            )
        software = chosen(environment, container, options.pop("python", None))
        wanted = requirements and software.is_ours
        packages = home_requirements.provide(Path.home()) if wanted else ""
        home_requirements.use_here(packages)
        self._place = Place(
            folder=Path.cwd(),
            logs=_log_folder(cluster),
            life_s=seconds(walltime or self._setting("walltime") or "08:00:00"),
            packages=packages,
            data=self._jobs_have_data(),
            software=software,
            spool=self._jobs_are_spooled(),
            # The last: what is refused has left no key behind.
            key=self._hand_over(bundle),
        )
        super().__init__(
            n_workers,
            name=cluster,
            cores=cores or self._setting("cores") or 1,
            memory=memory or self._setting("memory") or "2 GiB",
            processes=options.pop("processes", None) or self._setting("processes") or 1,
            place=self._place,
            job_name=options.pop("job_name", None) or cluster,
            security=Security(require_encryption=True),
            protocol="tls://",
            scheduler_options={
                "host": ready_made.node_address(),
                # Not for long: see `_start`.
                "dashboard_address": "127.0.0.1:0",
                "plugins": [versions.Watch()],
                **(scheduler_options or {}),
            },
            **self._for_jobs(options),
        )

    def _setting(self, name: str) -> Any:
        return dask.config.get(f"jobqueue.{self.job_cls.config_name}.{name}", None)

    def _hand_over(self, bundle: str) -> str:
        """Give the worker's key to the scheduler; returns how its jobs come to it."""
        raise NotImplementedError

    def _jobs_have_data(self) -> bool:
        """Tell whether a job asks for the data token; on Slurm it comes unasked."""
        return False

    def _jobs_are_spooled(self) -> bool:
        """Tell whether jobs go to where our files are not."""
        return False

    def _take_back(self, key: str) -> None:
        """Undo that, once the cluster is closed."""

    def _for_jobs(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return what else this scheduler's jobs take."""
        return options

    def get_client(self) -> Any:
        """Return the cluster's client, whose `get_versions(check=True)` raises in words."""
        with suppress(ValueError):
            current = versions.FacilityClient.current()
            if current.cluster is self:
                return current
        return versions.FacilityClient(self)

    def adapt(self, *args: Any, maximum: float = ready_made.MOST_WORKERS, **options: Any) -> Any:
        """Let the cluster grow and shrink with the work, from none to `maximum` workers.

        Raises:
            ValueError: jobs of several processes.
        """
        processes = self._dummy_job.worker_processes
        if processes > 1:
            raise ValueError(
                f"{processes} processes a job asked, and an adaptive cluster has one: it would "
                "start and end jobs for ever (dask/dask-jobqueue#498). Leave processes out and "
                "have more jobs, or take scale(n)"
            )
        if options.get("maximum_jobs") is None:
            options["maximum"] = maximum
        return super().adapt(*args, **options)

    async def _start(self) -> None:
        await super()._start()
        # A port is for everybody on this node; a socket in the session's folder is not.
        self.scheduler.http_server.stop()
        folder = ready_made.pages()
        folder.mkdir(mode=0o700, exist_ok=True)
        self._pages = HTTPServer(self.scheduler.http_application)
        self._pages.add_socket(bind_unix_socket(str(folder / f"{self.name}.sock"), mode=0o600))

    @property
    def dashboard_link(self) -> str:
        """The cluster's pages, behind the person's own server."""
        server = os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "/")
        return f"{server}{ready_made.PAGES}/{self.name}/status"

    def _update_worker_status(self, op: str, msg: Any) -> None:
        super()._update_worker_status(op, msg)
        if op == "remove":
            # By then SpecCluster has taken a lost worker's job for gone; it makes no other.
            lost_s = parse_timedelta(dask.config.get("distributed.deploy.lost-worker-timeout"))
            self.loop.call_later(lost_s + 0.5, self._replace_lost)

    def _replace_lost(self) -> None:
        if self.status == Status.running:
            self.loop.add_callback(self._correct_state)

    async def _close(self) -> None:
        was_there = self.status != Status.closed
        await super()._close()
        if self._pages is not None:
            self._pages.stop()
            (ready_made.pages() / f"{self.name}.sock").unlink(missing_ok=True)
        if was_there:
            # In this thread: at the end of an interpreter there are no others.
            self._take_back(self._place.key)


class HTCondorCluster(_FacilityCluster):
    """Workers are jobs at people's own access point.

    Args:
        n_workers: how many at once; `scale` and `adapt` come later.
        cores: threads of a worker, and what its job asks for.
        memory: of a worker, with its unit; its job is stopped above it.
        disk: what a job asks for, with its unit.
        walltime: how long a job may run, "HH:MM:SS" or with a unit.
        requirements: whether workers have what the home's `requirements.txt` asks for.
        environment: that workers run in, by its name; default the notebook's own.
        container: that they run in: an image's path, or `image`, `python`, `bind`, … as the
            catalogue has them.
        options: dask-jobqueue's own.

    Raises:
        ValueError: a name or a walltime that is none, or an environment or a container.
        requirements.NotInstalled: what the home asks for cannot be had.
        keys.NoKeys: the session has no certificates for Dask, or the credd does not take them.
    """

    job_cls = HTCondorJob

    def _hand_over(self, bundle: str) -> str:
        return keys.store(bundle)

    def _jobs_have_data(self) -> bool:
        return keys.data_token_is_stored()

    def _jobs_are_spooled(self) -> bool:
        return AccessPoint().spool

    def _take_back(self, key: str) -> None:
        keys.forget(key)

    def _for_jobs(self, options: dict[str, Any]) -> dict[str, Any]:
        return {**options, "disk": options.get("disk") or self._setting("disk") or "2 GB"}


class SLURMCluster(_FacilityCluster):
    """Workers are jobs of Slurm's.

    Args:
        n_workers: how many at once; `scale` and `adapt` come later.
        cores: threads of a worker, and what its job asks for.
        memory: of a worker, with its unit; its job is stopped above it.
        walltime: how long a job may run, "HH:MM:SS" or with a unit.
        requirements: whether workers have what the home's `requirements.txt` asks for.
        environment: that workers run in, by its name; default the notebook's own.
        container: that they run in: an image's path, or `image`, `python`, `bind`, … as the
            catalogue has them.
        options: dask-jobqueue's own, `queue` (a partition) and `account` among them.

    Raises:
        ValueError: a name or a walltime that is none, or an environment or a container.
        requirements.NotInstalled: what the home asks for cannot be had.
        keys.NoKeys: the session has no certificates for Dask, or there is no munge.
    """

    job_cls = SLURMJob

    def _hand_over(self, bundle: str) -> str:
        return keys.seal(bundle)

    def _for_jobs(self, options: dict[str, Any]) -> dict[str, Any]:
        minutes = max(1, self._place.life_s // 60)
        return {**options, "walltime": str(minutes)}


def seconds(walltime: str) -> int:
    """Return how long that is.

    Args:
        walltime: Slurm's "D-HH:MM:SS", "HH:MM:SS" or "HH:MM", or a number with a unit.

    Raises:
        ValueError: it is none of these, or less than a minute.
    """
    days, _, rest = walltime.rpartition("-")
    parts = rest.split(":")
    try:
        if len(parts) > 1:
            hours, minutes, *over = (int(part) for part in parts)
            found = int(days or 0) * 86400 + hours * 3600 + minutes * 60 + sum(over)
        else:
            found = int(parse_timedelta(walltime))
    except (ValueError, KeyError, IndexError) as error:
        raise ValueError(
            f'walltime {walltime!r} is no time: "HH:MM:SS", or a number with a unit as "2 h"'
        ) from error
    if found < 60:
        raise ValueError(f"walltime {walltime!r} asked; a worker has at least 1 minute")
    return found


def _log_folder(cluster: str) -> Path:
    """Return a folder for the jobs' output in the home, and clear away those of a week ago."""
    above = Path.home() / _LOGS
    folder = above / cluster
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in above.iterdir():
        if old.is_dir() and time.time() - old.stat().st_mtime > _KEPT_LOGS_S:
            for file in old.iterdir():
                file.unlink(missing_ok=True)
            old.rmdir()
    return folder
