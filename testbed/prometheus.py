"""What the testbed's Prometheus says, asked inside its own container: it listens nowhere else."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from testbed.bed import Bed
from testbed.errors import TestbedError

SERVICE = "prometheus"


@dataclass(frozen=True)
class Alert:
    """One alert that holds now.

    `state` is `pending` until it has held for as long as its rule wants, then `firing`.
    """

    name: str
    state: str
    severity: str
    summary: str
    cure: str
    labels: Mapping[str, str]

    @property
    def firing(self) -> bool:
        return self.state == "firing"


class Prometheus:
    """Queries of one testbed's Prometheus."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed

    def value(self, expression: str) -> float | None:
        """The value of an expression that gives one; None where it gives nothing.

        Raises:
            TestbedError: Prometheus does not answer, or there is more than one value.
        """
        found = list(self.values(expression).values())
        if len(found) > 1:
            raise TestbedError(f"{expression}: {len(found)} values where one is wanted")
        return found[0] if found else None

    def values(self, expression: str) -> dict[frozenset[tuple[str, str]], float]:
        """Labels → value, for each series of an expression's answer. Raises `TestbedError`."""
        return {
            frozenset(series["metric"].items()): float(series["value"][1])
            for series in self._ask(expression)["result"]
        }

    def alerts(self) -> tuple[Alert, ...]:
        """All alerts that hold now, those that fire first. Raises `TestbedError`."""
        found = (alert_of(said) for said in self._ask()["alerts"])
        return tuple(sorted(found, key=lambda alert: (not alert.firing, alert.name)))

    def _ask(self, *words: str) -> Any:
        done = self._bed.exec(SERVICE, ["ask-prometheus", *words], timeout_s=30)
        if not done.ok:
            raise TestbedError(
                "Prometheus does not answer",
                seen=(done.stdout + done.stderr)[-500:].strip(),
                cure=self._bed.command("logs", SERVICE),
            )
        return json.loads(done.stdout)["data"]


def alert_of(said: Mapping[str, Any]) -> Alert:
    """An alert of Prometheus' API (GET /api/v1/alerts)."""
    labels, words = dict(said["labels"]), said.get("annotations", {})
    return Alert(
        name=labels.pop("alertname"),
        state=said["state"],
        severity=labels.pop("severity", ""),
        summary=words.get("summary", ""),
        cure=words.get("cure", ""),
        labels=labels,
    )
