"""One behaviour, measured: spawn, follow the progress, kernel idle, first cell, stop."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from testbed.causes import cause_of
from testbed.errors import ExplainedError, ScenarioFailed, TestbedError
from testbed.hub_client import (
    HubClient,
    HubUnreachable,
    Options,
    Spawn,
    SpawnFailed,
    SpawnRefused,
)
from testbed.kernels import Kernel
from testbed.results import SpawnRecord, stamp

# A cell that anybody can run and whose answer proves that it ran.
_FIRST_CELL, _ANSWER = "6 * 7", "42"

WhileRunning = Callable[[HubClient, str], None]


@dataclass
class Round:
    """A round that has begun. `mine` says whether a server of it may be there."""

    number: int
    spawn: Spawn
    outcome: Literal["ready", "failed", "bed_broke"] = "ready"
    reason: str = ""
    cause: str = ""
    mine: bool = True

    def went_wrong(self, error: ExplainedError) -> None:
        """Note an error; the first one's cause is the round's."""
        self.outcome = "bed_broke" if isinstance(error, TestbedError) else "failed"
        reason = error.reason if isinstance(error, SpawnFailed) else str(error)
        self.reason = "; ".join(filter(None, [self.reason, reason]))
        self.cause = self.cause or cause_of(error)


class RoundTrip:
    """A person's measured spawns on one backend of one hub."""

    def __init__(
        self,
        client: HubClient,
        *,
        hub: str,
        backend: str,
        options: Options,
        server: str = "",
        timeout_s: float = 120.0,
    ) -> None:
        self._client = client
        self._hub = hub
        self._backend = backend
        self._options = {"backend": backend, **options}
        self._server = server
        self._timeout_s = timeout_s

    def run(self, number: int, while_running: WhileRunning | None = None) -> SpawnRecord:
        """One round from click to gone; a failure is in the record, and is not raised.

        Args:
            number: Which round it is, from 0.
            while_running: Something more to do in the running server, after the first cell.
        """
        return self.end(self.begin(number, while_running))

    def begin(
        self, number: int, while_running: WhileRunning | None = None, *, first_cell: bool = True
    ) -> Round:
        """The first part of `run`: the server stays; without `first_cell` no kernel is begun."""
        spawn = Spawn(self._client.user, self._server, self._options)
        begun = Round(number, spawn)
        try:
            for _ in self._client.follow(spawn, timeout_s=self._timeout_s):
                pass
            if first_cell:
                self._first_cell(spawn)
            if while_running:
                while_running(self._client, self._server)
        except SpawnRefused as error:
            # Perhaps because a server of theirs runs already: that is not ours to stop.
            begun.went_wrong(error)
            begun.mine = False
        except HubUnreachable as error:
            begun.went_wrong(error)
            begun.mine = error.sent or bool(spawn.events)
        except (ScenarioFailed, TestbedError) as error:
            begun.went_wrong(error)
        return begun

    def end(self, begun: Round) -> SpawnRecord:
        """The second part of `run`: the server is stopped."""
        if begun.mine:
            try:
                asked, gone = self._client.stop(self._server, timeout_s=self._timeout_s)
                begun.spawn.own_unix_s.update(stop_asked=asked, gone=gone)
                begun.mine = False
            except ScenarioFailed as error:
                begun.went_wrong(error)
        return self.record(begun)

    def record(self, begun: Round) -> SpawnRecord:
        """A round as it is now."""
        spawn = begun.spawn
        return SpawnRecord(
            user=spawn.user,
            server=spawn.server,
            hub=self._hub,
            backend=self._backend,
            options=dict(spawn.options),
            round=begun.number,
            outcome=begun.outcome,
            reason=begun.reason,
            cause=begun.cause,
            own_unix_s=spawn.own_unix_s,
            hub_unix_s=spawn.hub_unix_s,
        )

    def _first_cell(self, spawn: Spawn) -> None:
        stamp(spawn.own_unix_s, "kernel_asked")
        with Kernel.start(self._client, self._server) as kernel:
            spawn.own_unix_s["kernel_idle"] = kernel.wait_idle(self._timeout_s)
            result = kernel.run(_FIRST_CELL, self._timeout_s)
            stamp(spawn.own_unix_s, "first_cell")
        if result.value != _ANSWER:
            raise ScenarioFailed(f"{_FIRST_CELL} gave {result.value!r}", seen="in the first cell")
