"""Looks before a submit whether a server could start at all: a clear refusal, no failed job.

A node that has the homes is asked (the login node's agent). Where it does not answer in time
nothing is refused: the job itself shows what is wrong then.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

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
