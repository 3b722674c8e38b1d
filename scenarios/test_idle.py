"""Servers that nobody uses are ended; one whose kernel computes is not."""

from collections.abc import Callable

import pytest

from testbed import faults
from testbed.bed import Bed
from testbed.hub_client import Spawn
from testbed.kernels import Kernel
from testbed.logins import Visitor
from testbed.promises import expect_within

pytestmark = [pytest.mark.needs("faults"), pytest.mark.timeout(900)]

END_AFTER_MIN, WARN_MIN = 1.0, 0.5
# Rounds come each quarter of a minute then; on a busy machine the rest takes its time too.
PATIENCE_S = 180.0


@pytest.mark.needs("htcondor")
def test_the_idle_one_ends_and_the_busy_one_computes_on(
    bed: Bed,
    people: tuple[Visitor, Visitor],
    spawn: Callable[..., Spawn],
    expect_no_job: Callable[..., None],
) -> None:
    """Two servers: in one a cell runs that prints nothing, the other is left alone."""
    busy, idle = (visitor.on("htcondor") for visitor in people)
    spawn(busy, "htcondor")
    with Kernel.start(busy) as kernel:
        asked = kernel.ask_to_run(f"import time; time.sleep({PATIENCE_S + 30})")
        spawn(idle, "htcondor")
        with faults.impatience(bed, END_AFTER_MIN, WARN_MIN):

            def gone() -> bool:
                # Who does not read cannot answer the server's pings either.
                kernel.receive(1)
                return "" not in idle.servers()

            expect_within(PATIENCE_S, gone, what="the idle server is ended", poll_s=0)
            ended = idle.spawn_account()["ended"]
            assert ended["cause"] == "idle", ended
            assert "nobody used it" in ended["words"]
            expect_no_job(idle)
            assert busy.servers()[""]["ready"], busy.spawn_account()
            assert done_with(kernel, asked), "the busy kernel did not end its cell"
            assert busy.servers()[""]["ready"], busy.spawn_account()


def done_with(kernel: Kernel, asked: str) -> bool:
    """Whether the kernel answers this request at last."""

    def look() -> bool:
        message = kernel.receive(5)
        return bool(
            message
            and message["msg_type"] == "execute_reply"
            and message["parent_header"].get("msg_id") == asked
            and message["content"]["status"] == "ok"
        )

    return expect_within(PATIENCE_S + 60, look, what="the cell ends", poll_s=0)
