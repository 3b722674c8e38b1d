"""One behaviour, measured: spawn, follow the progress, kernel idle, first cell, stop."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from testbed.errors import ScenarioFailed, TestbedError
from testbed.hub_client import HubClient, Options, Spawn, SpawnFailed, SpawnRefused
from testbed.kernels import Kernel
from testbed.results import SpawnRecord, stamp

# A cell that anybody can run and whose answer proves that it ran.
_FIRST_CELL, _ANSWER = "6 * 7", "42"


@dataclass
class Attempt:
    """A spawn and how far it came."""

    spawn: Spawn
    outcome: Literal["ready", "failed", "bed_broke"] = "ready"
    reason: str = ""
    mine: bool = True  # whether there may be a server of this spawn

    def go_on(self, deed: Callable[[], None]) -> None:
        """Do something more where all went well so far; a failure is noted, and is not raised."""
        if self.outcome != "ready":
            return
        try:
            deed()
        except SpawnFailed as error:
            self.outcome, self.reason = "failed", error.reason
        except SpawnRefused as error:
            # Perhaps because a server of theirs runs already: that is not ours to stop.
            self.outcome, self.reason, self.mine = "failed", str(error), False
        except ScenarioFailed as error:
            self.outcome, self.reason = "failed", str(error)
        except TestbedError as error:
            self.outcome, self.reason = "bed_broke", str(error)


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

    def run(
        self, number: int, while_running: Callable[[HubClient, str], None] | None = None
    ) -> SpawnRecord:
        """One round from click to gone; a failure is in the record, and is not raised.

        Args:
            number: Which round it is, from 0.
            while_running: Something more to do in the running server, after the first cell.
        """
        attempt = self.begin()
        attempt.go_on(lambda: self._first_cell(attempt.spawn))
        if while_running:
            do = while_running
            attempt.go_on(lambda: do(self._client, self._server))
        return self.end(attempt, number)

    def begin(self) -> Attempt:
        """From the click until the server is ready, or failed."""
        attempt = Attempt(Spawn(self._client.user, self._server, self._options))

        def until_ready() -> None:
            for _ in self._client.follow(attempt.spawn, timeout_s=self._timeout_s):
                pass

        attempt.go_on(until_ready)
        return attempt

    def end(self, attempt: Attempt, number: int) -> SpawnRecord:
        """Stop the server and make the record."""
        spawn, outcome, reason = attempt.spawn, attempt.outcome, attempt.reason
        if attempt.mine:
            try:
                asked, gone = self._client.stop(self._server, timeout_s=self._timeout_s)
                spawn.own_unix_s.update(stop_asked=asked, gone=gone)
            except ScenarioFailed as error:
                outcome, reason = "failed", "; ".join(filter(None, [reason, str(error)]))
        return SpawnRecord(
            user=spawn.user,
            server=spawn.server,
            hub=self._hub,
            backend=self._backend,
            options=dict(spawn.options),
            round=number,
            outcome=outcome,
            reason=reason,
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
