"""What the hub counts of itself, read from its Prometheus page."""

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
    """One reading of the hub's page."""

    def __init__(self, text: str) -> None:
        self._samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    @classmethod
    def read(cls, observer: HubClient) -> "HubMetrics":
        """Read the page now.

        Args:
            observer: Somebody with the scope `read:metrics`.

        Raises:
            HubRefused: Somebody without.
        """
        answer = observer.request("GET", "/hub/metrics")
        if answer.status_code != 200:
            raise HubRefused("GET /hub/metrics", answer.status_code, answer.reason or "")
        return cls(answer.text)

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name that carry these labels; 0 of none."""
        return sum(self._values(name, labels))

    def spread(self, name: str, **labels: str) -> Spread:
        """Count and sum of a histogram over all series that carry these labels."""
        return Spread(self.total(f"{name}_count", **labels), self.total(f"{name}_sum", **labels))

    def require(self, name: str) -> None:
        """Fail when the hub has no metric of this name at all.

        Raises:
            ScenarioFailed: It has none.
        """
        if not any(sample.name == name for sample in self._samples):
            raise ScenarioFailed(f"the hub exports no {name}", cure="testbed logs hub")

    def _values(self, name: str, labels: dict[str, str]) -> Iterable[float]:
        for sample in self._samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                yield sample.value
