"""A kernel in a person's own server, reached as a browser reaches it: proxy and web socket."""

import itertools
import json
import select
import ssl
import struct
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import quote, urlencode

import websocket

from testbed import loopback
from testbed.errors import NotInTime, ScenarioFailed
from testbed.hub_client import HubClient, HubRefused, HubUnreachable

Message = dict[str, Any]

_SEND_TIMEOUT_S = 30.0
# How long a thread that waits for the rest of a frame keeps others from sending.
_TURN_S = 0.05


class KernelDied(ScenarioFailed):
    """The kernel ended, or its web socket was closed, while something was asked of it."""


class CellFailed(ScenarioFailed):
    """A cell raised; `traceback` is the kernel's own, without colours."""

    def __init__(self, where: str, error: str, traceback: str) -> None:
        self.error = error
        self.traceback = traceback
        super().__init__(f"{where} failed with {error}", seen=traceback)


@dataclass(frozen=True)
class CellResult:
    """What a cell printed and what its last expression was."""

    stdout: str
    value: str


class Kernel:
    """A running kernel and one web socket to it. One thread may send while another receives."""

    def __init__(self, client: HubClient, server: str, kernel_id: str) -> None:
        self.kernel_id = kernel_id
        self._client = client
        self._path = f"{client.server_path(server)}/api/kernels/{quote(kernel_id)}"
        self._session_id = uuid.uuid4().hex
        # OpenSSL's connection must not be read and written at the same moment: a thread that
        # did saw the socket as closed while server and kernel lived on.
        self._turn = threading.Lock()
        self._socket = self._connect()
        self._opened = time.monotonic()

    @classmethod
    def start(
        cls, client: HubClient, server: str = "", *, folder: str = "", name: str = "python3"
    ) -> Self:
        """Start a kernel in a person's running server and connect to it.

        Args:
            client: The person.
            server: The name of their server; empty for the default one.
            folder: Where it shall start, relative to the server's root.
            name: Which of the server's kernels; by default the environment's own Python.

        Raises:
            HubRefused: The server would not start one.
            HubUnreachable: The server did not answer, or refused the web socket.
        """
        path = f"{client.server_path(server)}/api/kernels"
        answer = client.request("POST", path, json={"name": name, "path": folder})
        if answer.status_code != 201:
            raise HubRefused(f"POST {path}", answer.status_code, answer.reason or "")
        return cls(client, server, answer.json()["id"])

    def _connect(self) -> websocket.WebSocket:
        query = urlencode({"session_id": self._session_id})
        try:
            # The token goes in a header: in the address it would stand in every log.
            return loopback.web_socket(
                f"{self._client.url}{self._path}/channels?{query}",
                header={"Authorization": f"token {self._client.token}"},
                verify=self._client.verify,
            )
        except (OSError, websocket.WebSocketException) as error:
            raise HubUnreachable(
                f"no web socket to {self._path}", seen=f"{type(error).__name__}: {error}"
            ) from error

    def reconnect(self) -> None:
        """Open the web socket anew, as a browser does after the front door was away."""
        self._socket.close()
        self._socket = self._connect()
        self._opened = time.monotonic()

    # Messages

    def send(self, channel: str, kind: str, content: Message) -> str:
        """Send a message of Jupyter's protocol and return its id."""
        message_id = uuid.uuid4().hex
        header = {
            "msg_id": message_id,
            "msg_type": kind,
            "session": self._session_id,
            "username": self._client.user,
            "date": datetime.now(UTC).isoformat(),
            "version": "5.3",
        }
        message = {
            "channel": channel,
            "header": header,
            "parent_header": {},
            "metadata": {},
            "content": content,
            "buffers": [],
        }
        try:
            with self._turn:
                self._socket.settimeout(_SEND_TIMEOUT_S)
                self._socket.send(json.dumps(message))
        except (OSError, websocket.WebSocketException) as error:
            raise self._died(error) from error
        return message_id

    def ask_to_run(
        self, code: str, *, store_history: bool = False, stop_on_error: bool = True
    ) -> str:
        """Ask for a piece of code to be run and return the id of the request."""
        return self.send(
            "shell",
            "execute_request",
            {
                "code": code,
                "silent": False,
                "store_history": store_history,
                "user_expressions": {},
                "allow_stdin": False,
                "stop_on_error": stop_on_error,
            },
        )

    def receive(self, timeout_s: float) -> Message | None:
        """The next message of any channel, or None when none came in time.

        Raises:
            KernelDied: The web socket closed, or the server says the kernel is dead.
        """
        frame = self._frame(time.monotonic() + timeout_s)
        if frame is None:
            return None
        if not frame:
            raise self._died("the web socket was closed")
        message = decode(frame)
        if message["msg_type"] == "status" and message["content"]["execution_state"] in (
            "dead",
            "restarting",
        ):
            raise self._died("the server says so")
        return message

    def _frame(self, deadline: float) -> str | bytes | None:
        """The next frame, or None at the deadline; sends in between find their turn."""
        while True:
            left = max(deadline - time.monotonic(), 0.0)
            try:
                if self._has_bytes(left):
                    with self._turn:
                        # Bytes need not be a frame: what came of one is kept for the next turn.
                        self._socket.settimeout(_TURN_S)
                        return self._socket.recv()
            except websocket.WebSocketTimeoutException:
                pass
            except (OSError, ValueError, websocket.WebSocketException) as error:
                raise self._died(error) from error
            if time.monotonic() >= deadline:
                return None

    def _has_bytes(self, wait_s: float) -> bool:
        """Whether something came, on the wire or in what was decrypted already."""
        sock = self._socket.sock
        if sock is None:
            raise websocket.WebSocketConnectionClosedException("it was closed here")
        with self._turn:
            if isinstance(sock, ssl.SSLSocket) and sock.pending():
                return True
        return bool(select.select([sock], [], [], wait_s)[0])

    def _died(self, seen: object) -> KernelDied:
        open_s = time.monotonic() - self._opened
        return KernelDied(
            f"the kernel behind {self._path}, or the web socket to it, is gone",
            # An end without TLS's own farewell (SSLEOFError) is a process's that died on the way.
            seen=f"{seen!r}; its web socket was open for {open_s:.2f} s",
        )

    # Deeds

    def wait_idle(self, timeout_s: float = 60.0) -> float:
        """Wait until the kernel has answered a question and says it is idle.

        Returns:
            When that was heard, unix seconds.

        Raises:
            NotInTime: It was not.
        """
        asked = self.send("shell", "kernel_info_request", {})
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            message = self.receive(left)
            if message and _is_idle(message, asked):
                return time.time()
        raise NotInTime(f"the kernel behind {self._path} not idle after {timeout_s:g} s")

    def run(self, code: str, timeout_s: float = 60.0) -> CellResult:
        """Run a piece of code to its end.

        Raises:
            CellFailed: It raised.
            NotInTime: It did not end in time.
            KernelDied: The kernel went away under it.
        """
        asked = self.ask_to_run(code)
        stdout, value, replied, idle = [], "", False, False
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            message = self.receive(left)
            if message is None or message["parent_header"].get("msg_id") != asked:
                continue
            content = message["content"]
            match message["msg_type"]:
                case "stream" if content["name"] == "stdout":
                    stdout.append(content["text"])
                case "execute_result":
                    value = content["data"].get("text/plain", "")
                case "error":
                    raise CellFailed(
                        "a cell",
                        f"{content['ename']}: {content['evalue']}",
                        plain("\n".join(content["traceback"])),
                    )
                case "execute_reply":
                    replied = True
            idle = idle or _is_idle(message, asked)
            if idle and replied:
                return CellResult("".join(stdout), value)
        raise NotInTime(f"a cell in {self._path} did not end in {timeout_s:g} s", seen=code)

    def interrupt(self) -> None:
        """Interrupt what runs."""
        self._client.request("POST", f"{self._path}/interrupt")

    def is_alive(self) -> bool:
        """Whether the server still has this kernel."""
        return self._client.request("GET", self._path).status_code == 200

    def close(self) -> None:
        """Close the web socket and leave the kernel running."""
        self._socket.close()

    def shut_down(self) -> None:
        """End the kernel; a server that is already gone is no error."""
        self.close()
        try:
            self._client.request("DELETE", self._path)
        except HubUnreachable:
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shut_down()


