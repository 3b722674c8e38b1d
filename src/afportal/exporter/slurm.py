"""One Slurm cluster, by `sdiag` and `sinfo`: what slurmctld tells everybody.

Source: sdiag(1), sinfo(1), Slurm 24.11.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from afportal.exporter.readings import Away, run

# sdiag's name → name, help, what makes it the unit of the name
_FIGURES = {
    "server_thread_count": ("slurm_server_threads", "Requests that slurmctld works on", 1.0),
    "agent_queue_size": ("slurm_agent_queue", "Messages that wait to be sent to nodes", 1.0),
    "dbd_agent_queue_size": ("slurm_dbd_queue", "Messages that wait for slurmdbd", 1.0),
    "schedule_cycle_last": ("slurm_schedule_seconds", "Newest scheduling pass", 1e-6),
    "bf_cycle_last": ("slurm_backfill_seconds", "Newest backfill pass", 1e-6),
}


class Cluster:
    """The cluster of this machine's slurm.conf."""

    name = "slurm"

    def read(self) -> list[Metric]:
        """Ask slurmctld. Raises `Away`."""
        said = run(["sdiag", "--json"])
        try:
            answer = json.loads(said)
            statistics = answer["statistics"]
        except (ValueError, LookupError, TypeError) as error:
            raise Away(f"sdiag: not what was expected: {error!r}") from error
        if answer.get("errors"):
            raise Away(f"sdiag: {answer['errors'][0].get('error')}")
        return self.metrics(statistics, run(["sinfo", "--noheader", "--format=%T %D"]))

    def metrics(self, statistics: Mapping[str, Any], nodes: str) -> list[Metric]:
        """Return the figures of sdiag's statistics and sinfo's "state count" lines."""
        jobs = GaugeMetricFamily("slurm_jobs", "Jobs that slurmctld knows", labels=["state"])
        for state in ("pending", "running"):
            jobs.add_metric([state], statistics.get(f"jobs_{state}", 0))
        families: list[Metric] = [jobs, self._of_nodes(nodes)]
        for key, (name, words, unit) in _FIGURES.items():
            if key in statistics:
                families.append(GaugeMetricFamily(name, words, value=statistics[key] * unit))
        return families

    @staticmethod
    def _of_nodes(said: str) -> Metric:
        """Nodes by state; a flag behind it ("down*": does not answer) is a state of its own."""
        counts: Counter[str] = Counter({"idle": 0, "down": 0})
        for line in said.splitlines():
            state, _, count = line.strip().rpartition(" ")
            flag = "_silent" if state.endswith("*") else ""
            counts[state.rstrip("*~#!%$@^-+") + flag] += int(count)
        family = GaugeMetricFamily("slurm_nodes", "Compute nodes", labels=["state"])
        for state, number in sorted(counts.items()):
            family.add_metric([state], number)
        return family
