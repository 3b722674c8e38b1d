"""The front door takes a new configuration or certificate: who works behind it notices nothing."""

import contextlib
from collections.abc import Callable

import pytest

from testbed.bed import Bed
from testbed.hub_client import Spawn
from testbed.kernels import Kernel
from testbed.logins import Visitor
from testbed.waiting import wait_until

pytestmark = [pytest.mark.needs("htcondor", "faults", "front_door"), pytest.mark.timeout(400)]

# More than the processes that serve at once (MaxRequestWorkers / ThreadsPerChild of apache.conf):
# each reload leaves one behind that holds a web socket.
RELOADS = 18
RELOADED = "resuming normal operations"


def reload(bed: Bed) -> None:
    """As start-proxy does it when a file changed; waits until it is done."""
    before = bed.logs("proxy").count(RELOADED)
    done = bed.exec("proxy", ["sh", "-c", "kill -USR1 $(cat /run/af-proxy/apache2.pid)"])
    assert done.ok, done.stderr
    wait_until(lambda: bed.logs("proxy").count(RELOADED) > before, 30, what="the proxy's reload")


def test_web_sockets_outlive_reloads_and_do_not_use_up_the_door(
    bed: Bed, alice: Visitor, spawn: Callable[..., Spawn]
) -> None:
    """A web socket stays through any number of reloads, and after each a new one opens."""
    client = alice.on("htcondor")
    spawn(client, "htcondor")
    with Kernel.start(client) as kernel, contextlib.ExitStack() as sockets:
        opened = [kernel]
        for _ in range(RELOADS):
            reload(bed)
            another = Kernel(client, "", kernel.kernel_id)
            sockets.callback(another.close)
            opened.append(another)
            for each in opened:  # one that does not read its server's pings would be closed
                each.wait_idle(30)
