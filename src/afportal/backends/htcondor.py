"""HTCondor: the hub's own access point, one identity for everybody.

The hub holds an IDTOKEN that the access point lets submit, list and remove jobs for
people (QUEUE_SUPER_USERS, QUEUE_SUPER_USER_MAY_IMPERSONATE), no signing key. The
one-time code travels through the credd, because a job ad can be read by others.

Source: HTCondor 23.9 manual (submit description, job ClassAd attributes); measured
facts in docs/decisions.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, TypeVar

import classad2
import htcondor2

from afportal.backends import (
    Announced,
    Backend,
    BackendSettings,
    Cause,
    Ending,
    JobRefused,
    JobRequest,
    JobStatus,
    SchedulerError,
    Standing,
    htcondor_pool,
)
from afportal.backends.announcements import Announcements
from afportal.phases import QUERIES
from afportal.pool import Pool
from afportal.submit_description import arguments, environment, literal, plain

T = TypeVar("T")

# JobStatus attribute: 6, transferring output, comes after the job's own end.
_STANDINGS = {
    1: (Standing.PENDING, "idle"),
    2: (Standing.RUNNING, "running"),
    3: (Standing.ENDING, "removed"),
    4: (Standing.ENDING, "completed"),
    5: (Standing.HELD, "held"),
    6: (Standing.ENDING, "transferring output"),
    7: (Standing.SUSPENDED, "suspended"),
}
_PROJECTION = [
    "ClusterId", "ProcId", "JobStatus", "HoldReason", "HoldReasonCode", "RemoveReason",
    "RemoteHost", "AfServer", "JobCurrentStartDate",
    "LastRejMatchReason", "RequestMemory", "AfMemoryLimitMiB", "StartdIpAddr", "AllowedJobDuration",
]  # fmt: skip
_SERVICE = "hub"
VACATE_S = 3
LEASE_S = 60
# HoldReasonCode attribute: memory; the job's or the execution's allowed duration.
_HELD_FOR = {34: Cause.MEMORY, 46: Cause.TIME, 47: Cause.TIME}


def _sinful_host(address: str) -> str:
    """Return the IP address in a daemon's address, "<192.0.2.7:9618?…>" or "<[::1]:9618…>"."""
    match = re.match(r"<(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):\d+", address)
    return (match.group(1) or match.group(2)) if match else ""


