"""The part of a spawner that submits: a granted request becomes a job of the person's."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import time
from typing import TYPE_CHECKING, Any, cast

from jupyterhub.spawner import SpawnException

from afportal import offers
from afportal.backends import Backend, JobRefused, JobRequest, SchedulerError
from afportal.catalogue import Environment
from afportal.hub_api import TICKETS
from afportal.phases import SPAWNS_FAILED
from afportal.preflight import data_problems

if TYPE_CHECKING:
    from afportal.portal import Portal
    from afportal.spawn_story import SpawnStory
    from afportal.spawner import PortalSpawner

# A scheduler that restarts is back within this time.
SUBMIT_PATIENCE_S = 20.0
SUBMIT_PAUSE_S = 1.0


class Submits:
    """Submits a server's job, as a part of its spawner."""

    portal: Portal
    story: SpawnStory
    backend_name: str
    job_id: str
    user: Any
    name: str
    log: Any
    req_homedir: str
    req_keepvars: str
    _log_name: str
    _request: JobRequest | None

    @property
    def backend(self) -> Backend:
        """The backend of this spawn."""
        return self.portal.backends[self.backend_name]

    async def submit(self, grant: offers.Grant) -> None:
        """Submit, and again while the scheduler is away for a moment; `job_id` is known then.

        Each try has a code of its own: if one reached the scheduler whose answer was lost,
        that job's code is void, and the reconciler is told to remove it.
        """
        if found := await self.look_ahead(grant):
            raise self.failure("preflight", "; ".join(found))
        in_doubt = False
        deadline = time.monotonic() + SUBMIT_PATIENCE_S
        while True:
            self._request = self._job_request(grant)
            try:
                self.job_id = await self.backend.submit(self._request)
                if in_doubt and self.portal.reconciler is not None:
                    self.portal.reconciler.look_soon()
                return
            except JobRefused as error:
                raise self.failure("refused", str(error)) from error
            except SchedulerError as error:
                if time.monotonic() > deadline:
                    raise self.failure("scheduler", str(error), 503) from error
                self.log.warning("%s: submit failed, tried again: %s", self._log_name, error)
                self.story.tell("The scheduler does not answer; trying again", 8)
                in_doubt = True
            await asyncio.sleep(SUBMIT_PAUSE_S)  # nothing tells when a scheduler is back

    async def look_ahead(self, grant: offers.Grant) -> list[str]:
        """Say why a server could not start, as far as that can be seen now; empty: it could."""
        if grant.environment.stand_in:
            return []
        preflight, data = self.portal.preflight, self.portal.credentials.data
        found: list[str] = []
        if preflight is not None:
            # The agent looks with more right than a person has: not where a person says.
            own = grant.environment.own
            path = self.portal.catalogue.launching if own else grant.environment.path
            found += await preflight.problems(self.user.name, path)
        if data is not None:
            found += await data_problems(data, self.user.name, grant.runtime_min)
        return found

    def _job_request(self, grant: offers.Grant) -> JobRequest:
        person = self.user.name
        home = self.req_homedir.replace("{username}", person)
        if not home:
            try:
                home = pwd.getpwnam(person).pw_dir
            except KeyError:
                message = f"this facility's directory has no account {person}, or does not answer"
                raise self.failure("account", message) from None
        kept = [name.strip() for name in self.req_keepvars.split(",") if name.strip()]
        return JobRequest(
            person=person,
            home=home,
            server=f"{person}/{self.name}",
            cell=self.portal.settings.cell,
            code=TICKETS.issue(cast("PortalSpawner", self)),
            argv=(*self._session(grant.environment), *self._session_options(grant)),
            cores=grant.cores,
            memory_mib=grant.memory_mib,
            memory_limit_mib=grant.class_.memory_limit_mib,
            runtime_min=grant.runtime_min,
            environment={name: os.environ[name] for name in kept if name in os.environ},
            reserved=grant.class_.reserved,
            partition=grant.partition,
            account=grant.account,
            qos=grant.qos,
            reservation=grant.reservation,
            gpus=grant.gpus,
        )

    def _session(self, environment: Environment) -> tuple[str, ...]:
        """Return the session's program; on nodes of its own, or as it enters something else."""
        if environment.container is None and not environment.own:
            return (environment.path, "-I", "-m", "afportal.session")
        where = json.dumps({"prefix": environment.prefix})
        if environment.container is not None:
            where = environment.container.as_argument()
        launcher = self.portal.catalogue.launching
        return (launcher, "-I", "-m", "afportal.session.inside", "--in", where)

    def _session_options(self, grant: offers.Grant) -> tuple[str, ...]:
        """Return how the session finds its hub, by what it knows it, and what it becomes."""
        tls = self.portal.tls
        known_by = ("--ca", tls.authority_argument) if tls is not None else ()
        kind = ("--stand-in",) if grant.environment.stand_in else ()
        return ("--hub", self.portal.settings.hub_url, *known_by, *kind)

    def failure(self, cause: str, message: str, status: int = 400) -> SpawnException:
        """Count a failed spawn by its cause, and return what to raise."""
        self.story.reason = message
        SPAWNS_FAILED.labels(self.backend_name, cause).inc()
        return SpawnException(message, reason=cause, status_code=status)
