"""What a running session tells its owner's pages: its limits, and what threatens it."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import websocket

from testbed import loopback
from testbed.errors import NotInTime
from testbed.hub_client import HubClient, HubUnreachable, expect_ok

SCHEMA = "urn:afportal:session:v1"


@dataclass(frozen=True)
class Told:
    """One event of the stream.

    Args:
        at_s: When it was heard, unix seconds of this machine.
        limits: Its data: `time`, `memory`, `warnings`.
    """

    at_s: float
    limits: dict[str, Any]

    def warning(self, kind: str) -> dict[str, Any] | None:
        """The warning of this kind, "time", "memory" or "idle", if there is one."""
        return next((w for w in self.limits["warnings"] if w["kind"] == kind), None)


def session_of(client: HubClient, server: str = "") -> dict[str, Any]:
    """What the panel shows of a person's running server."""
    path = f"{client.server_path(server)}/api/af/session"
    answer = client.request("GET", path)
    expect_ok(answer, f"GET {path}")
    found: dict[str, Any] = answer.json()
    return found


class SessionEvents:
    """Jupyter's stream of events of one server, as each of its pages listens to it.

    Raises:
        HubUnreachable: The server refuses the web socket.
    """

    def __init__(self, client: HubClient, server: str = "") -> None:
        path = f"{client.server_path(server)}/api/events/subscribe"
        self._path = path
        try:
            self._socket = loopback.web_socket(
                f"{client.url}{path}",
                header={"Authorization": f"token {client.token}"},
                verify=client.verify,
            )
        except (OSError, websocket.WebSocketException) as error:
            raise HubUnreachable(f"no web socket to {path}", seen=repr(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def until(self, wanted: Callable[[Told], object], what: str, timeout_s: float) -> Told:
        """The first event from now on that is as wanted.

        Raises:
            NotInTime: None came in time, or the server ended; with the last one heard.
        """
        deadline, last = time.monotonic() + timeout_s, "no event"
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                frame = self._socket.recv()
            except websocket.WebSocketTimeoutException:
                break
            except (OSError, websocket.WebSocketException) as error:
                last = f"{last}; then {error!r}"
                break
            event = json.loads(frame) if frame else {}
            if event.get("schema_id") != SCHEMA:
                continue
            told = Told(time.time(), event)
            if wanted(told):
                return told
            last = str(event["warnings"])
        raise NotInTime(f"{self._path}: {what} not told within {timeout_s:g} s", seen=last)
