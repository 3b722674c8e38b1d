"""What hubs count of themselves, read from their Prometheus pages."""

from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from testbed.errors import ScenarioFailed
from testbed.hub_client import HubClient, HubRefused

SPAWN_DURATION = "jupyterhub_server_spawn_duration_seconds"
QUERIES = "afportal_scheduler_queries_total"


@dataclass(frozen=True)
class Spread:
    """Count and sum of a histogram."""

    count: float
    sum_s: float

    def __sub__(self, earlier: "Spread") -> "Spread":
        return Spread(self.count - earlier.count, self.sum_s - earlier.sum_s)

    @property
    def mean_s(self) -> float | None:
        return self.sum_s / self.count if self.count else None


class HubMetrics:
    """One reading of the pages of one hub instance, or of several as one."""

    def __init__(self, *texts: str) -> None:
        self._samples = [
            sample
            for text in texts
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]

    @classmethod
    def read(cls, *observers: HubClient) -> "HubMetrics":
        """Read the pages now.

        Args:
            observers: Somebody with the scope `read:metrics`, at each instance that counts.

        Raises:
            HubRefused: Somebody without.
        """
        texts = []
        for observer in observers:
            answer = observer.request("GET", "/hub/metrics")
            if answer.status_code != 200:
                raise HubRefused("GET /hub/metrics", answer.status_code, answer.reason or "")
            texts.append(answer.text)
        return cls(*texts)

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name that carry these labels; 0 of none."""
        return sum(self._values(name, labels))

    def spread(self, name: str, **labels: str) -> Spread:
        """Count and sum of a histogram over all series that carry these labels."""
        return Spread(self.total(f"{name}_count", **labels), self.total(f"{name}_sum", **labels))

    def require(self, name: str) -> None:
        """Fail when no hub has a metric of this name at all.

        Raises:
            ScenarioFailed: It has none.
        """
        if not any(sample.name == name for sample in self._samples):
            raise ScenarioFailed(f"no hub exports {name}", cure="testbed status")

    def _values(self, name: str, labels: dict[str, str]) -> Iterable[float]:
        for sample in self._samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                yield sample.value
