"""So many servers on stock batchspawner as on the portal, both watched in one window."""

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from testbed import hub_process, stock_hub
from testbed.bed import Bed
from testbed.errors import TestbedError, UsageError
from testbed.hub_client import HubClient
from testbed.hub_metrics import HubMetrics
from testbed.hub_process import Meter, Window
from testbed.scale_crowd import Crowd
from testbed.scale_steps import Extent

# Each minute the portal's reconciler sees jobs that are new, and asks once whose each one is.
_CENSUS_S = 75.0
# Counted by the stock hub's configuration.
_COMMANDS = "stock_scheduler_commands_total"


def compare(
    bed: Bed,
    portal: Sequence[Meter],
    people: Sequence[str],
    backends: Sequence[str],
    extent: Extent,
    folder: Path,
    say: Callable[[str], None],
) -> tuple[dict[str, float], list[str]]:
    """Have a stock hub for each backend hold its share of `extent.servers`, and watch all hubs.

    The portal's servers run already. Stock's are JupyterLabs: it has nothing lighter, and its
    hub's work is the same for both.

    Returns:
        Figures: the two ratios, and what they are made of; and what went wrong, a line each.

    Raises:
        UsageError: A backend without a rival.
        TestbedError: A stock hub does not come up, or holds fewer than it should.
    """
    unknown = [name for name in backends if name not in stock_hub.TUNED]
    if unknown:
        raise UsageError("no stock spawner for these backends", seen=", ".join(unknown))
    services = {name: stock_hub.TUNED[name] for name in backends}
    with (
        stock_hub.run(bed, list(services.values()), logs=folder, say=say) as hubs,
        contextlib.ExitStack() as ends,
    ):
        crowds, meters = [], [*portal]
        for number, (backend, service) in enumerate(services.items()):
            share = (extent.servers + number) // len(services)
            clients = [hubs[service].client(name) for name in people]
            crowd = Crowd(
                "stock",
                clients,
                {backend: {}},
                at_once=max(1, extent.at_once // 2),
                timeout_s=extent.timeout_s,
            )
            crowds.append(crowd)
            ends.callback(crowd.end)
            say(f"{share} servers on {service}")
            crowd.grow(share, 0)
            if len(crowd.ready) < share:
                raise TestbedError(
                    f"{service} holds {len(crowd.ready)} of {share} servers",
                    seen=next((r.reason for r in crowd.records if r.reason), "no memory left"),
                    cure=f"fewer --servers; {folder}/{service}.log",
                )
            meters.append(Meter(bed, service, partial(_commands, backend, clients[0])))
        say("letting the portal's census learn whose the new jobs are")
        threading.Event().wait(_CENSUS_S)
        say(f"watching {len(meters)} hubs for {extent.last_window_s:.0f} s")
        windows = hub_process.watch(meters, extent.last_window_s)
    own, stock = hub_process.together(windows[: len(portal)]), windows[len(portal) :]
    failures = [f"stock: {line}" for crowd in crowds for line in crowd.left_over]
    return figures(own, stock, extent.servers), failures


def _commands(backend: str, client: HubClient) -> Mapping[str, float]:
    return {backend: HubMetrics.read(client).total(_COMMANDS)}


def figures(own: Window, stock: Sequence[Window], servers: int) -> dict[str, float]:
    """The portal's CPU and queries over stock's, of windows of one length beside each other.

    Args:
        stock: One for each backend; together they hold as many servers as the portal's hub.
    """
    cpu = sum(window.cpu_s for window in stock)
    queries = sum(sum(window.queries.values()) for window in stock)
    own_queries = sum(own.queries.values())
    found = {
        "against_servers": servers,
        "against_window_s": own.window_s,
        "hub_cpu_s_per_min": round(own.cpu_s * 60 / own.window_s, 3),
        "stock_cpu_s_per_min": round(
            sum(window.cpu_s * 60 / window.window_s for window in stock), 3
        ),
        "hub_queries_per_s": round(own_queries / own.window_s, 4),
        "stock_queries_per_s": round(
            sum(sum(w.queries.values()) / w.window_s for w in stock), 4
        ),
    }  # fmt: skip
    if cpu:
        found["hub_cpu_vs_stock_ratio"] = round(own.cpu_s / cpu, 4)
    if queries:
        found["queries_vs_stock_ratio"] = round(own_queries / queries, 4)
    return found
