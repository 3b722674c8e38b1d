"""A run for a merge request and for a CI: the same failures, nothing that marks up."""

import xml.etree.ElementTree as ET
from pathlib import Path

from testbed import report
from tests.testbed.test_report import HOSTILE, run_of, spawn


def test_a_merge_request_and_a_ci_read_the_same(tmp_path: Path) -> None:
    """Markdown and JUnit beside the page: every failure in both, nothing that marks up."""
    results = run_of(
        spawn(1.0),
        spawn(2.0, outcome="failed", reason=f"held: {HOSTILE} token=abcdef123456"),
        spawn(outcome="bed_broke", reason="the hub is gone"),
        failures=["orphans: 1 job left"],
        figures={"failed": 1.0},
    )
    report.write(results, tmp_path)
    text = (tmp_path / "summary.md").read_text()
    assert text.startswith("### testbed bench spawn: Failed, 1 of 3 spawns ready")
    assert "- orphans: 1 job left" in text
    assert "<img" not in text
    assert "abcdef123456" not in text
    assert "| htcondor | n = 1, 1 failed, 1 broken off | 1.00 s |" in text
    suite = ET.fromstring((tmp_path / "junit.xml").read_bytes())  # noqa: S314 - our own
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors")}
    assert counts == {"tests": "4", "failures": "2", "errors": "1"}
    said = [element.get("message") for element in suite.iter("failure")]
    assert said[0].startswith("held: ")
    assert said[1] == "orphans: 1 job left"
    assert "abcdef123456" not in str(said)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "junit.xml", "report.html", "summary.md",
    ]  # fmt: skip


def test_a_run_that_went_well_has_no_failure(tmp_path: Path) -> None:
    results = run_of(spawn(1.0), spawn(1.2, backend="slurm", user="bob"))
    report.write(results, tmp_path)
    suite = ET.fromstring((tmp_path / "junit.xml").read_bytes())  # noqa: S314 - our own
    assert (suite.get("failures"), suite.get("errors")) == ("0", "0")
    assert [case.get("time") for case in suite.iter("testcase")] == ["1.000", "1.200", None]
    assert "Passed, all 2 spawns ready" in (tmp_path / "summary.md").read_text()
