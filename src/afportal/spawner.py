"""PortalSpawner: one spawner, a backend chosen by the form.

The hub's part of a spawn: check what was asked, submit as the person, follow the queue
until the server itself says hello, and say at once why when it will not.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from jupyterhub import orm
from jupyterhub.spawner import Spawner
from jupyterhub.utils import maybe_future
from sqlalchemy.orm import object_session
from tornado import web

from afportal import kernels, offers, worker_environments
from afportal.back_channel import WithBackChannel
from afportal.backends import (
    Cause,
    Ending,
    JobRequest,
    JobStatus,
    SchedulerError,
    Standing,
)
from afportal.batch_settings import refuse_unsupported
from afportal.checked_options import CheckedOptions
from afportal.credentials.delivery import Delivery
from afportal.ended import Ended, WithEnding
from afportal.hub_api import TICKETS
from afportal.live_help import grants
from afportal.portal import Portal
from afportal.presence import Presence
from afportal.queue_monitor import QueueMonitor
from afportal.queue_place import tell_place
from afportal.spawn_story import SpawnStory, StampedLifeCycle
from afportal.submits import Submits
from afportal.whereabouts import Whereabouts

# A job may call before its submit has returned, or its scheduler knows where it runs.
HOST_TIMEOUT_S = 10.0
FIRST_ANSWER_TIMEOUT_S = 5.0
GONE_TIMEOUT_S = 30.0
SECRETS_AFTER_END_S = 600
_OVER = (Standing.GONE, Standing.ENDING)


class PortalSpawner(
    StampedLifeCycle, Submits, CheckedOptions, WithEnding, WithBackChannel, Spawner
):
    """Starts a person's server on the backend that the person chose."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        refuse_unsupported(self.config)
        self.portal = Portal.instance()
        self.story = SpawnStory()
        self.backend_name = ""
        self.presence = Presence(lambda: self.monitor.suspect(self.job_id))
        self._forget_job()

    def _forget_job(self) -> None:
        self.job_id = ""
        # Row of the server's own token in the hub's database.
        self.token_id: int | None = None
        self.said_hello = False
        self.node = ""
        self._whereabouts: Whereabouts | None = None
        self.memory_limit_mib = 0
        self.longest_min = 0
        self.peak_mib = 0
        # Whether another process of this hub started the job.
        self._inherited = False
        self._grant: offers.Grant | None = None
        self._request: JobRequest | None = None
        self._submitted = asyncio.Event()
        self._arrival: asyncio.Future[str] | None = None
        self._secrets: asyncio.Task[Delivery] | None = None
        self.missing: dict[str, str] = {}
        self._watch: asyncio.Task[None] | None = None

    def story_begins(self) -> None:
        """Let this spawn's record be found, also after the server is gone."""
        self.ended = None
        self.portal.keep_record(self.user.name, self.name, self.record)

    def record(self) -> dict[str, Any]:
        """Return the newest spawn as others may read it: no secret in it."""
        status = self.monitor.status(self.job_id) if self.job_id else None
        return {
            "user": self.user.name,
            "server": self.name,
            "backend": self.backend_name,
            "job_id": self.job_id,
            "node": self.node,
            "phases": self.story.stamps.as_dict(),
            "state": status.standing.value if status else "",
            "reason": self.story.reason or (status.reason if status else ""),
            "notice": self.story.notice,
            "peak_mib": self.peak_mib,
            "ended": self.ended.as_dict() if self.ended is not None else None,
            "missing": self.missing,
            "present": self.presence.held,
        }

    @property
    def monitor(self) -> QueueMonitor:
        """The monitor of this spawn's scheduler."""
        return self.portal.monitors[self.backend_name]

    async def _run_apply_user_options(self, user_options: dict[str, Any]) -> None:
        # JupyterHub calls this for a form, a link and the API alike. A hook of the
        # facility's own runs too, but is handed nothing that was not checked.
        self._grant = await self.check_options(user_options)
        await super()._run_apply_user_options({})

    # State

    def get_state(self) -> dict[str, Any]:
        """Return what must outlive the hub process."""
        state: dict[str, Any] = super().get_state()
        if self.job_id:
            state |= {
                "backend": self.backend_name,
                "job_id": self.job_id,
                "token_id": self.token_id,
                "said_hello": self.said_hello,
                "node": self.node,
                "memory_limit_mib": self.memory_limit_mib,
                "longest_min": self.longest_min,
                "notice": self.story.notice,
                "phases": self.story.stamps.as_dict(),
            }
        elif self.ended is not None:
            state["ended"] = self.ended.as_dict()
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Take a server over from the hub process before, or how it ended."""
        super().load_state(state)
        self.ended = Ended.read(state.get("ended"))
        if state.get("job_id") and state.get("backend") in self.portal.backends:
            self.backend_name, self.job_id = state["backend"], state["job_id"]
            self.token_id = state.get("token_id")
            self.said_hello = bool(state.get("said_hello"))
            self.node = str(state.get("node", ""))
            self.memory_limit_mib = int(state.get("memory_limit_mib", 0))
            self.longest_min = int(state.get("longest_min", 0))
            self.story = SpawnStory(state.get("phases"))
            self.story.notice = str(state.get("notice", ""))
            self._inherited = True
            self.portal.keep_record(self.user.name, self.name, self.record)

    def clear_state(self) -> None:
        """Forget the job; what is told of the last spawn stays readable."""
        super().clear_state()
        self._put_helpers_out()
        TICKETS.void(self)
        if self.job_id:
            self.monitor.unfollow(self.job_id)
            if self._request is not None:
                self._discard_code(self._request)
        self.presence.end()
        for task in (self._watch, self._secrets):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        self._forget_job()
        self.portal.credentials.session_over(self.user.name)

    def _put_helpers_out(self) -> None:
        if self.portal.live_help is not None:
            grants.end_all(self.orm_spawner, "the server has ended")

    def commit_state(self) -> None:
        """Keep the job's id now: a hub that dies in the next instant must not orphan it."""
        self.orm_spawner.state = self.get_state()
        session = object_session(self.orm_spawner)
        if session is not None:
            session.commit()

    def _discard_code(self, request: JobRequest) -> None:
        """Have the scheduler forget the code of a job that is gone; before, it may fetch it."""
        backend = self.backend

        async def forget() -> None:
            with contextlib.suppress(SchedulerError):  # what stays behind is a used code
                await backend.forget(request)

        self._forgetting = asyncio.create_task(forget())

    async def run_post_stop_hook(self) -> None:
        """Forget the choices of a start that came to nothing, however that was.

        They are not proposed again, nor taken by a start that names none. JupyterHub calls this
        when a server has ended, and whenever one did not start.
        """
        if self.story.came_to_nothing:
            self.orm_spawner.user_options = {}
        await maybe_future(super().run_post_stop_hook())

    # Start

    async def start(self) -> str:
        """Submit, wait for the server's hello, return its URL.

        Raises:
            SpawnException: the scheduler refuses, holds, ends or loses the job first; the
                message is the scheduler's reason.
        """
        grant = self._grant or await self.check_options(self.user_options)
        # However the one before it ended: a new server is open to nobody else.
        self._put_helpers_out()
        token = orm.APIToken.find(object_session(self.orm_spawner), self.api_token)
        self.token_id = token.id if token is not None else None
        self.backend_name = grant.backend
        arrival = self._arrival = asyncio.get_running_loop().create_future()
        self.longest_min = max(grant.runtime_min, grant.class_.runtime_limit_min or 0)
        self._secrets = asyncio.create_task(
            self.portal.credentials.deliver(self.user.name, dask_life_s=self._certified_s())
        )
        await self.submit(grant)
        self.commit_state()
        self._submitted.set()
        self.story.reach("submitted")
        self.log.info("%s: %s job %s", self._log_name, self.backend_name, self.job_id)
        self.monitor.follow(self.job_id)
        with self.monitor.urgent():
            url = await self._await_arrival(arrival)
        self._watch = asyncio.create_task(self._watch_job(), name=f"watch {self._log_name}")
        return url

    def _certified_s(self) -> int:
        """How long its certificates are good: also when it is given all the time there is."""
        return self.longest_min * 60 + SECRETS_AFTER_END_S

    async def _await_arrival(self, arrival: asyncio.Future[str]) -> str:
        """Return the server's URL at its hello, or raise what the queue says instead."""
        known: JobStatus | None = None
        pool = self.portal.pools[self.backend_name]
        telling = asyncio.create_task(tell_place(self.story, pool, self.job_id, self._waits_for))
        try:
            while True:
                change = asyncio.ensure_future(self.monitor.changed(self.job_id, known))
                try:
                    waited: set[asyncio.Future[Any]] = {arrival, change}
                    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if not change.done():
                        change.cancel()
                if arrival.done():
                    return arrival.result()
                known = change.result()
                await self._heed(known)
        finally:
            telling.cancel()

    def _waits_for(self) -> str | None:
        """Return the scheduler's reason for this job's wait; None while it does not wait."""
        status = self.monitor.status(self.job_id)
        waits = status is not None and status.standing is Standing.PENDING
        return status.reason if status is not None and waits else None

    async def _heed(self, status: JobStatus) -> None:
        """Tell what the scheduler said, or raise when the server cannot come any more."""
        match status.standing:
            case Standing.HELD:
                why = status.reason or "no reason given"
                raise self.failure("held", f"{self.backend_name} held the job: {why}")
            case Standing.GONE | Standing.ENDING:
                ending = await self._ending()
                how = ending.words or "it left the queue before its server said hello"
                raise self.failure("ended", f"{self.backend_name} job {self.job_id} ended: {how}")
            case Standing.RUNNING | Standing.SUSPENDED:
                self._tell_machine(status)
                if status.standing is Standing.SUSPENDED:
                    self.story.tell("The scheduler suspended the job", 50)
            case Standing.PENDING:
                why = f": {status.reason}" if status.reason else ""
                self.story.tell(f"Waiting in the queue{why}", 25, reason=status.reason)

    def _tell_machine(self, status: JobStatus) -> None:
        if status.matched_s is not None:
            self.story.reach("matched", status.matched_s)
        self.node = status.node

    async def _ending(self) -> Ending:
        try:
            return await self.backend.ending(self.job_id)
        except SchedulerError as error:
            return Ending(words=f"(its scheduler does not say how: {error})")

    def give_up(self, why: str) -> bool:
        """End a start that still waits; False when nothing waits."""
        if self._arrival is None or self._arrival.done():
            return False
        self._arrival.set_exception(self.failure("cancelled", why))
        return True

    # What the job says

    @property
    def whereabouts(self) -> Whereabouts:
        """Where this job runs."""
        if self._whereabouts is None or self._whereabouts.job_id != self.job_id:
            self._whereabouts = Whereabouts(self.monitor, self.job_id)
        return self._whereabouts

    async def ask_addresses(self) -> frozenset[str]:
        """Return the addresses of the machine that runs this job; see `Whereabouts.ask`.

        Waits a moment for a submit that has not returned yet, and for the scheduler.
        """
        until_s = time.monotonic() + HOST_TIMEOUT_S
        try:
            async with asyncio.timeout(HOST_TIMEOUT_S):
                if not self._inherited:
                    await self._submitted.wait()
        except TimeoutError:
            return frozenset()
        return await self.whereabouts.ask(until_s)

    async def exchanged(self, host: str, started_s: float) -> dict[str, Any]:
        """Return what the session on that host gets for its code: environment and secret files."""
        if self.whereabouts.status is not None:
            self._tell_machine(self.whereabouts.status)
        self.story.reach("executing", started_s)
        delivery = await self._secrets if self._secrets is not None else Delivery()
        if self._grant is not None:
            kernels.put(delivery, self.portal.catalogue, self._grant.environment, self.groups())
            worker_environments.put(delivery, self.portal.catalogue, self.groups())
        self._tell_missing(delivery)
        if self._request is not None:
            self.memory_limit_mib = self._request.memory_limit_mib or self._request.memory_mib
        self.ip, self.port = "0.0.0.0", 0  # the session puts its port in
        environment = {**self.get_env(), **delivery.environment}
        if self._request is not None:
            environment["MEM_LIMIT"] = str(self.memory_limit_mib * 1024 * 1024)
            environment["CPU_LIMIT"] = str(self._request.cores)
        if self.portal.tls is not None and self._request is not None:
            delivery.files |= self.portal.tls.server_files(host, self._certified_s())
        about = self.about_session(self._grant, self.whereabouts.status)
        return {"environment": environment, "session": about, **delivery.as_dict()}

    async def renewed_secrets(self) -> dict[str, Any]:
        """Return what the running session puts in place of what it was given before."""
        delivery = await self.portal.credentials.deliver(self.user.name)
        self._tell_missing(delivery)
        return delivery.as_dict()

    def _tell_missing(self, delivery: Delivery) -> None:
        for name, why in delivery.problems.items():
            if self.missing.get(name) != why:
                self.log.warning("%s: %s", self._log_name, why)
        self.missing = delivery.problems

    def hello(self, host: str, port: int) -> None:
        """Take the server's address: the host that the scheduler named, the port as told."""
        if self._arrival is None or self._arrival.done():
            raise web.HTTPError(409, "this server is not being waited for")
        self.said_hello = True
        self.story.reach("hello")
        self.commit_state()
        shown = f"[{host}]" if ":" in host else host
        scheme = "http" if self.portal.tls is None else "https"
        self._arrival.set_result(f"{scheme}://{shown}:{port}")

    # Life

    async def _watch_job(self) -> None:
        """Let the hub know at once when a running server is no more."""
        known = self.monitor.status(self.job_id)
        while True:
            before, known = known, await self.monitor.changed(self.job_id, known)
            self.tell_end(before, known)
            self.tell_announced(known)
            if known.standing in (Standing.GONE, Standing.HELD, Standing.PENDING):
                await self.poll_and_notify()
                return

    async def poll(self) -> int | None:
        """Return None while the job lives or nobody knows; an exit code when it does not.

        A job that lives but can serve nobody any more (held, or put back in the queue) is
        cancelled here, because the hub does not stop what it takes for dead.
        """
        if not self.job_id:
            return 0
        status = await self.monitor.asked(self.job_id, FIRST_ANSWER_TIMEOUT_S)
        if status is None:
            return None
        if status.standing is Standing.GONE:
            ending = await self._ending()
            self.story.reason = self.story.reason or ending.words or "it left the queue"
            self.has_ended(ending.cause, ending.peak_mib)
            return 1
        if self._inherited and not self.said_hello:
            return await self._finish("the hub restarted before the server said hello")
        if status.standing is Standing.HELD:
            return await self._finish(
                f"{self.backend_name} held the job: {status.reason}", status.cause or Cause.HELD
            )
        if status.standing is Standing.PENDING and self.said_hello:
            why = status.reason or "it waits in the queue again"
            return await self._finish(
                f"{self.backend_name} took the machine back: {why}", Cause.NODE
            )
        if self._inherited and self._watch is None:
            self._watch = asyncio.create_task(self._watch_job(), name=f"watch {self._log_name}")
        return None

    async def _finish(self, reason: str, cause: Cause = Cause.REMOVED) -> int | None:
        """Cancel a job that can serve nobody; None while the scheduler does not hear of it."""
        before = self.ended, self.story.reason
        self.story.reason = reason
        self.has_ended(cause)
        self.log.warning("%s: %s; job %s is cancelled", self._log_name, reason, self.job_id)
        try:
            await self.backend.cancel(self.job_id, reason)
        except SchedulerError as error:
            self.log.warning("%s: cannot cancel %s yet: %s", self._log_name, self.job_id, error)
            self.ended, self.story.reason = before  # it lives on
            return None
        return 1

    def warn_idle(self, ends_s: float) -> None:
        """Tell the session when it will be ended, and so ask when it was last used."""
        self.presence.say(f"idle {ends_s:.0f}")

    def answered_since(self, asked_s: float) -> bool:
        """Tell whether the session has said something since then; a suspended job cannot."""
        status = self.monitor.status(self.job_id)
        suspended = status is not None and status.standing is Standing.SUSPENDED
        return self.presence.held and self.presence.heard_s >= asked_s and not suspended

    def end_idle(self, idle_s: float) -> None:
        """End a server that nobody used for so long."""
        self.end_session(f"nobody used it for {idle_s / 3600:.1f} hours", Cause.IDLE)

    def end_session(self, reason: str, cause: Cause = Cause.REMOVED) -> None:
        """End the server's job for a reason of the portal's own; returns before it has ended."""

        async def end() -> None:
            known = self.monitor.status(self.job_id)
            await self._finish(reason, cause)
            with self.monitor.urgent(), contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GONE_TIMEOUT_S):
                    await self.monitor.changed(self.job_id, known)

        if self.job_id:
            self._ending_session = asyncio.create_task(end(), name=f"end {self._log_name}")

    async def stop(self, now: bool = False) -> None:  # noqa: ARG002 - the hub's signature
        """Cancel the job and wait until the scheduler says that it ends or is gone."""
        if not self.job_id:
            return
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        # JupyterHub marks a stop that somebody asked for; others are its own.
        asked = getattr(self, "_stop_future", None) is not None
        self.has_ended(Cause.STOPPED if asked else Cause.UNKNOWN)
        job_id, deadline = self.job_id, time.monotonic() + GONE_TIMEOUT_S
        self.monitor.follow(job_id)
        status = self.monitor.status(job_id)
        with self.monitor.urgent():
            while time.monotonic() < deadline:
                try:
                    await self.backend.cancel(job_id, self.story.reason or "stopped by its owner")
                except SchedulerError as error:
                    self.log.warning("%s: cannot cancel %s: %s", self._log_name, job_id, error)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(5.0):
                        while status is None or status.standing not in _OVER:
                            status = await self.monitor.changed(job_id, status)
                        return
        self.log.error(
            "%s: job %s not ended %g s after its cancel", self._log_name, job_id, GONE_TIMEOUT_S
        )
