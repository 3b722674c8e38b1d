"""Waits on the facility under judgement: what does not come true in time fails the scenario."""

from collections.abc import Callable
from typing import TypeVar

from testbed.errors import NotInTime, TestbedError
from testbed.waiting import wait_until

T = TypeVar("T")


def expect_within(
    timeout_s: float,
    check: Callable[[], T | None],
    *,
    what: str,
    poll_s: float = 0.25,
    hint: str = "",
) -> T:
    """Call `check` until it returns something true, and return that; see `wait_until`.

    Raises:
        NotInTime: `timeout_s` went by: the promise named by `what` was not kept.
        TestbedError: `check` itself broke.
    """
    broke: TestbedError | None = None

    def guarded() -> T | None:
        nonlocal broke
        try:
            return check()
        except TestbedError as error:
            broke = error
            raise

    try:
        return wait_until(guarded, timeout_s, what=what, poll_s=poll_s, hint=hint)
    except TestbedError as error:
        if error is broke:
            raise
        raise NotInTime(error.what, seen=error.seen, cure=error.cure) from error
