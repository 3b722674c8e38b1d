"""Slurm through slurmrestd: submits as the person, lists and cancels as the hub.

A submit carries the person's own short-lived JWT, made by a minter beside the
controller's key. The hub's own token is that of an account coordinator: it may list and
cancel the portal's jobs and cannot read their scripts or environments. The one-time code
travels in the job's environment, which Slurm shows to nobody else.

Source: Slurm 24.11 REST API, data_parser v0.0.42; answers captured in tests/data/slurm.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import socket
import ssl
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

from afportal.backends import (
    Announced,
    Backend,
    BackendSettings,
    Ending,
    JobRefused,
    JobRequest,
    JobStatus,
    SchedulerError,
    Standing,
    Traits,
    slurm_announced,
    slurm_pool,
)
from afportal.backends.announcements import Announcements
from afportal.backends.slurm_states import ending_of, standing_of
from afportal.credentials.settings import MinterSettings
from afportal.phases import QUERIES
from afportal.pool import Pool
from afportal.signed_client import ServiceError, mint

# Waits that no time ends: an operator or the owner must act.
_HELD_REASONS = {"JobHeldUser", "JobHeldAdmin"}
_UNKNOWN_JOB = 2017
_ENDED_ALREADY = {_UNKNOWN_JOB, 2021}  # 2021: already completing or completed
_TOKEN_REFUSED = 1007

CODE_VARIABLE = "AF_CODE"
SUBMIT_TOKEN_S = 60
HUB_TOKEN_S = 3600
# How long a waiting job's reason is taken for the current one.
REASON_FRESH_S = 3.0
# Bytes; what is larger is read beside the loop.
LARGE_ANSWER = 100_000
# A job is 3 to 8 kB of what slurmrestd answers.
JOBS_LOOKED_AT = 1000
# A census asks for so many strangers' jobs beside its bulk query, which they must not hold up.
LEARNED_AT_ONCE = 200


class SlurmBackend(Backend):
    """One cluster behind one slurmrestd."""

    class Settings(BackendSettings):
        """One cluster.

        Args:
            url: slurmrestd, "http://slurmrestd:6820".
            version: version of the data parser, "v0.0.42".
            minter: makes JWTs beside the controller's key.
            identity: the hub's own account, coordinator of the accounts that it serves.
            partition: where a session goes that names no partition.
            nudge: a hidden partition of the hub's own; a moment's allocation there makes the
                controller schedule at once instead of at its next tick. Empty: not used.
        """

        url: str
        minter: MinterSettings
        identity: str = "hub"
        partition: str = ""
        nudge: str = ""
        version: str = "v0.0.42"

    label = "Slurm"

    def __init__(
        self, settings: Settings, *, name: str, cell: str, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(settings, name=name, cell=cell, tls=tls)
        self._url = settings.url.rstrip("/")
        self._version = settings.version
        self._minter = settings.minter.client(tls)
        self._identity = settings.identity
        self.traits = Traits(True, settings.partition, reserves_limit=True)
        self._nudge = settings.nudge
        self._http = AsyncHTTPClient(force_instance=True, max_clients=50)
        self._token = ""
        self._token_until_s = 0.0
        self._minting = asyncio.Lock()
        self._details: dict[str, tuple[tuple[str, ...], float, JobStatus]] = {}
        # Job → `person/name` of this cell's, empty if not known; None: another's.
        self._ours: dict[str, str | None] = {}
        self._announced = Announcements(name, self._ask_announced)
        self._node_addresses: dict[str, tuple[float, frozenset[str]]] = {}

    # Talking to slurmrestd

    async def _hub_token(self) -> str:
        async with self._minting:
            if time.time() > self._token_until_s - HUB_TOKEN_S / 4:
                self._token = await self._mint(self._identity, HUB_TOKEN_S)
                self._token_until_s = time.time() + HUB_TOKEN_S
            return self._token

    async def _mint(self, person: str, lifetime_s: int) -> str:
        try:
            return await mint(self._minter, person, lifetime_s)
        except ServiceError as error:
            if error.status == 403 and person != self._identity:
                raise JobRefused(f"no Slurm token for {person}: {error}") from error
            raise SchedulerError(f"Slurm's minter: {error}") from error

    async def _call(
        self,
        kind: str,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        token: str = "",
    ) -> dict[str, Any]:
        """Send one request; the answer's own errors stay in it, under "errors"."""
        QUERIES.labels(self.name, kind).inc()
        request = HTTPRequest(
            self._url + path.replace("VERSION", self._version),
            method=method,
            headers={
                "X-SLURM-USER-TOKEN": token or await self._hub_token(),
                "Content-Type": "application/json",
            },
            body=json.dumps(body) if body is not None else None,
            allow_nonstandard_methods=True,
            connect_timeout=5,
            request_timeout=15,
        )
        try:
            response = await self._http.fetch(request, raise_error=False)
            if response.code == 599:
                raise SchedulerError(f"slurmrestd {self._url}: {response.error}")
            answer: dict[str, Any] = (
                json.loads(response.body)
                if len(response.body) < LARGE_ANSWER
                else await asyncio.to_thread(json.loads, response.body)
            )
        except (OSError, HTTPClientError, ValueError) as error:
            raise SchedulerError(f"slurmrestd {self._url}{path}: {error}") from error
        if response.code == 401 or any(
            number == _TOKEN_REFUSED for number, _ in self._errors(answer)
        ):
            self._token_until_s = 0.0
            raise SchedulerError(f"slurmrestd {self._url}: the token was refused")
        self._raise_if_away(answer)
        return answer

    @staticmethod
    def _errors(answer: Mapping[str, Any]) -> list[tuple[int, str]]:
        return [
            (int(e.get("error_number") or 0), str(e.get("error") or e.get("description") or ""))
            for e in answer.get("errors") or []
        ]

    def _raise_if_away(self, answer: Mapping[str, Any]) -> None:
        """Raise when an error is of the way to the controller, not of the request.

        Slurm numbers what it says of requests 2000 to 4999.
        """
        for number, text in self._errors(answer):
            if not 2000 <= number < 5000:
                raise SchedulerError(f"slurmctld: {text} ({number})")

    # Backend

    def _job(self, request: JobRequest) -> dict[str, Any]:
        environment = {
            "HOME": request.home,
            "USER": request.person,
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            **request.environment,
            CODE_VARIABLE: request.code,
        }
        job: dict[str, Any] = {
            "name": f"af-{request.cell}",
            "comment": request.server,
            "current_working_directory": request.home,
            "environment": [f"{name}={value}" for name, value in environment.items()],
            "partition": request.partition or self.traits.usual_partition,
            "tasks": 1,
            "cpus_per_task": request.cores,
            "memory_per_node": {
                "set": True,
                "number": request.memory_limit_mib or request.memory_mib,
            },
            "time_limit": {"set": True, "number": request.runtime_min},
            # A server that comes to life again has lost its kernels.
            "requeue": False,
            "standard_input": "/dev/null",
            "standard_output": "/dev/null",
            "standard_error": "/dev/null",
        }
        for field in ("account", "qos", "reservation"):
            if getattr(request, field):
                job[field] = getattr(request, field)
        if request.gpus:
            job["tres_per_job"] = f"gres/gpu:{request.gpus}"
        return job

    @staticmethod
    def _script(request: JobRequest) -> str:
        """Return the batch script: Python, so that no shell reads an argument.

        The interpreter's line takes one option; the rest are literals of this program.
        """
        interpreter, *options = request.argv
        module = options.index("-m") + 1
        argv = [*options[module:], "--code-from", f"env:{CODE_VARIABLE}"]
        return (
            f"#!{interpreter} -I\n"
            "import runpy, sys\n"
            f"sys.argv = {argv!r}\n"
            "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)\n"
        )

    async def submit(self, request: JobRequest) -> str:
        """Submit with the person's own token; a nudge beside it saves the wait for the tick."""
        token = await self._mint(request.person, SUBMIT_TOKEN_S)
        body = {"script": self._script(request), "job": self._job(request)}
        nudge = asyncio.create_task(self._begin_nudge()) if self._nudge else None
        try:
            if nudge is not None:
                await nudge
            answer = await self._call(
                "submit", "POST", "/slurm/VERSION/job/submit", body, token=token
            )
        finally:
            if nudge is not None:
                self._ending_nudge = asyncio.create_task(self._end_nudge(nudge))
        errors = self._errors(answer)
        if errors:
            raise JobRefused(f"Slurm refuses: {'; '.join(text for _, text in errors)}")
        return str(answer["job_id"])

    async def _begin_nudge(self) -> str:
        body = {
            "job": {
                "name": "af-nudge", "partition": self._nudge, "tasks": 1, "immediate": True,
                "environment": ["PATH=/bin"], "current_working_directory": "/",
                "time_limit": {"set": True, "number": 1},
            }
        }  # fmt: skip
        try:
            answer = await self._call("nudge", "POST", "/slurm/VERSION/job/allocate", body)
        except (SchedulerError, JobRefused):
            return ""
        return str(answer.get("job_id") or "")

    async def _end_nudge(self, nudge: asyncio.Task[str]) -> None:
        job_id = await nudge
        if job_id:
            try:
                await self._call("nudge", "DELETE", f"/slurm/VERSION/job/{job_id}")
            except SchedulerError:
                return  # its time limit of one minute ends it

    async def _states(self, kind: str = "bulk") -> dict[str, tuple[str, ...]]:
        answer = await self._call(kind, "GET", "/slurm/VERSION/jobs/state")
        return {
            str(job["job_id"]): tuple(job.get("state") or ()) for job in answer.get("jobs") or []
        }

    async def statuses(
        self, job_ids: Collection[str], *, others: bool = False
    ) -> Mapping[str, JobStatus]:
        """Ask for all states at once, and for the details of what changed.

        The list of states names no owner: with `others` jobs that are new in it are asked for
        once, some hundred each time, and remembered as ours or not.
        """
        states = await self._states()
        living = {
            job_id: states[job_id]
            for job_id in job_ids
            if job_id in states and standing_of(states[job_id]) is not Standing.GONE
        }
        self._details = {job_id: d for job_id, d in self._details.items() if job_id in states}
        found = await asyncio.gather(
            *(self._status(job_id, state) for job_id, state in living.items())
        )
        if any(status.node for status in found):
            await self._announced.look()
        statuses = {status.job_id: self._with_announced(status) for status in found}
        return statuses | await self._others(states, set(job_ids)) if others else statuses

    def _with_announced(self, status: JobStatus) -> JobStatus:
        announced = slurm_announced.to_job(status, self._announced.newest.get(status.node, ()))
        return replace(status, announced=announced) if announced != status.announced else status

    async def _ask_announced(self) -> Mapping[str, tuple[Announced, ...]]:
        nodes, reservations = await asyncio.gather(
            self._call("nodes-announced", "GET", "/slurm/VERSION/nodes"),
            self._call("reservations", "GET", "/slurm/VERSION/reservations"),
        )
        for answer in (nodes, reservations):
            if faults := self._errors(answer):
                raise SchedulerError(f"Slurm does not tell what it will do: {faults[0][1]}")
        return slurm_announced.of_nodes(nodes, reservations, time.time())

    async def _others(
        self, states: Mapping[str, tuple[str, ...]], followed: Collection[str]
    ) -> dict[str, JobStatus]:
        living = {i: s for i, s in states.items() if standing_of(s) is not Standing.GONE}
        self._ours = {i: ours for i, ours in self._ours.items() if i in living}
        self._ours |= {i: self._ours.get(i) or "" for i in living if i in followed}
        unknown = [i for i in living if i not in followed and self._ours.get(i, "") == ""]
        await asyncio.gather(*map(self._learn_whose, unknown[:LEARNED_AT_ONCE]))
        return {
            job_id: JobStatus(job_id, standing_of(state), ", ".join(state), server=server)
            for job_id, state in living.items()
            if (server := self._ours.get(job_id)) is not None and job_id not in followed
        }

    async def _learn_whose(self, job_id: str) -> None:
        # One that could not be asked for now is left to the next census.
        with contextlib.suppress(SchedulerError):
            job = await self._get(job_id)
            mine = job is not None and job.get("name") == f"af-{self.cell}"
            self._ours[job_id] = str((job or {}).get("comment") or "") if mine else None

    async def _status(self, job_id: str, states: tuple[str, ...]) -> JobStatus:
        known = self._details.get(job_id)
        now = time.monotonic()
        waits = standing_of(states) is Standing.PENDING
        if (
            known is not None
            and known[0] == states
            and not (waits and now - known[1] > REASON_FRESH_S)
        ):
            return known[2]
        status = await self.status(job_id)
        if status is None:
            status = JobStatus(job_id, standing_of(states), ", ".join(states))
        self._details[job_id] = (states, now, status)
        return status

    async def _get(self, job_id: str) -> Mapping[str, Any] | None:
        answer = await self._call("detail", "GET", f"/slurm/VERSION/job/{int(job_id)}")
        jobs = answer.get("jobs") or []
        return jobs[0] if jobs else None

    @staticmethod
    def _status_of(job: Mapping[str, Any]) -> JobStatus:
        states = tuple(job.get("job_state") or ())
        standing = standing_of(states)
        reason = str(job.get("state_reason") or "")
        if standing is Standing.PENDING and reason in _HELD_REASONS:
            standing = Standing.HELD
        running = standing in (Standing.RUNNING, Standing.SUSPENDED)
        began = slurm_pool.number(job.get("start_time"))
        ends = slurm_pool.number(job.get("end_time"))
        return JobStatus(
            job_id=str(job["job_id"]),
            standing=standing,
            native=", ".join(states),
            reason="" if reason == "None" else reason,
            server=str(job.get("comment") or ""),
            node=str(job.get("batch_host") or ""),
            matched_s=float(began) if began and standing is Standing.RUNNING else None,
            ends_s=float(ends) if ends and running else None,
            announced=slurm_announced.of_job(job) if running else (),
        )

    async def cancel(self, job_id: str, reason: str) -> None:
        """Cancel: TERM, then KILL after the cluster's KillWait."""
        answer = await self._call("cancel", "DELETE", f"/slurm/VERSION/job/{int(job_id)}")
        faults = [*self._errors(answer)]
        for item in answer.get("status") or []:
            error = item.get("error") or {}
            if error.get("code"):
                faults.append((int(error["code"]), str(error.get("message") or "")))
        for number, text in faults:
            if number not in _ENDED_ALREADY:
                raise SchedulerError(f"Slurm does not cancel {job_id}: {text} ({number})")

    async def ending(self, job_id: str) -> Ending:
        """Ask the controller, and the accounting when the controller has forgotten."""
        job = await self._get(job_id)
        if job is not None:
            return ending_of(job)
        answer = await self._call("ending", "GET", f"/slurmdb/VERSION/job/{int(job_id)}")
        jobs = answer.get("jobs") or []
        return ending_of(jobs[0]) if jobs else Ending()

    async def status(self, job_id: str) -> JobStatus | None:
        """Ask for the job; its address is that of its node as the controller has it."""
        job = await self._get(job_id)
        if job is None:
            return None
        status = self._status_of(job)
        status = replace(status, addresses=await self._addresses_of(status.node))
        return self._with_announced(status)

    async def _addresses_of(self, node: str) -> frozenset[str]:
        if not node:
            return frozenset()
        known = self._node_addresses.get(node)
        if known is not None and time.monotonic() - known[0] < 60:
            return known[1]
        answer = await self._call("address", "GET", f"/slurm/VERSION/node/{node}")
        found = frozenset().union(
            *[await _resolve(str(n.get("address") or "")) for n in answer.get("nodes") or []]
        )
        self._node_addresses[node] = (time.monotonic(), found)
        return found

    async def pool(self) -> Pool:
        """Ask for nodes, partitions, associations, QOS and jobs, each once.

        Of a queue that is too long to be looked at every half a minute, the jobs are left out:
        what is free is known then, and not when more will be.
        """
        asked_s = time.time()
        many = len(await self._states("jobs-counted")) > JOBS_LOOKED_AT
        nodes, partitions, associations, qos = await asyncio.gather(
            self._call("nodes", "GET", "/slurm/VERSION/nodes"),
            self._call("partitions", "GET", "/slurm/VERSION/partitions?flags=ALL"),
            self._call("associations", "GET", "/slurmdb/VERSION/associations"),
            self._call("qos", "GET", "/slurmdb/VERSION/qos"),
        )
        jobs = {} if many else await self._call("jobs", "GET", "/slurm/VERSION/jobs")
        for answer in (nodes, partitions, associations, qos, jobs):
            if faults := self._errors(answer):
                raise SchedulerError(f"Slurm does not tell what it has: {faults[0][1]}")
        # Names of people come from the directory, which may be slow.
        return await asyncio.to_thread(
            slurm_pool.pool_of, nodes, partitions, associations, qos, jobs, asked_s
        )

    async def close(self) -> None:
        """Close the connections."""
        self._http.close()
        self._minter.close()


async def _resolve(host: str) -> frozenset[str]:
    """Return the addresses of a host name or address, empty when it has none."""
    try:
        return frozenset({str(ipaddress.ip_address(host))})
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return frozenset()
    return frozenset(str(item[4][0]) for item in found)
