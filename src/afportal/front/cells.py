"""What the front asks the instances of the hubs: alive, whose servers, end the sessions."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Callable, Sequence
from urllib.parse import quote

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest, HTTPResponse

from afportal.front.choice import Instance
from afportal.hubs import Hub, Hubs

log = logging.getLogger("afportal.front")

ASK_TIMEOUT_S = 1.0
# Where the answer decides where a person's day goes on, a busy hub is not yet a dead one.
CHOICE_TIMEOUT_S = 3.0
# Two writes to the hub's database for each session of the person.
END_TIMEOUT_S = 3.0


def address_of(instance: str) -> str:
    """Where an instance's hub listens inside the facility."""
    return f"https://hub-{instance}:8081"


class Cells:
    """Every instance of every hub, asked with this service's own token.

    Args:
        address: instance → address of its hub, without a path.
        tls: whose certificates the hubs have; None: those that this machine believes.
    """

    def __init__(
        self,
        token: str,
        address: Callable[[str], str] = address_of,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._token = token
        self._address = address
        self._tls = tls

    async def look(
        self,
        hub: Hub,
        person: str,
        drained: frozenset[str],
        *,
        timeout_s: float = CHOICE_TIMEOUT_S,
    ) -> list[Instance]:
        """Return what is known of a hub's instances; one that refuses is told at once."""
        return list(
            await asyncio.gather(
                *(
                    self._look(hub, name, person, name in drained, timeout_s)
                    for name in hub.instance_names
                )
            )
        )

    async def look_at_all(
        self, hubs: Hubs, person: str, drained: frozenset[str]
    ) -> dict[str, list[Instance]]:
        """Return hub's name → what is known of its instances."""
        found = await asyncio.gather(
            *(self.look(hub, person, drained, timeout_s=ASK_TIMEOUT_S) for hub in hubs.hubs)
        )
        return dict(zip(hubs.names, found, strict=True))

    async def end_sessions(self, hubs: Hubs, person: str) -> list[str]:
        """End a person's sessions at every instance; return those that did not answer.

        API tokens, servers and jobs stay.
        """
        asked = list(hubs.instances())

        async def end(hub: Hub, instance: str) -> bool:
            url = f"{self._address(instance)}/{hub.name}/hub/api/af/end-sessions"
            body = json.dumps({"user": person})
            return await self._ask(url, "POST", body=body, timeout_s=END_TIMEOUT_S) is not None

        ended = await asyncio.gather(*(end(hub, instance) for hub, instance in asked))
        silent = [name for (_, name), done in zip(asked, ended, strict=True) if not done]
        if silent:
            log.warning("%s logged out, unheard by %s", person, ", ".join(silent))
        return silent

    async def _look(
        self, hub: Hub, instance: str, person: str, drained: bool, timeout_s: float
    ) -> Instance:
        base = f"{self._address(instance)}/{hub.name}/hub"
        urls = [f"{base}/health"]
        if person:
            urls.append(f"{base}/api/users/{quote(person, safe='')}")
        asked = [self._ask(url, timeout_s=timeout_s) for url in urls]
        health, *rest = await asyncio.gather(*asked)
        alive = health is not None and health.code == 200
        servers = _servers(rest[0]) if rest and rest[0] is not None else {}
        return Instance(instance, alive=alive, drained=drained, servers=servers)

    async def _ask(
        self, url: str, method: str = "GET", *, body: str | None = None, timeout_s: float
    ) -> HTTPResponse | None:
        """Return the answer, or None when there is none that means success or 'not found'."""
        request = HTTPRequest(
            url,
            method,
            headers={"Authorization": f"token {self._token}", "Content-Type": "application/json"},
            body=body,
            connect_timeout=timeout_s,
            request_timeout=timeout_s,
            follow_redirects=False,
            ssl_options=self._tls,
        )
        try:
            answer = await asyncio.wait_for(
                AsyncHTTPClient().fetch(request, raise_error=False), timeout_s + 0.2
            )
        except (OSError, TimeoutError, HTTPClientError):
            return None
        if answer.code == 599 or (answer.code >= 400 and answer.code != 404):
            log.warning("%s %s: %s %s", method, url, answer.code, answer.reason)
            return None
        return answer


def _servers(answer: HTTPResponse) -> dict[str, str]:
    """Read name → path of a person's servers that run or start."""
    if answer.code != 200:
        return {}
    try:
        found = json.loads(answer.body)
    except ValueError:
        return {}
    servers = found.get("servers") if isinstance(found, dict) else None
    if not isinstance(servers, dict):
        return {}
    return {
        str(name): str(server.get("url") or "")
        for name, server in servers.items()
        if isinstance(server, dict) and (server.get("ready") or server.get("pending"))
    }


def running(instances: Sequence[Instance]) -> list[tuple[str, str, str]]:
    """Return (instance, server's name, path) of every server, in order."""
    return [
        (instance.name, name, path)
        for instance in instances
        for name, path in sorted((instance.servers or {}).items())
    ]
