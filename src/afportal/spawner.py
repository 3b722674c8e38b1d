"""PortalSpawner: one spawner, a backend chosen by the form.

The hub's part of a spawn: check what was asked, submit as the person, follow the queue
until the server itself says hello, and say at once why when it will not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from jupyterhub.spawner import Spawner, SpawnException
from sqlalchemy.orm import object_session
from tornado import web
from traitlets import Unicode
from traitlets.config import Configurable

from afportal import form, offers
from afportal.backends import JobRefused, JobRequest, JobStatus, SchedulerError, Standing
from afportal.hub_api import TICKETS
from afportal.phases import SPAWNS_FAILED, Stamps
from afportal.portal import Portal
from afportal.queue_monitor import QueueMonitor

# What batchspawner takes and this spawner refuses, with what to use instead.
REFUSED_SETTINGS: Mapping[str, str] = {
    "batch_script": "the job is a submit object; sizes are classes in catalogue.yaml",
    "batch_submit_cmd": "the backend submits through the scheduler's API; see portal.yaml, backends",
    "batch_query_cmd": "the queue monitor asks the scheduler's API; see portal.yaml, backends",
    "batch_cancel_cmd": "the backend cancels through the scheduler's API; see portal.yaml, backends",
    "batchspawner_singleuser_cmd": "the session starts by itself; see catalogue.yaml, environments",
    "exec_prefix": "the hub acts for people by its own identity; see docs/security.md",
    "req_prologue": "put it into the environment's start-up; see catalogue.yaml, environments",
    "req_epilogue": "put it into the environment's start-up; see catalogue.yaml, environments",
    "req_options": "use req_partition, req_qos, req_account, req_reservation or a class",
}

_PROGRESS = {
    "accepted": (5, "Request accepted"),
    "submitted": (15, "Job submitted"),
    "matched": (35, "A machine was found"),
    "executing": (55, "The job runs; the server is starting"),
    "hello": (85, "The server listens"),
    "http": (95, "The server answers"),
    "routed": (99, "The way is open"),
}
# A scheduler may need a moment to know where a job runs that already calls.
HOST_TIMEOUT_S = 10.0
FIRST_ANSWER_TIMEOUT_S = 5.0
GONE_TIMEOUT_S = 30.0


class BatchSpawnerBase(Configurable):
    """The settings of batchspawner that carry over, under the name that they have there."""

    req_queue = Unicode("", config=True, help="Queue; the same as req_partition where that is empty")
    req_partition = Unicode("", config=True, help="Slurm partition, unless the person chose one")
    req_qos = Unicode("", config=True, help="Slurm QOS, unless the person chose one")
    req_account = Unicode("", config=True, help="Account, unless the person chose one")
    req_reservation = Unicode("", config=True, help="Reservation, unless the person chose one")
    req_runtime = Unicode("", config=True, help="Run time, 'hours:minutes:seconds' or minutes")
    req_memory = Unicode("", config=True, help="Memory, '1500', '1500M' or '2G'")
    req_nprocs = Unicode("", config=True, help="Cores")
    req_ngpus = Unicode("", config=True, help="Number of GPUs of any kind")
    req_gres = Unicode("", config=True, help="Slurm generic resource, 'gpu:k40:1'")
    req_homedir = Unicode("", config=True, help="Working directory; '{username}' is replaced; empty: the account's")
    req_keepvars = Unicode("", config=True, help="Variables of the hub's environment that jobs get, by comma")


class PortalSpawner(BatchSpawnerBase, Spawner):
    """Starts a person's server on the backend that the person chose."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._refuse_settings()
        self.portal = Portal.instance()
        self._stamps = Stamps()
        self._reset()
        self._restored = False

    def _reset(self) -> None:
        self.backend_name = ""
        self.job_id = ""
        self.said_hello = False
        self.reason = ""
        self.node = ""
        self._grant: offers.Grant | None = None
        self._request: JobRequest | None = None
        self._told: list[dict[str, Any]] = []
        self._told_more = asyncio.Event()
        self._arrival: asyncio.Future[str] | None = None
        self._secrets: asyncio.Task[dict[str, str]] | None = None
        self._watch: asyncio.Task[None] | None = None

    def _refuse_settings(self) -> None:
        sections = ("PortalSpawner", "BatchSpawnerBase", "SlurmSpawner", "CondorSpawner")
        found = [
            f"c.{section}.{name} is not supported: {REFUSED_SETTINGS[name]}"
            for section in sections
            for name in self.config.get(section, {})
            if name in REFUSED_SETTINGS
        ]
        if found:
            raise ValueError("; ".join(found))

    # Life-cycle flags of JupyterHub 6.1's Spawner, stamped as the hub flips them: nothing
    # else in the hub says when its own probe answered or its proxy knew the way.
    @property
    def _start_pending(self) -> bool:
        return bool(self.__dict__.get("_af_start_pending", False))

    @_start_pending.setter
    def _start_pending(self, value: bool) -> None:
        if value and not self._start_pending:
            self._begin()
        self.__dict__["_af_start_pending"] = value

    @property
    def _proxy_pending(self) -> bool:
        return bool(self.__dict__.get("_af_proxy_pending", False))

    @_proxy_pending.setter
    def _proxy_pending(self, value: bool) -> None:
        if value != self._proxy_pending:
            self._phase("http" if value else "routed")
            if not value:
                self._stamps.observe(self.backend_name)
        self.__dict__["_af_proxy_pending"] = value

    # What happened, for the progress page, scripts and metrics

    def _begin(self) -> None:
        self._stamps = Stamps()
        self._told, self._told_more, self.reason = [], asyncio.Event(), ""
        self.portal.keep_record(self.user.name, self.name, self.record)
        self._phase("accepted")

    def _phase(self, phase: str, at_s: float | None = None) -> None:
        if phase in self._stamps.as_dict():
            return
        stamp = self._stamps.stamp(phase, at_s)
        progress, message = _PROGRESS[phase]
        self._tell({"progress": progress, "message": message, "phase": phase, "stamp": stamp})

    def _tell(self, event: dict[str, Any]) -> None:
        self._told.append(event)
        self._told_more.set()
        self._told_more = asyncio.Event()

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield every event of the spawn so far, then each new one."""
        sent = 0
        while True:
            more = self._told_more
            while sent < len(self._told):
                yield dict(self._told[sent])
                sent += 1
            await more.wait()

    def record(self) -> dict[str, Any]:
        """Return the newest spawn as others may read it: no secret in it."""
        status = self.monitor.status(self.job_id) if self.backend_name and self.job_id else None
        return {
            "user": self.user.name,
            "server": self.name,
            "backend": self.backend_name,
            "job_id": self.job_id,
            "node": self.node,
            "phases": self._stamps.as_dict(),
            "state": status.standing.value if status else "",
            "reason": self.reason or (status.reason if status else ""),
        }

    # Options

    def options_form(self, spawner: Spawner) -> str:  # type: ignore[override]
        """Render the form for this person."""
        return form.render(self.portal.catalogue, backends=self.portal.backend_names, groups=self._groups())

    def options_from_form(self, formdata: Mapping[str, list[str]]) -> dict[str, Any]:  # type: ignore[override]
        """Read the form; JupyterHub hands the result to `apply_user_options`."""
        return form.options_from_form(formdata)

    def _groups(self) -> frozenset[str]:
        return frozenset(group.name for group in self.user.groups)

    def _default(self, name: str, backend: str) -> str:
        section = {"slurm": "SlurmSpawner", "htcondor": "CondorSpawner"}.get(backend, "")
        inherited = self.config.get(section, {}).get(name, "") if section else ""
        return str(getattr(self, name) or inherited or "")

    def check_options(self, raw: Mapping[str, Any]) -> offers.Grant:
        """Check what was asked, whoever sent it. Raises HTTP 400 with every error at once."""
        try:
            options = offers.read_options(raw)
            backend = options.backend or self.portal.backend_names[0]
            defaults: dict[str, Any] = {
                "partition": self._default("req_partition", backend) or self._default("req_queue", backend),
                "qos": self._default("req_qos", backend),
                "account": self._default("req_account", backend),
                "reservation": self._default("req_reservation", backend),
                "gpus": self._default("req_gres", backend).removeprefix("gpu:") or self._default("req_ngpus", backend),
                "cores": _number(self._default("req_nprocs", backend)),
                "memory_mib": _mebibytes(self._default("req_memory", backend)),
                "runtime_min": _minutes(self._default("req_runtime", backend)),
            }
            asked = {name: value for name, value in defaults.items() if value and not getattr(options, name)}
            return offers.grant(
                options.model_copy(update=asked),
                self.portal.catalogue,
                backends=self.portal.backend_names,
                groups=self._groups(),
            )
        except ValueError as error:
            raise self._failure("options", str(error)) from error

    async def _run_apply_user_options(self, user_options: dict[str, Any]) -> None:
        self._grant = self.check_options(user_options)
        await super()._run_apply_user_options({})

    # State

    def get_state(self) -> dict[str, Any]:
        """Return what must outlive the hub process."""
        state: dict[str, Any] = super().get_state()
        if self.job_id:
            state |= {
                "backend": self.backend_name, "job_id": self.job_id, "said_hello": self.said_hello,
                "node": self.node, "phases": self._stamps.as_dict(),
            }  # fmt: skip
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Take a server over from the hub process before."""
        super().load_state(state)
        if state.get("job_id") and state.get("backend") in self.portal.backends:
            self.backend_name, self.job_id = state["backend"], state["job_id"]
            self.said_hello, self.node = bool(state.get("said_hello")), str(state.get("node", ""))
            self._stamps = Stamps(state.get("phases"))
            self._restored = True
            self.portal.keep_record(self.user.name, self.name, self.record)

    def clear_state(self) -> None:
        """Forget the job; what is told of the last spawn stays readable."""
        super().clear_state()
        if self.job_id:
            self.monitor.unfollow(self.job_id)
        TICKETS.void(self)
        if self._request is not None and self.job_id:
            self._discard_code(self._request)
        for task in (self._watch, self._secrets):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        told, reason, backend, node = self._told, self.reason, self.backend_name, self.node
        self._reset()
        self._told, self.reason, self.backend_name, self.node = told, reason, backend, node
        self._restored = False

    def _commit_state(self) -> None:
        """Keep the job's id now: a hub that dies in the next instant must not orphan it."""
        self.orm_spawner.state = self.get_state()
        session = object_session(self.orm_spawner)
        if session is not None:
            session.commit()

    @property
    def monitor(self) -> QueueMonitor:
        """The monitor of this spawn's scheduler."""
        return self.portal.monitors[self.backend_name]

    # Start

    async def start(self) -> str:
        """Submit, wait for the server's hello, return its URL.

        Raises:
            SpawnException: the scheduler refuses, holds, ends or loses the job first; the
                message is the scheduler's reason.
        """
        grant = self._grant or self.check_options(self.user_options)
        self.backend_name = grant.backend
        backend = self.portal.backends[grant.backend]
        self._arrival = asyncio.get_running_loop().create_future()
        self._secrets = asyncio.create_task(
            self.portal.secrets_for(self.user.name, min(grant.runtime_min * 60 + 600, 24 * 3600))
        )
        self._request = self._job_request(grant)
        try:
            self.job_id = await backend.submit(self._request)
        except (JobRefused, SchedulerError) as error:
            raise self._failure("refused" if isinstance(error, JobRefused) else "scheduler", str(error)) from error
        self._commit_state()
        self._phase("submitted")
        self.log.info("%s: %s job %s", self._log_name, self.backend_name, self.job_id)
        self.monitor.follow(self.job_id)
        with self.monitor.urgent():
            url = await self._await_arrival()
        self._watch = asyncio.create_task(self._watch_job(), name=f"watch {self._log_name}")
        return url

    def _job_request(self, grant: offers.Grant) -> JobRequest:
        person = self.user.name
        home = self.req_homedir.replace("{username}", person)
        if not home:
            try:
                home = pwd.getpwnam(person).pw_dir
            except KeyError:
                raise self._failure("account", f"no account {person} in this facility's directory") from None
        kept = [name.strip() for name in self.req_keepvars.split(",") if name.strip()]
        return JobRequest(
            person=person,
            home=home,
            server=f"{person}/{self.name}",
            cell=self.portal.settings.cell,
            code=TICKETS.issue(self),
            argv=(f"{grant.environment.prefix}/bin/python", "-I", "-m", "afportal.session",
                  "--hub", self.portal.settings.hub_url),
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
        )  # fmt: skip

    def _failure(self, cause: str, message: str) -> SpawnException:
        self.reason = message
        SPAWNS_FAILED.labels(self.backend_name, cause).inc()
        return SpawnException(message, reason=cause)

    async def _await_arrival(self) -> str:
        """Return the server's URL at its hello, or raise what the queue says instead."""
        assert self._arrival is not None
        known: JobStatus | None = None
        while True:
            change = asyncio.ensure_future(self.monitor.changed(self.job_id, known))
            try:
                await asyncio.wait({self._arrival, change}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not change.done():
                    change.cancel()
            if self._arrival.done():
                return self._arrival.result()
            known = change.result()
            await self._heed(known)

    async def _heed(self, status: JobStatus) -> None:
        match status.standing:
            case Standing.HELD:
                raise self._failure("held", f"{self.backend_name} held the job: {status.reason or 'no reason given'}")
            case Standing.GONE:
                ending = await self._ending() or "it left the queue before its server said hello"
                raise self._failure("ended", f"{self.backend_name} job {self.job_id} ended: {ending}")
            case Standing.RUNNING | Standing.SUSPENDED:
                if status.matched_s is not None:
                    self._phase("matched", status.matched_s)
                self.node = status.node
                if status.standing is Standing.SUSPENDED:
                    self._tell({"progress": 50, "message": "The scheduler suspended the job"})
            case Standing.PENDING:
                why = f": {status.reason}" if status.reason else ""
                self._tell({"progress": 25, "message": f"Waiting in the queue{why}", "reason": status.reason})
            case Standing.ENDING:
                self._tell({"progress": 90, "message": f"The job is ending ({status.native})"})

    async def _ending(self) -> str:
        try:
            return await self.portal.backends[self.backend_name].ending(self.job_id)
        except SchedulerError as error:
            return f"(its scheduler does not say how: {error})"

    def give_up(self, why: str) -> bool:
        """End a start that still waits; False when nothing waits."""
        if self._arrival is None or self._arrival.done():
            return False
        self._arrival.set_exception(self._failure("cancelled", why))
        return True

    # What the job says

    async def job_addresses(self, peer: str) -> frozenset[str]:
        """Return the addresses of the machine that runs this job, by the scheduler.

        Asks again for a moment while the scheduler has not caught up with a job that
        already calls. Raises `SchedulerError`.
        """
        if not self.job_id:
            return frozenset()
        backend = self.portal.backends[self.backend_name]
        deadline = time.monotonic() + HOST_TIMEOUT_S
        status = self.monitor.status(self.job_id)
        while True:
            addresses = await backend.addresses(self.job_id)
            if peer in addresses or addresses or time.monotonic() > deadline:
                return addresses
            with self.monitor.urgent(), contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    status = await self.monitor.changed(self.job_id, status)

    async def exchanged(self, started_s: float) -> dict[str, Any]:
        """Return what the session gets for its code: environment and secret files."""
        self._phase("executing", started_s)
        assert self._secrets is not None
        files = await self._secrets
        self.ip, self.port = "0.0.0.0", 0
        environment = self.get_env()
        grant = self._grant
        if grant is not None:
            limit_mib = grant.class_.memory_limit_mib or grant.memory_mib
            environment |= {"MEM_LIMIT": str(limit_mib * 1024 * 1024), "CPU_LIMIT": str(grant.cores)}
        return {"environment": environment, "files": files}

    def _discard_code(self, request: JobRequest) -> None:
        """Have the scheduler forget the code after the job's end; not before: it may fetch it again."""
        backend = self.portal.backends[self.backend_name]

        async def forget() -> None:
            with contextlib.suppress(SchedulerError):  # what stays behind is a used code
                await backend.forget(request)

        self._forgetting = asyncio.create_task(forget())

    def hello(self, host: str, port: int) -> None:
        """Take the address of the server: the host as the scheduler and the socket say, the port as told."""
        if self._arrival is None or self._arrival.done():
            raise web.HTTPError(409, "this server is not being waited for")
        self.said_hello = True
        self._phase("hello")
        self._commit_state()
        shown = f"[{host}]" if ":" in host else host
        self._arrival.set_result(f"http://{shown}:{port}")

    # Life

    async def _watch_job(self) -> None:
        """Let the hub know at once when the scheduler says that a running server is no more."""
        known = self.monitor.status(self.job_id)
        while True:
            known = await self.monitor.changed(self.job_id, known)
            if known.standing in (Standing.GONE, Standing.HELD, Standing.PENDING):
                await self.poll_and_notify()
                return

    async def poll(self) -> int | None:
        """Return None while the job lives or nobody knows; an exit code when it does not.

        A job that lives but can serve nobody any more (held, or put back in the queue) is
        cancelled here, because the hub does not stop what it takes for dead.
        """
        if not self.job_id or not self.backend_name:
            return 0
        status = await self.monitor.asked(self.job_id, FIRST_ANSWER_TIMEOUT_S)
        if status is None:
            return None
        if status.standing is Standing.GONE:
            self.reason = self.reason or await self._ending() or "the job left the queue"
            return 1
        if self._restored and not self.said_hello:
            return await self._finish("the hub restarted before the server said hello")
        if status.standing is Standing.HELD:
            return await self._finish(f"{self.backend_name} held the job: {status.reason}")
        if status.standing is Standing.PENDING and self.said_hello:
            return await self._finish(f"{self.backend_name} evicted the job: {status.reason or 'it is idle again'}")
        if self._restored and self._watch is None:
            self._watch = asyncio.create_task(self._watch_job(), name=f"watch {self._log_name}")
        return None

    async def _finish(self, reason: str) -> int | None:
        self.reason = reason
        self.log.warning("%s: %s; its job %s is cancelled", self._log_name, reason, self.job_id)
        try:
            await self.portal.backends[self.backend_name].cancel(self.job_id, reason)
        except SchedulerError as error:
            self.log.warning("%s: cannot cancel %s yet: %s", self._log_name, self.job_id, error)
            return None
        return 1

    async def end_session(self, reason: str) -> None:
        """End the server's job for a reason of the portal's own."""
        if self.job_id:
            await self._finish(reason)

    async def stop(self, now: bool = False) -> None:
        """Cancel the job and wait until the scheduler says that it is gone."""
        if not self.job_id:
            return
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        job_id, deadline = self.job_id, time.monotonic() + GONE_TIMEOUT_S
        backend = self.portal.backends[self.backend_name]
        status = self.monitor.status(job_id)
        with self.monitor.urgent():
            while time.monotonic() < deadline:
                try:
                    await backend.cancel(job_id, self.reason or "stopped by its owner")
                except SchedulerError as error:
                    self.log.warning("%s: cannot cancel %s: %s", self._log_name, job_id, error)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(5.0):
                        while status is None or status.standing is not Standing.GONE:
                            status = await self.monitor.changed(job_id, status)
                        return
        self.log.error("%s: job %s not gone %g s after its cancel", self._log_name, job_id, GONE_TIMEOUT_S)


def _number(text: str) -> int | None:
    return int(text) if text else None


def _mebibytes(text: str) -> int | None:
    """Read '1500', '1500M' or '2G' (batchspawner's form) as MiB."""
    if not text:
        return None
    unit = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}.get(text[-1].upper())
    return int(text) if unit is None else int(float(text[:-1]) * unit)


def _minutes(text: str) -> int | None:
    """Read 'hours:minutes:seconds', 'minutes:seconds' or minutes as whole minutes, rounded up."""
    if not text:
        return None
    parts = [int(part) for part in text.split(":")]
    if len(parts) == 1:
        return parts[0]
    seconds = sum(part * 60**power for power, part in enumerate(reversed(parts)))
    return -(-seconds // 60)
