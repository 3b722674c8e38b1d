"""Alerts as Prometheus 2.53 tells them."""

import json
from pathlib import Path
from typing import Any

import pytest

from testbed.bed import Completed
from testbed.errors import TestbedError
from testbed.prometheus import Prometheus

ALERTS = Path(__file__).resolve().parents[1] / "data" / "exporter" / "alerts.json"


class SaidBed:
    """Has a Prometheus that says what the test wants."""

    def __init__(self, stdout: str, exit_code: int = 0) -> None:
        self._done = Completed(exit_code, stdout, "curl: (7) refused" if exit_code else "")

    def exec(self, *_: Any, **__: Any) -> Completed:
        return self._done

    def command(self, *words: str) -> str:
        return " ".join(["testbed", *words])


def said(text: str, exit_code: int = 0) -> Prometheus:
    return Prometheus(SaidBed(text, exit_code))  # type: ignore[arg-type]


def test_what_fires_comes_first() -> None:
    first, second = said(ALERTS.read_text()).alerts()
    assert (first.firing, second.firing) == (True, False)
    assert first.name == "CertificateNotBelieved"
    assert first.labels["service"] in first.summary
    assert "testbed restart keys" in first.cure
    assert "alertname" not in first.labels


def test_one_value_is_one() -> None:
    """Nothing is None; two are an error that names the expression."""
    answer: dict[str, Any] = {"status": "success", "data": {"result": []}}
    assert said(json.dumps(answer)).value("up") is None
    series = [{"metric": {"instance": name}, "value": [0, "1"]} for name in "ab"]
    answer["data"]["result"] = series[:1]
    assert said(json.dumps(answer)).value("up") == 1
    answer["data"]["result"] = series
    with pytest.raises(TestbedError, match="up: 2 values"):
        said(json.dumps(answer)).value("up")


def test_a_prometheus_that_is_silent_is_named() -> None:
    with pytest.raises(TestbedError, match="does not answer") as caught:
        said("", exit_code=7).alerts()
    assert "testbed logs prometheus" in str(caught.value)