class HTCondorBackend(Backend):
    """Submits to one schedd in the name of people."""

    class Settings(BackendSettings):
        """The hub's own access point.

        Args:
            schedd: name of the access point's schedd.
            collector: "host" or "host:port" of the collector that knows it.
            credd: "host:port" of the access point's credd.
            token_directory: folder with the hub's IDTOKEN; several access points of one hub
                share it.
            domain: UID domain of people's identities.
        """

        schedd: str
        collector: str
        credd: str
        token_directory: Path
        domain: str

    label = "HTCondor"
    # htcondor2's settings are those of the process: one identity, the hub's own.
    _tokens: ClassVar[Path | None] = None

    def __init__(
        self, settings: Settings, *, name: str, cell: str, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(settings, name=name, cell=cell, tls=tls)
        self._schedd_name = settings.schedd
        self._collector = settings.collector
        self._credd_ad = classad2.ClassAd({"MyAddress": f"<{settings.credd}>"})
        self._domain = settings.domain
        if HTCondorBackend._tokens not in (None, settings.token_directory):
            raise ValueError(
                f"token_directory {settings.token_directory}: one process has one identity, and "
                f"another backend takes it from {HTCondorBackend._tokens}; put both tokens there"
            )
        HTCondorBackend._tokens = settings.token_directory
        for parameter, value in {
            "SEC_TOKEN_DIRECTORY": str(settings.token_directory),
            "SEC_CLIENT_AUTHENTICATION_METHODS": "IDTOKENS",
            "SEC_CLIENT_ENCRYPTION": "REQUIRED",
            "SEC_CLIENT_INTEGRITY": "REQUIRED",
        }.items():
            htcondor2.param[parameter] = value
        self._threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="htcondor")
        self._located: classad2.ClassAd | None = None
        self._announced = Announcements(name, self._taken_back)

    async def _ask(self, kind: str, call: Callable[[htcondor2.Schedd], T]) -> T:
        """Run one call on the schedd in a thread.

        An access point that was made anew has another address: one that cannot be reached
        at the address known so far is looked up once more.
        """
        QUERIES.labels(self.name, kind).inc()

        def run() -> T:
            known = self._located
            if known is not None:
                try:
                    return call(htcondor2.Schedd(known))
                except htcondor2.HTCondorException as error:
                    if "connect" not in str(error):
                        raise
            collector = htcondor2.Collector(self._collector)
            found = collector.locate(htcondor2.DaemonType.Schedd, self._schedd_name)
            answer = call(htcondor2.Schedd(found))
            self._located = found
            return answer

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, run)
        except (htcondor2.HTCondorException, RuntimeError) as error:
            self._located = None
            words = " ".join(str(error).split())
            raise SchedulerError(f"access point {self._schedd_name}: {words}") from error

    def _description(self, request: JobRequest, handle: str) -> dict[str, str]:
        """Return the submit description; what a person chose stands in it as literals only."""
        argv = (*request.argv, "--code-from", f"credd:{_SERVICE}_{handle}")
        lines = {
            "universe": "vanilla",
            "executable": plain(argv[0]),
            "transfer_executable": "False",
            "My.Arguments": literal(arguments(argv[1:])),
            "My.Environment": literal(environment(request.environment)),
            "My.Owner": literal(request.person),
            "My.Iwd": literal(request.home),
            "My.FileSystemDomain": literal(self._domain),
            "should_transfer_files": "NO",
            "request_cpus": str(request.cores),
            "request_memory": f"{request.memory_mib}MB",
            "request_disk": "1MB",
            "My.IsNotebook": str(request.reserved),
            "My.AfCell": literal(request.cell),
            "My.AfServer": literal(request.server),
            "My.OAuthServicesNeeded": literal(f"{_SERVICE}*{handle}"),
            # A server that traps TERM gets no more than this to leave.
            "job_max_vacate_time": str(VACATE_S),
            # The next notebook on this slot need not wait for the negotiator.
            "keep_claim_idle": "60",
            # A server that was evicted has lost its kernels: it is not started again. When
            # its machine dies, the lease says how soon that counts as an eviction.
            "requirements": "(MY.NumJobStarts ?: 0) == 0",
            "My.PeriodicRemove": "NumJobStarts > 0 && JobStatus == 1",
            "job_lease_duration": str(LEASE_S),
            "allowed_job_duration": str(request.runtime_min * 60),
        }
        if request.memory_limit_mib is not None:
            lines["My.AfMemoryLimitMiB"] = str(request.memory_limit_mib)
        if request.account:
            lines["accounting_group"] = plain(f"group_{request.account}")
            lines["accounting_group_user"] = plain(request.person)
        if request.gpus:
            kind, _, count = request.gpus.rpartition(":")
            lines["request_gpus"] = str(int(count))
            if kind:
                lines["require_gpus"] = f"Kind =?= {literal(kind)}"
        return lines

    async def submit(self, request: JobRequest) -> str:
        """Leave the code with the credd, then submit as the person."""
        handle = hashlib.sha256(request.code.encode()).hexdigest()[:16]
        user = f"{request.person}@{self._domain}"
        try:
            lines = self._description(request, handle)
        except ValueError as error:
            raise JobRefused(str(error)) from error

        def run(schedd: htcondor2.Schedd) -> str:
            htcondor2.Credd(self._credd_ad).add_user_service_cred(
                htcondor2.CredType.OAuth, request.code.encode(), _SERVICE, handle, user=user
            )
            return f"{schedd.submit(htcondor2.Submit(lines)).cluster()}.0"

        return await self._ask("submit", run)

    async def statuses(
        self, job_ids: Collection[str], *, others: bool = False
    ) -> Mapping[str, JobStatus]:
        """Ask for every job of this cell at once, and for the slots that are taken back."""
        wanted = f"AfCell == {classad2.quote(self.cell)}"
        ads = await self._ask("bulk", lambda schedd: schedd.query(wanted, projection=_PROJECTION))
        if any(ad.get("RemoteHost") for ad in ads):
            await self._announced.look()
        return {status.job_id: status for status in map(self._status, ads)}

    def _status(self, ad: classad2.ClassAd) -> JobStatus:
        status = _status(ad)
        if status.standing not in (Standing.RUNNING, Standing.SUSPENDED):
            return status
        announced = self._announced.newest.get(str(ad.get("RemoteHost")), ())
        return replace(status, announced=announced) if announced else status

    async def _taken_back(self) -> Mapping[str, tuple[Announced, ...]]:
        return htcondor_pool.taken_back(
            await self._ask_collector(
                "announced", htcondor_pool.TAKEN_BACK, htcondor_pool.TAKEN_BACK_PROJECTION
            )
        )

    async def cancel(self, job_id: str, reason: str) -> None:
        """Remove a job; its processes end after the vacate time at the latest."""
        await self._ask(
            "cancel", lambda schedd: schedd.act(htcondor2.JobAction.Remove, [job_id], reason)
        )

    async def ending(self, job_id: str) -> Ending:
        """Read the history: exit code, signal, or who removed it and why."""
        ads = await self._ask(
            "ending",
            lambda schedd: schedd.history(
                _this(job_id),
                [
                    "ExitCode",
                    "ExitBySignal",
                    "ExitSignal",
                    "RemoveReason",
                    "JobStatus",
                    "HoldReason",
                    "LastHoldReason",
                    "HoldReasonCode",
                    "LastHoldReasonCode",
                    "ResidentSetSize",
                    "ResidentSetSize_RAW",
                ],
                match=1,
            ),
        )
        return _ending(ads[0]) if ads else Ending()

    async def status(self, job_id: str) -> JobStatus | None:
        """Ask for the job's ad; its address is that of the execution point's startd."""
        ads = await self._ask(
            "status", lambda schedd: schedd.query(_this(job_id), projection=_PROJECTION)
        )
        return self._status(ads[0]) if ads else None

    async def lengthen(self, job_id: str, runtime_min: int) -> None:
        """Change the job's ad; the schedd tells its shadow, which keeps the time."""
        await self._ask(
            "lengthen",
            lambda schedd: schedd.edit(
                [job_id],
                "AllowedJobDuration",
                str(runtime_min * 60),
                htcondor2.TransactionFlag.SetDirty,
            ),
        )

    async def pool(self) -> Pool:
        """Ask the collector for all slots, and the schedd for the portal's jobs."""
        asked_s = time.time()
        there = await self._ask_collector("slots", htcondor_pool.SLOTS)
        jobs = await self._ask(
            "jobs",
            lambda schedd: schedd.query(
                htcondor_pool.JOBS, projection=htcondor_pool.JOB_PROJECTION
            ),
        )
        return await asyncio.to_thread(htcondor_pool.pool_of, there, jobs, asked_s)

    async def _ask_collector(
        self, kind: str, constraint: str, projection: Collection[str] = ()
    ) -> list[classad2.ClassAd]:
        """Ask for slots; not by way of `_ask`, for a collector that is away does not move a schedd.

        Args:
            projection: attributes; empty: all.
        """
        QUERIES.labels(self.name, kind).inc()

        def run() -> list[classad2.ClassAd]:
            collector = htcondor2.Collector(self._collector)
            found: list[classad2.ClassAd] = collector.query(
                htcondor2.AdType.Startd, constraint=constraint, projection=[*projection]
            )
            return found

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, run)
        except (htcondor2.HTCondorException, RuntimeError) as error:
            words = " ".join(str(error).split())
            raise SchedulerError(f"collector {self._collector}: {words}") from error

    async def forget(self, request: JobRequest) -> None:
        """Take the code out of the credd."""
        handle = hashlib.sha256(request.code.encode()).hexdigest()[:16]
        user = f"{request.person}@{self._domain}"

        def run(_: htcondor2.Schedd) -> None:
            htcondor2.Credd(self._credd_ad).delete_user_service_cred(
                htcondor2.CredType.OAuth, _SERVICE, handle, user=user
            )

        await self._ask("forget", run)

    async def close(self) -> None:
        """End the threads; a call that hangs is left behind."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _this(job_id: str) -> str:
    cluster, _, proc = job_id.partition(".")
    return f"ClusterId == {int(cluster)} && ProcId == {int(proc)}"


def _status(ad: classad2.ClassAd) -> JobStatus:
    standing, native = _STANDINGS.get(int(ad.get("JobStatus", 0)), (Standing.PENDING, "unknown"))
    reason, cause = "", Cause.UNKNOWN
    if standing is Standing.HELD:
        reason = f"{ad.get('HoldReason', '')} (code {ad.get('HoldReasonCode', '?')})"
        cause = _HELD_FOR.get(ad.get("HoldReasonCode"), Cause.HELD)
        if cause is Cause.MEMORY:
            # HTCondor 23.9 names the request as the limit, which misleads.
            limit = ad.get("AfMemoryLimitMiB", ad.get("RequestMemory", "?"))
            reason = f"out of memory: more than {limit} MiB used; {reason}"
    elif standing is Standing.ENDING:
        reason = str(ad.get("RemoveReason", ""))
    elif standing is Standing.PENDING:
        reason = str(ad.get("LastRejMatchReason", "")).strip() or "no machine matched yet"
    host = str(ad.get("RemoteHost", ""))
    address = _sinful_host(str(ad.get("StartdIpAddr", "")))
    matched, allowed_s = ad.get("JobCurrentStartDate"), ad.get("AllowedJobDuration")
    return JobStatus(
        job_id=f"{ad['ClusterId']}.{ad['ProcId']}",
        standing=standing,
        native=native,
        reason=reason,
        server=str(ad.get("AfServer", "")),
        node=host.rpartition("@")[2],
        matched_s=float(matched) if matched is not None else None,
        addresses=frozenset({address} if address else ()),
        cause=cause,
        ends_s=float(matched + allowed_s) if matched and allowed_s else None,
    )


def _ending(ad: classad2.ClassAd) -> Ending:
    # A schedd rounds the one without _RAW up to steps of a quarter.
    kib = ad.get("ResidentSetSize_RAW", ad.get("ResidentSetSize"))
    peak = -(-int(kib) // 1024) if kib else None
    held = ad.get("HoldReasonCode", ad.get("LastHoldReasonCode"))
    if ad.get("RemoveReason"):
        words = str(ad["RemoveReason"])
        # The policy of the portal's own jobs: what started and waits again lost its machine.
        cause = Cause.NODE if "PeriodicRemove" in words else Cause.REMOVED
        return Ending(_HELD_FOR.get(held, cause), f"removed: {words}", peak)
    if ad.get("ExitBySignal"):
        return Ending(Cause.EXITED, f"signal {ad.get('ExitSignal')}", peak)
    if "ExitCode" in ad:
        return Ending(Cause.EXITED, f"exit code {ad['ExitCode']}", peak)
    words = str(ad.get("HoldReason") or ad.get("LastHoldReason") or "")
    return Ending(_HELD_FOR.get(held, Cause.HELD if words else Cause.UNKNOWN), words, peak)
