"""Hands the session's data token on to its person's batch jobs, by each scheduler's own means."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable

from afportal import job_token, munge

_TIMEOUT_S = 20.0
NOT_YET = "is being handed on"


class NotHandedOn(Exception):
    """A scheduler does not take the token; the message is for the person."""


async def _to_htcondor(token: str) -> None:
    """Store it at the access point's credd. Source: condor_store_cred(1), HTCondor 23.9."""
    process = await asyncio.create_subprocess_exec(
        "condor_store_cred", "add-oauth", "-s", job_token.SERVICE, "-i", token,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        said, _ = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    if process.returncode:
        raise NotHandedOn(f"HTCondor's credd: {said.decode(errors='replace').strip()[-300:]}")


async def _to_slurm(token: str) -> None:
    await asyncio.to_thread(job_token.seal, token)


_WAYS = {"htcondor": _to_htcondor, "slurm": _to_slurm}


def problem(scheduler: str) -> str:
    """Under which name a session tells that this scheduler's jobs have no token."""
    return f"data for {scheduler} jobs"


async def hand_on(schedulers: Iterable[str]) -> dict[str, str]:
    """Give the token, if there is one, to each of the schedulers.

    Returns:
        Problem → why the token is not there; it is tried again.
    """
    token = os.environ.get("BEARER_TOKEN_FILE", "")
    problems = {}
    if os.path.isfile(token):  # noqa: ASYNC240, PTH113 - in memory
        for name in schedulers:
            way = _WAYS.get(name)
            if way is None:
                problems[problem(name)] = "this session is older than its hub: start it anew"
                continue
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    await way(token)
            except TimeoutError:
                problems[problem(name)] = f"no answer within {_TIMEOUT_S:g} s; tried again"
            except (NotHandedOn, munge.SealError, OSError, RuntimeError) as error:
                problems[problem(name)] = f"{error}; tried again in a minute"
    return problems
