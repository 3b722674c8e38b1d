"""'Run locally': a login node's agent starts the session as the person."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from afportal.backends import (
    Backend,
    BackendSettings,
    Cause,
    Ending,
    JobRefused,
    JobRequest,
    JobStatus,
    SchedulerError,
    Standing,
    Traits,
)
from afportal.credentials.settings import ServiceSettings
from afportal.phases import QUERIES
from afportal.pool import Machine, Pool, Room
from afportal.signed_client import ServiceError


class LocalBackend(Backend):
    """Sessions on one login node."""

    class Settings(BackendSettings, ServiceSettings):
        """The login node's agent."""

    label = "Run locally"
    traits = Traits(own_memory=False)

    def __init__(
        self, settings: Settings, *, name: str, cell: str, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(settings, name=name, cell=cell, tls=tls)
        self._client = settings.client(tls)
        self._host = urlsplit(settings.url).hostname or ""

    async def _call(
        self, kind: str, method: str, path: str, body: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        QUERIES.labels(self.name, kind).inc()
        try:
            return await self._client.call(method, path, body)
        except ServiceError as error:
            if 400 <= error.status < 500:
                raise JobRefused(str(error)) from error
            raise SchedulerError(f"login node: {error}") from error

    async def submit(self, request: JobRequest) -> str:
        """Start the session; the agent refuses who is not a person."""
        body = {
            "person": request.person,
            "server": request.server,
            "cell": request.cell,
            "argv": [*request.argv, "--code-from", "stdin"],
            "environment": dict(request.environment),
            "code": request.code,
        }
        return str((await self._call("submit", "POST", "/sessions", body))["id"])

    async def _list(self, kind: str) -> Mapping[str, Any]:
        return await self._call(kind, "GET", "/sessions", {})

    async def statuses(
        self, job_ids: Collection[str], *, others: bool = False
    ) -> Mapping[str, JobStatus]:
        """Ask once for all sessions of the node."""
        sessions = (await self._list("bulk"))["sessions"]
        return {
            job_id: JobStatus(
                job_id,
                Standing.RUNNING,
                "running",
                server=s["server"],
                node=self._host,
                matched_s=s["started_s"],
            )
            for job_id, s in sessions.items()
            if s["cell"] == self.cell
        }

    async def cancel(self, job_id: str, reason: str) -> None:
        """End a session: TERM, then KILL after three seconds."""
        await self._call("cancel", "DELETE", f"/sessions/{job_id}", {})

    async def ending(self, job_id: str) -> Ending:
        """Return the exit code or signal that the agent saw."""
        ended: Mapping[str, str] = (await self._list("ending"))["ended"]
        words = ended.get(job_id, "")
        return Ending(Cause.EXITED if words else Cause.UNKNOWN, words)

    async def status(self, job_id: str) -> JobStatus | None:
        """Ask for all sessions of the node; the addresses are the login node's."""
        status = (await self.statuses([job_id])).get(job_id)
        if status is None:
            return None
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            raise SchedulerError(f"login node {self._host}: {error}") from error
        return replace(status, addresses=frozenset(str(item[4][0]) for item in found))

    async def pool(self) -> Pool:
        """The login node takes whoever comes; nobody has accounts there, and nobody waits."""
        room = Room(cores=1 << 20, memory_mib=1 << 30)
        return Pool(machines=(Machine(self._host, room, room),))

    async def close(self) -> None:
        """Close the connections."""
        self._client.close()