def decode(frame: str | bytes) -> Message:
    """Read a frame of the default web socket protocol, with or without binary buffers.

    Source: jupyter-server.readthedocs.io, 'WebSocket kernel wire protocols'.
    """
    if isinstance(frame, str):
        message: Message = json.loads(frame)
        message.setdefault("buffers", [])
    else:
        (count,) = struct.unpack_from("!I", frame)
        offsets = [*struct.unpack_from(f"!{count}I", frame, 4), len(frame)]
        parts = [frame[a:b] for a, b in itertools.pairwise(offsets)]
        message = json.loads(parts[0])
        message["buffers"] = parts[1:]
    message.setdefault("msg_type", message["header"]["msg_type"])
    message.setdefault("msg_id", message["header"]["msg_id"])
    return message


def plain(text: str) -> str:
    """The text without terminal colours."""
    out, rest = [], text
    while (begin := rest.find("\x1b[")) >= 0:
        out.append(rest[:begin])
        end = next((i for i, c in enumerate(rest[begin + 2 :]) if c.isalpha()), None)
        if end is None:
            return "".join(out)
        rest = rest[begin + 2 + end + 1 :]
    return "".join(out) + rest


def _is_idle(message: Message, parent: str) -> bool:
    idle: bool = (
        message["msg_type"] == "status"
        and message["content"]["execution_state"] == "idle"
        and message["parent_header"].get("msg_id") == parent
    )
    return idle
