"""What all kinds of clusters share: they are their owner's, and no environment has a secret."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dask_gateway_server.backends.jobqueue.base import JobQueueBackend
from traitlets import Dict

_TOKEN_FILE = "gateway-token"  # noqa: S105 - where it lies


_PRELOAD = "afportal.dask_gateway.preload"
_TIMEOUT_S = 60.0
Done = tuple[int, str, str]

# Dask's pages ask nobody who is there: health and nothing else is served by HTTP.
_WITHOUT_PAGES = {
    f"DASK_DISTRIBUTED__{role}__HTTP__ROUTES": '["distributed.http.health"]'
    for role in ("SCHEDULER", "WORKER")
}


@dataclass(frozen=True)
class Process:
    """A scheduler or a worker as a job has it.

    Args:
        setup: what a shell runs before it; empty: nothing.
        log: name of a file in the staging folder.
        memory: bytes.
    """

    command: list[str]
    setup: str
    environment: dict[str, str]
    log: str
    cores: float
    memory: float


def job_name(cluster: Any) -> str:
    """Return the name of all jobs of a cluster, by which they are found again."""
    return f"dask-gateway-{cluster.name}"


class OwnersJobs(JobQueueBackend):
    """Jobs of Dask clusters, each submitted, looked at and cancelled as the cluster's owner.

    What a job's environment says, others may be able to read. So the cluster's token lies in the
    staging folder, where its TLS key does; workers need none.

    Source: `dask_gateway.scheduler_preload.make_gateway_client` (2026.3), which takes a path.
    """

    scheduler_environment = Dict(
        help="What schedulers' environments have more, such as SSL_CERT_FILE.", config=True
    )

    # What a command says of a job that is over; that is no failure.
    gone = re.compile(r"(?!)")

    def get_env(self, cluster: Any) -> dict[str, str]:
        """Return what scheduler and workers have; no token."""
        env: dict[str, str] = super().get_env(cluster)
        del env["DASK_GATEWAY_API_TOKEN"]
        return {**env, **_WITHOUT_PAGES}

    def get_scheduler_env(self, cluster: Any) -> dict[str, str]:
        """Return what the scheduler has: where its token is, not what it says."""
        env: dict[str, str] = super().get_scheduler_env(cluster)
        token = os.path.join(self.get_staging_directory(cluster), _TOKEN_FILE)  # noqa: PTH118
        return {**env, "DASK_GATEWAY_API_TOKEN": token, **self.scheduler_environment}

    def get_scheduler_command(self, cluster: Any) -> list[str]:
        """Return the command of a scheduler without pages."""
        return [*super().get_scheduler_command(cluster), "--no-dashboard", "--preload", _PRELOAD]

    def get_worker_command(self, cluster: Any, *more: Any) -> list[str]:
        """Return the command of a worker without pages."""
        preload = ["--preload", _PRELOAD, "--preload-nanny", _PRELOAD]
        return [*super().get_worker_command(cluster, *more), "--no-dashboard", *preload]

    def process(self, cluster: Any, worker: Any = None) -> Process:
        """Return what a worker's job runs, or without one the scheduler's."""
        config = cluster.config
        if worker:
            return Process(
                self.get_worker_command(cluster, worker.name), config.worker_setup,
                self.get_worker_env(cluster), f"dask-worker-{worker.name}.log",
                config.worker_cores, config.worker_memory,
            )  # fmt: skip
        return Process(
            self.get_scheduler_command(cluster), config.scheduler_setup,
            self.get_scheduler_env(cluster), f"dask-scheduler-{cluster.name}.log",
            config.scheduler_cores, config.scheduler_memory,
        )  # fmt: skip

    async def do_as_user(self, user: str, action: str, **kwargs: Any) -> Done:
        """Have dask-gateway's launcher do it with the person's uid; return code, output, errors.

        dask-gateway's own gives sudo no environment at all, and sudo 1.9.16 ends by SIGSEGV then.

        Raises:
            RuntimeError: it could not be done; a command that failed is in what is returned.
        """
        argv = ["sudo", "-nHu", user, self.dask_gateway_jobqueue_launcher]
        said = json.dumps({"action": action, **kwargs})
        code, out, err = await run(argv, {"PATH": os.defpath}, said)
        try:
            done = json.loads(out) if code == 0 else {}
        except ValueError:
            done = {}
        if not done.get("ok"):
            why = done.get("error") or (err or out).strip()[-500:] or "no answer"
            raise RuntimeError(f"the launcher as {user} ended with {code}: {why}")
        return done["returncode"], done["stdout"], done["stderr"]

    async def do_start_cluster(self, cluster: Any) -> AsyncIterator[dict[str, str]]:
        """Make the staging folder, and submit the scheduler's job."""
        cmd, env, stdin = self.get_submit_cmd_env_stdin(cluster)
        folder = self.get_staging_directory(cluster)
        files = {
            "dask.pem": cluster.tls_key.decode(),
            "dask.crt": cluster.tls_cert.decode(),
            _TOKEN_FILE: cluster.token,
        }
        job_id = await self.start_job(
            cluster.username, cmd, env, stdin, staging_dir=folder, files=files
        )
        self.log.info("job %s of %s for cluster %s", job_id, cluster.username, cluster.name)
        yield {"job_id": job_id, "staging_dir": folder}

    def get_end_cmd(self, cluster: Any) -> list[str]:
        """Return a command that cancels every job of the cluster, found by the cluster's name."""
        raise NotImplementedError

    async def do_stop_cluster(self, cluster: Any) -> None:
        """Cancel all jobs of the cluster, then remove its folder; both may be gone.

        By its name: a submit whose answer did not come in time has made a job that nobody knows
        the id of. dask-gateway removes the folder first, and cancels nothing where there is none.
        """
        await self._ask(cluster.username, self.get_end_cmd(cluster), {})
        remove = ["/bin/rm", "-rf", "--", self.get_staging_directory(cluster)]
        await OwnersJobs.do_as_user(self, cluster.username, "start", cmd=remove, env={})

    async def stop_job(self, username: str, job_id: str, staging_dir: str | None = None) -> None:  # noqa: ARG002
        """Cancel a worker's job, which may be over."""
        cmd, env = self.get_stop_cmd_env(job_id)
        await self._ask(username, cmd, env)

    async def do_check_clusters(self, clusters: Sequence[Any]) -> list[bool]:
        """Tell of each cluster whether its scheduler's job is there."""
        return await self._check([(c.username, c.state.get("job_id")) for c in clusters])

    async def do_check_workers(self, workers: Sequence[Any]) -> list[bool]:
        """Tell of each worker whether its job is there."""
        return await self._check([(w.cluster.username, w.state.get("job_id")) for w in workers])

    async def _check(self, jobs: Sequence[tuple[str, str | None]]) -> list[bool]:
        """Ask as each owner: others may not see their jobs. Who cannot be asked counts as there."""
        of_owner: defaultdict[str, list[str]] = defaultdict(list)
        for owner, job_id in jobs:
            if job_id is not None:
                of_owner[owner].append(job_id)
        states: dict[tuple[str, str | None], bool] = {}
        for owner, job_ids in of_owner.items():
            try:
                cmd, env = self.get_status_cmd_env(job_ids)
                seen = self.parse_job_states(await self._ask(owner, cmd, env))
            except Exception as error:
                self.log.warning("jobs of %s: not seen: %s", owner, error)
                seen = dict.fromkeys(job_ids, True)
            states |= {(owner, job_id): seen.get(job_id, False) for job_id in job_ids}
        return [states.get(job, False) for job in jobs]

    async def _ask(self, owner: str, cmd: Sequence[str], env: Mapping[str, str]) -> str:
        code, out, err = await self.do_as_user(user=owner, action="start", cmd=cmd, env=env)
        if code != 0 and not self.gone.search(out + err):
            raise RuntimeError(
                f"{cmd[0]} as {owner} ended with {code}: {(err or out).strip()[-500:]}"
            )
        return str(out)


async def run(argv: Sequence[str], environment: Mapping[str, str], stdin: str) -> Done:
    """Return a command's exit code, output and errors; raises TimeoutError after a minute."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=dict(environment),
        cwd="/",
        # A word to end that goes to all of the gateway's processes leaves what is half done alone.
        start_new_session=True,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            out, err = await process.communicate(stdin.encode())
    except TimeoutError:
        with contextlib.suppress(OSError):  # sudo is root's
            process.kill()
        raise TimeoutError(f"{argv[0]}: no answer within {_TIMEOUT_S:g} s") from None
    return process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace")
