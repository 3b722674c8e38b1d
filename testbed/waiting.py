"""The one way to wait: a condition, a deadline, and a message that says what was last seen."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from testbed.errors import TestbedError

T = TypeVar("T")


def wait_until(
    check: Callable[[], T | None],
    timeout_s: float,
    *,
    what: str,
    poll_s: float = 0.25,
    hint: str = "",
    last_seen: Callable[[], str] | None = None,
    retry_on: tuple[type[Exception], ...] = (),
) -> T:
    """Call `check` until it returns something true, and return that.

    Args:
        check: Asked at once and then every `poll_s` seconds.
        timeout_s: Longest wait in seconds; `check` is asked once more at its end.
        what: What is waited for, as the timeout message shall name it.
        hint: The next command to run, for the timeout message.
        last_seen: Describes the present state; asked only when the time is over.
            Without it the message carries the last result or error of `check`.
        retry_on: Errors of `check` that mean 'not yet'.

    Raises:
        TestbedError: `timeout_s` went by. Errors not in `retry_on` pass through.
    """
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while True:
        last_time = time.monotonic() >= deadline
        try:
            result = check()
            seen = repr(result)
        except retry_on as error:
            result, seen = None, f"{type(error).__name__}: {error}"
        if result:
            return result
        if last_time:
            raise TestbedError(
                f"{what}: not so after {timeout_s:g} s",
                seen=f"last seen {last_seen() if last_seen else seen}",
                cure=hint,
            )
        # The poll itself: bounded by the deadline, never the condition.
        pause.wait(max(0.0, min(poll_s, deadline - time.monotonic())))
