"""One HTCondor pool, by one query to its collector.

Source: condor_status(1); ClassAd attributes of schedd, slot and negotiator, HTCondor 23.9.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from afportal.exporter.readings import Away, run

_ATTRIBUTES = (
    "MyType", "Name", "State", "Cpus", "PartitionableSlot",
    "TotalRunningJobs", "TotalIdleJobs", "TotalHeldJobs", "RecentDaemonCoreDutyCycle",
    "LastNegotiationCycleEnd0", "LastNegotiationCycleDuration0",
)  # fmt: skip
_WANTED = " || ".join(f'MyType == "{kind}"' for kind in ("Scheduler", "Machine", "Negotiator"))
_JOBS = {"running": "TotalRunningJobs", "idle": "TotalIdleJobs", "held": "TotalHeldJobs"}


class Pool:
    """A pool and the access points that belong to it.

    Args:
        label: the pool's name in the figures.
        collector: "host" or "host:port".
        schedds: names of those that should be there; one that is not shows as 0.
    """

    def __init__(self, label: str, collector: str, schedds: Sequence[str]) -> None:
        self.name = f"htcondor/{label}"
        self._label = label
        self._collector = collector
        self._schedds = tuple(schedds)

    def read(self) -> list[Metric]:
        """Ask the collector. Raises `Away`."""
        said = run(
            ["condor_status", "-pool", self._collector, "-any", "-json",
             "-constraint", _WANTED, "-attributes", ",".join(_ATTRIBUTES)]
        )  # fmt: skip
        try:
            ads = json.loads(said or "[]")  # of no ad it prints nothing at all
        except ValueError as error:
            raise Away(f"condor_status: not JSON: {error}") from error
        return self.metrics(ads)

    def metrics(self, ads: Sequence[Mapping[str, Any]]) -> list[Metric]:
        """Return the figures of a collector's ads."""
        of: dict[str, list[Mapping[str, Any]]] = {}
        for ad in ads:
            of.setdefault(str(ad.get("MyType")), []).append(ad)
        return [
            *self._of_schedds({str(ad.get("Name")): ad for ad in of.get("Scheduler", [])}),
            *self._of_slots(of.get("Machine", [])),
            *self._of_negotiators(of.get("Negotiator", [])),
        ]

    def _of_schedds(self, schedds: Mapping[str, Mapping[str, Any]]) -> list[Metric]:
        labels = ["pool", "schedd"]
        up = GaugeMetricFamily(
            "htcondor_schedd_up", "Whether the collector knows an access point", labels=labels
        )
        busy = GaugeMetricFamily(
            "htcondor_schedd_duty_cycle_ratio",
            "Share of its time in which a schedd works; near 1 it keeps everybody waiting",
            labels=labels,
        )
        jobs = GaugeMetricFamily(
            "htcondor_schedd_jobs", "Jobs in a schedd's queue", labels=[*labels, "state"]
        )
        for name in sorted({*self._schedds, *schedds}):
            ad = schedds.get(name)
            up.add_metric([self._label, name], ad is not None)
            if ad is None:
                continue
            busy.add_metric([self._label, name], ad.get("RecentDaemonCoreDutyCycle", 0))
            for state, attribute in _JOBS.items():
                jobs.add_metric([self._label, name, state], ad.get(attribute, 0))
        return [up, busy, jobs]

    def _of_slots(self, slots: Sequence[Mapping[str, Any]]) -> list[Metric]:
        """Cores by what they do: a partitionable slot's own are those that it has left."""
        cores: Counter[str] = Counter({"claimed": 0, "unclaimed": 0})
        for slot in slots:
            cores[str(slot.get("State", "unknown")).lower()] += int(slot.get("Cpus", 0))
        family = GaugeMetricFamily(
            "htcondor_cores", "Cores of the execution points", labels=["pool", "state"]
        )
        for state, count in sorted(cores.items()):
            family.add_metric([self._label, state], count)
        return [family]

    def _of_negotiators(self, negotiators: Sequence[Mapping[str, Any]]) -> list[Metric]:
        ended = GaugeMetricFamily(
            "htcondor_negotiation_end_timestamp_seconds",
            "When the newest negotiation cycle ended",
            labels=["pool"],
        )
        took = GaugeMetricFamily(
            "htcondor_negotiation_seconds", "How long that cycle took", labels=["pool"]
        )
        if negotiators:
            newest = max(negotiators, key=lambda ad: ad.get("LastNegotiationCycleEnd0", 0))
            ended.add_metric([self._label], newest.get("LastNegotiationCycleEnd0", 0))
            took.add_metric([self._label], newest.get("LastNegotiationCycleDuration0", 0))
        return [ended, took]
