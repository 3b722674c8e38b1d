"""What is shipped for Prometheus, as far as files tell; scenarios ask promtool and Prometheus."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from testbed.cli import app

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "compose" / "prometheus"


def rules() -> Iterator[dict[str, Any]]:
    for file in sorted((FOLDER / "config/rules").glob("*.yaml")):
        for group in yaml.safe_load(file.read_text())["groups"]:
            yield from group["rules"]


ALERTS = [pytest.param(rule, id=rule["alert"]) for rule in rules() if "alert" in rule]
TESTS = [
    test
    for file in sorted((FOLDER / "tests").glob("*.yaml"))
    for test in yaml.safe_load(file.read_text())["tests"]
]


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_says_what_is_and_what_to_do(alert: dict[str, Any]) -> None:
    """With a command of the testbed's that exists, where it names one."""
    assert alert["labels"]["severity"] in {"page", "warn"}
    assert set(alert["annotations"]) == {"summary", "cure"}
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for command in re.findall(r"testbed ([a-z]+)", alert["annotations"]["cure"]):
        assert command in commands


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_tried_both_ways(alert: dict[str, Any]) -> None:
    """A test expects it to come, and one expects it not to (yet)."""
    expected = [
        bool(case.get("exp_alerts"))
        for test in TESTS
        for case in test.get("alert_rule_test", [])
        if case["alertname"] == alert["alert"]
    ]
    assert set(expected) == {True, False}


def test_every_recorded_figure_is_tried() -> None:
    """By itself, or by an alert that stands on it."""
    tried = str(TESTS) + str([rule["expr"] for rule in rules() if "alert" in rule])
    for rule in rules():
        assert "alert" in rule or rule["record"] in tried


def test_each_figure_is_on_the_page_of_monitoring() -> None:
    """docs/monitoring.md names every alert and every recorded figure."""
    page = (ROOT / "docs" / "monitoring.md").read_text()
    for rule in rules():
        assert f"`{rule.get('alert') or rule['record']}`" in page
