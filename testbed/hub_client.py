"""One person at one hub, by its REST API: spawn and follow it, list, stop."""

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import requests
from urllib3.exceptions import NewConnectionError

from testbed import loopback
from testbed.errors import NotInTime, ScenarioFailed
from testbed.promises import expect_within
from testbed.results import HUB_PHASES, stamp
from testbed.secret import Secret

Options = Mapping[str, str | int]

# The hub writes an empty line every 8 s while a spawn has no news
# (`keepalive_interval` of its progress handler), so longer silence means it is gone.
_STREAM_SILENCE_S = 30.0
REQUEST_TIMEOUT_S = 60.0
# How long the answer to a spawn's request may come after its progress stream failed.
_LAST_WORD_S = 5.0
# What a front door answers for a hub that is not there.
_NOBODY_BEHIND = (502, 503, 504)


class HubUnreachable(ScenarioFailed):
    """The hub did not answer, or broke off its answer.

    `sent` is False where there was not even a connection: nothing was asked of it.
    """

    sent = True


class HubRefused(ScenarioFailed):
    """The hub answered, and the answer was no."""

    def __init__(self, request: str, status: int, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(f"the hub refused {request}", seen=f"HTTP {status}: {message}")


class SpawnRefused(HubRefused):
    """A spawn was not accepted: the options are wrong, or the server runs already."""


class SpawnFailed(ScenarioFailed):
    """A spawn ended without a server; `reason` is what the hub told the person."""

    def __init__(self, spawn: "Spawn", reason: str) -> None:
        self.spawn = spawn
        self.reason = reason
        super().__init__(f"the spawn of {spawn.user}/{spawn.server} failed", seen=reason)


@dataclass(frozen=True)
class Progress:
    """One event of a spawn's progress stream."""

    message: str
    phase: str | None
    hub_unix_s: float | None
    ready: bool
    failed: bool
    own_unix_s: float
    raw: Mapping[str, Any]


@dataclass(frozen=True)
class Spawn:
    """A spawn and what is known of it; the stamps fill as it goes on."""

    user: str
    server: str
    options: Options
    own_unix_s: dict[str, float] = field(default_factory=dict)
    hub_unix_s: dict[str, float] = field(default_factory=dict)
    events: list[Progress] = field(default_factory=list)

    @property
    def messages(self) -> list[str]:
        """What the person was told, in order."""
        return [event.message for event in self.events]


class HubClient:
    """A person's API token at a hub, and what can be done with it."""

    def __init__(
        self,
        url: str,
        user: str,
        token: Secret,
        *,
        verify: str | bool = True,
        token_id: str = "",
    ) -> None:
        self.url = url.rstrip("/")
        self.user = user
        self.verify = verify
        self.token_id = token_id  # of a token that the judges made themselves
        self._session = loopback.session(verify)
        self._session.headers["Authorization"] = f"token {token}"

    def again(self, token: Secret | None = None) -> "HubClient":
        """The same person at the same hub with connections of its own, or with another token."""
        mine = "" if token else self.token_id
        return HubClient(
            self.url, self.user, token or self.token, verify=self.verify, token_id=mine
        )

    @property
    def token(self) -> Secret:
        """The person's token, for sockets; never to be printed."""
        return Secret(str(self._session.headers["Authorization"]).removeprefix("token "))

    @property
    def instance(self) -> str:
        """The hub instance that made the token, by its last part; empty where none is named."""
        return self.token.rpartition(".")[2] if "." in self.token else ""

    @property
    def log_command(self) -> str:
        """How to read the log of the hub that is asked."""
        return f"testbed logs hub-{self.instance}" if self.instance else "testbed status"

    def close(self) -> None:
        """Drop the connections; the token stays valid until it expires."""
        self._session.close()

    def revoke(self) -> None:
        """Take back the token, if the judges made it; the hub knows it no more.

        Raises:
            HubRefused: The hub would not.
            HubUnreachable: No answer.
        """
        if not self.token_id:
            return
        path = f"/hub/api/users/{quote(self.user)}/tokens/{quote(self.token_id)}"
        answer = self.request("DELETE", path)
        if answer.status_code not in (403, 404):  # it is gone already
            expect_ok(answer, f"DELETE {path}")
        self.token_id = ""

    # Requests

    def request(
        self, method: str, path: str, *, timeout_s: float = REQUEST_TIMEOUT_S, **more: Any
    ) -> requests.Response:
        """Ask anything of the front door as this person; the answer may be an error.

        Args:
            method: HTTP verb.
            path: From the root, with a slash: `/hub/api/user`, `/user/alice/api/kernels`.
            timeout_s: For the connection and between two reads.
            more: As `requests.Session.request` takes it.

        Raises:
            HubUnreachable: No answer.
        """
        try:
            return self._session.request(
                method, self.url + path, timeout=timeout_s, allow_redirects=False, **more
            )
        except requests.RequestException as error:
            unreachable = HubUnreachable(
                f"{method} {path} got no answer", seen=brief(error), cure="testbed status"
            )
            unreachable.sent = not _never_connected(error)
            raise unreachable from error

    def get_json(self, path: str) -> Any:
        """The JSON at a path.

        Raises:
            HubRefused: Any status but 2xx.
        """
        answer = self.request("GET", path)
        expect_ok(answer, f"GET {path}")
        return answer.json()

    # Servers

    def server_path(self, server: str = "") -> str:
        """Where a server of this person lies behind the front door, without a slash at the end."""
        path = f"/user/{quote(self.user)}"
        return f"{path}/{quote(server)}" if server else path

    def servers(self) -> dict[str, dict[str, Any]]:
        """The hub's model of each server of this person that runs, starts or stops.

        Raises:
            HubRefused: The token may not see them.
        """
        path = f"/hub/api/users/{quote(self.user)}"
        model: dict[str, Any] = self.get_json(path)
        if "servers" not in model:
            raise HubRefused(f"GET {path}", 403, "the token may not see servers (read:servers)")
        return dict(model["servers"])

    def all_servers(self) -> dict[str, dict[str, Any]]:
        """The hub's models of everybody's servers, by person; needs an observer's rights."""
        found: dict[str, dict[str, Any]] = {}
        path = "/hub/api/users?state=active&limit=200&offset="
        offset = 0
        while page := self.get_json(path + str(offset)):
            for model in page:
                found[model["name"]] = model["servers"]
            offset += len(page)
        return found

    def spawn_account(self, server: str = "") -> dict[str, Any]:
        """The portal's own account of the newest spawn: job id, phases, state, reason."""
        tail = f"/{quote(server)}" if server else ""
        account: dict[str, Any] = self.get_json(f"/hub/api/af/spawns/{quote(self.user)}{tail}")
        return account

    def spawn(self, options: Options, server: str = "", *, timeout_s: float = 120.0) -> Spawn:
        """Start a server and follow it until it is ready.

        Raises:
            SpawnRefused: The request was not accepted.
            SpawnFailed: It was accepted and failed, with the reason the person was told.
            HubUnreachable: The hub fell silent in between.
            NotInTime: Neither ready nor failed after `timeout_s`.
        """
        spawn = Spawn(self.user, server, dict(options))
        for _ in self.follow(spawn, timeout_s=timeout_s):
            pass
        return spawn

    def follow(self, spawn: Spawn, *, timeout_s: float = 120.0) -> Iterator[Progress]:
        """Ask for a server and yield what the person is told, until it is ready.

        The request and the stream run side by side, because the hub may keep the answer
        to the request back until the server is nearly there. Raises as `spawn` does.
        """
        deadline = time.monotonic() + timeout_s
        request = _SpawnRequest(self, spawn)
        while True:
            answered = request.answered
            failure: Progress | None = None
            try:
                for event in self._events(spawn, deadline):
                    if event.failed:
                        failure = event
                        break
                    spawn.events.append(event)
                    yield event
                    if event.ready:
                        spawn.own_unix_s["ready"] = event.own_unix_s
                        # A server that already ran is ready too, but it was not this spawn.
                        request.wait(max(0.0, deadline - time.monotonic()))
                        request.raise_if_refused(spawn)
                        return
            except (HubRefused, HubUnreachable):
                # What became of the request itself says more than that nobody tells of it.
                request.wait(_LAST_WORD_S)
                request.raise_if_refused(spawn)
                raise
            # The hub tells of the last spawn's failure until it has accepted this one,
            # so a failure counts only if it was read after the request was answered.
            if failure and answered:
                spawn.events.append(failure)
                yield failure
                raise SpawnFailed(spawn, failure.message)
            request.raise_if_refused(spawn)
            if time.monotonic() >= deadline:
                raise NotInTime(
                    f"{spawn.user}/{spawn.server} not ready after {timeout_s:g} s",
                    seen=f"last told: {spawn.messages[-1] if spawn.messages else 'nothing'}",
                    cure=self.log_command,
                )
            # The stream opens only once the hub has accepted; its answer says so, and
            # while that is kept back the stream is asked for again.
            if answered:
                threading.Event().wait(0.1)
            else:
                request.wait(0.02)

    def _events(self, spawn: Spawn, deadline: float) -> Iterator[Progress]:
        """The progress stream as far as it goes; nothing if the hub has none to tell."""
        path = f"/hub/api/users/{quote(self.user)}"
        path += f"/servers/{quote(spawn.server)}/progress" if spawn.server else "/server/progress"
        answer = self.request("GET", path, stream=True, timeout_s=_STREAM_SILENCE_S)
        with answer:
            if answer.status_code in (400, 404):
                return
            expect_ok(answer, f"GET {path}")
            try:
                for line in answer.iter_lines(decode_unicode=True):
                    if line.startswith("data:"):
                        event = parse_progress(line.removeprefix("data:"))
                        _note(spawn, event)
                        yield event
                    if time.monotonic() >= deadline:
                        return
            except requests.RequestException as error:
                raise HubUnreachable(
                    f"the progress of {self.user}/{spawn.server} broke off", seen=brief(error)
                ) from error

    def stop(self, server: str = "", *, timeout_s: float = 60.0) -> tuple[float, float]:
        """Stop a server, starting or running, and wait until the hub has it no more.

        Returns:
            When it was asked for and when it was gone, unix seconds.

        Raises:
            HubRefused: The hub would not.
            NotInTime: Still there after `timeout_s`.
        """
        asked = time.time()
        path = f"/hub/api/users/{quote(self.user)}"
        path += f"/servers/{quote(server)}" if server else "/server"
        answer = self.request("DELETE", path)
        if answer.status_code != 404:
            expect_ok(answer, f"DELETE {path}")
        expect_within(
            timeout_s,
            lambda: not self._there(server),
            what=f"server {self.user}/{server} stopped",
            poll_s=0.1,
            hint=self.log_command,
        )
        return asked, time.time()

    def _there(self, server: str) -> bool:
        model = self.servers().get(server)
        return model is not None and bool(model.get("ready") or model.get("pending"))


class _SpawnRequest:
    """The POST of a spawn on a thread of its own."""

    def __init__(self, client: HubClient, spawn: Spawn) -> None:
        path = f"/hub/api/users/{quote(spawn.user)}"
        self._path = path + (f"/servers/{quote(spawn.server)}" if spawn.server else "/server")
        self._answer: requests.Response | None = None
        self._error: HubUnreachable | None = None
        self._done = threading.Event()
        # A session is not made for two threads, and this one has a stream open meanwhile.
        self._client = client.again()
        stamp(spawn.own_unix_s, "click")
        threading.Thread(target=self._post, args=[dict(spawn.options)], daemon=True).start()

    def _post(self, options: dict[str, str | int]) -> None:
        try:
            self._answer = self._client.request("POST", self._path, json=options, timeout_s=120)
        except HubUnreachable as error:
            self._error = error
        finally:
            self._client.close()
            self._done.set()

    @property
    def answered(self) -> bool:
        return self._done.is_set()

    def wait(self, timeout_s: float) -> None:
        """Wait for the answer, at most so long."""
        self._done.wait(timeout_s)

    def raise_if_refused(self, spawn: Spawn) -> None:
        if self._error:
            raise self._error
        if self._answer is not None and not self._answer.ok:
            message = _message(self._answer)
            if self._answer.status_code in _NOBODY_BEHIND and not _is_hubs(self._answer):
                raise HubUnreachable(
                    f"POST {self._path} reached no hub",
                    seen=f"HTTP {self._answer.status_code}: {message}",
                    cure="testbed status",
                )
            # The hub answers 500 to a spawn that it had accepted and that failed at once.
            if self._answer.status_code >= 500:
                raise SpawnFailed(spawn, message)
            raise SpawnRefused(f"POST {self._path}", self._answer.status_code, message)


def parse_progress(data: str) -> Progress:
    """Read the JSON of one event of the hub's progress stream."""
    event = json.loads(data)
    raw_stamp = event.get("stamp")
    return Progress(
        message=str(event.get("message", "")),
        phase=event.get("phase"),
        hub_unix_s=float(raw_stamp) if raw_stamp is not None else None,
        ready=bool(event.get("ready")),
        failed=bool(event.get("failed")),
        own_unix_s=time.time(),
        raw=event,
    )


def _note(spawn: Spawn, event: Progress) -> None:
    if event.phase in HUB_PHASES:
        spawn.own_unix_s.setdefault(event.phase, event.own_unix_s)
        if event.hub_unix_s is not None:
            spawn.hub_unix_s.setdefault(event.phase, event.hub_unix_s)


def expect_ok(answer: requests.Response, request: str) -> None:
    """Raise HubRefused, with what the answer says, for any status but 2xx."""
    if not answer.ok or answer.is_redirect:
        raise HubRefused(request, answer.status_code, _message(answer))


def _never_connected(error: requests.RequestException) -> bool:
    """Whether a request failed before any of it was on the wire."""
    why = error.args[0] if error.args else None
    return isinstance(getattr(why, "reason", None), NewConnectionError)


def _is_hubs(answer: requests.Response) -> bool:
    """Whether an error is a hub's own: only its JSON names the status."""
    try:
        return "status" in answer.json()
    except (ValueError, TypeError):
        return False


def _message(answer: requests.Response) -> str:
    """What an error answer says, without its page around it."""
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return answer.reason or "no word why"


def brief(error: requests.RequestException) -> str:
    """An error's kind and gist; never its request, whose headers hold a token."""
    text = re.sub(r"\btoken=[^&\s]+", "token=…", str(error))
    return f"{type(error).__name__}: {text}"
