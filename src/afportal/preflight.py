"""Looks before a submit whether a server could start at all: a clear refusal, no failed job.

A node that has the homes is asked (the login node's agent), and whether the person's data token
can be renewed for as long as the server runs. Where nobody answers in time nothing is refused: the
job itself shows what is wrong then.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from afportal.credentials.data_tokens import CURE, DataTokens
from afportal.signed_client import ServiceError, SignedClient

log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 2.0
# Nobody waits for an agent that did not answer just now.
SILENT_S = 60.0


class Preflight:
    """Asks one agent.

    Args:
        client: signs requests to the agent; gives up after `ANSWER_TIMEOUT_S`.
        least_free_mib: so much a home must have free for a server to start, MiB.
        programs: also ask whether an environment's Python is there; where the agent's node has
            the same software as those that run servers.
    """

    def __init__(self, client: SignedClient, *, least_free_mib: int, programs: bool) -> None:
        self._client = client
        self._least_free_mib = least_free_mib
        self._programs = programs
        self._silent_until_s = -math.inf

    async def problems(self, person: str, python: str) -> list[str]:
        """Return what stands in the way of a server of this person's, in words; none if unknown."""
        if time.monotonic() < self._silent_until_s:
            return []
        wanted = [python] if self._programs else []
        try:
            seen = await self._client.call(
                "POST", "/homes", {"person": person, "programs": wanted}
            )  # fmt: skip
        except ServiceError as error:
            log.warning("preflight of %s: %s", person, error)
            if not error.status:
                self._silent_until_s = time.monotonic() + SILENT_S
            return []
        return told(seen, self._least_free_mib)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


async def data_problems(data: DataTokens, person: str, runtime_min: int) -> list[str]:
    """Say if a person's data would end before a server of so many minutes does.

    Minted tokens, and one that renewals carry on, are no reason.
    """
    now_s = time.time()
    asked = asyncio.ensure_future(data.last_end_s(person, now_s + 60 * runtime_min))
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            # A renewal that is under way must not lose what it is given.
            ends_s = await asyncio.shield(asked)
    except TimeoutError:
        log.warning("preflight of %s: the provider of data tokens does not answer", person)
        return []
    if ends_s is None:
        return []
    left_min = max(0, int(ends_s - now_s) // 60)
    at = f"{datetime.fromtimestamp(ends_s, UTC):%d %b %H:%M} UTC"
    shorter = f", or ask for at most {left_min} runtime_min" if left_min else ""
    return [
        f"{runtime_min} runtime_min asked; your data token ends in {left_min} min, {at}, and is "
        f"renewed no more after that; log out and in again and {CURE}{shorter}"
    ]


def told(seen: Mapping[str, Any], least_free_mib: int) -> list[str]:
    """Put what an agent saw in words: what is wrong, the limit, and the cure.

    Args:
        seen: a `HomeCheck` as JSON.
    """
    home = seen["home"]
    if not seen["there"]:
        return [f"your home {home} is not there; ask your facility"]
    found = []
    room = seen["free_mib"]
    no_file = seen["free_files"] == 0
    if seen["quota"]:
        found.append(
            f"the quota of your home is used up: {'; '.join(seen['quota'])}; "
            "delete something there, or ask your facility for more"
        )
    elif no_file or (room is not None and room < least_free_mib):
        free = "no file" if no_file else f"{room} MiB"
        found.append(
            f"your home {home} is full: {free} free, and a server needs {least_free_mib} MiB; "
            "delete something there"
        )
    if seen["missing"]:
        found.append(
            f"the environment is not there: {', '.join(seen['missing'])} is missing; "
            "choose another one, or tell your facility"
        )
    return found
