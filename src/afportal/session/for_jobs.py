"""Hands the session's data token on to its person's batch jobs, by each scheduler's own means."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable

from afportal import job_token

_TIMEOUT_S = 20.0


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
        async with asyncio.timeout(_TIMEOUT_S):
            said, _ = await process.communicate()
    except TimeoutError as error:
        process.kill()
        await process.wait()
        raise NotHandedOn(f"HTCondor's credd did not answer within {_TIMEOUT_S:g} s") from error
    if process.returncode:
        raise NotHandedOn(f"HTCondor's credd: {said.decode(errors='replace').strip()[-300:]}")


async def _to_slurm(token: str) -> None:
    await asyncio.to_thread(job_token.seal, token)


_WAYS = {"htcondor": _to_htcondor, "slurm": _to_slurm}


async def hand_on(schedulers: Iterable[str]) -> dict[str, str]:
    """Give the token, if there is one, to each of the schedulers.

    Returns:
        "data for SCHEDULER jobs" → why it is not there; the next renewal tries again.
    """
    token = os.environ.get("BEARER_TOKEN_FILE", "")
    problems = {}
    if os.path.isfile(token):  # noqa: ASYNC240, PTH113 - in memory
        for name in schedulers:
            try:
                await _WAYS[name](token)
            except (NotHandedOn, job_token.SealError, OSError) as error:
                problems[f"data for {name} jobs"] = f"{error}; tried again in a minute"
    return problems
