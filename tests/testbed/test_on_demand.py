"""Services on demand go again, and leave what they wrote, however they end."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from testbed import on_demand
from testbed.errors import TestbedError


class FailingBed:
    """Its second service does not come up, and the third was never made."""

    settings = None

    def __init__(self, folder: Path) -> None:
        self.report_dir = folder

    def up(self, *, only: Sequence[str]) -> None:
        raise TestbedError(f"{only[1]} did not come up")

    def logs(self, service: str) -> str:
        if service == "third":
            raise TestbedError("no container")
        return f"what {service} wrote\n"


def test_what_does_not_come_up_leaves_its_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the run's report or where it is asked for, before it is removed and after the last deed,
    whatever becomes of that."""
    bed: Any = FailingBed(tmp_path / "report")
    removed: list[tuple[list[str], bool]] = []
    log = tmp_path / "report" / "second.log"

    def remove(_bed: Any, names: Sequence[str]) -> None:
        removed.append(([*names], log.exists()))

    def fail(_bed: Any) -> None:
        assert not log.exists()
        raise TestbedError("jobs could not be ended")

    monkeypatch.setattr(on_demand, "Bed", lambda *_args, **_options: bed)
    monkeypatch.setattr(on_demand.teardown, "remove", remove)
    names = ["first", "second", "third"]
    with (
        pytest.raises(TestbedError, match="jobs could not be ended") as raised,
        on_demand.services(bed, "some", names, before_removal=fail),
    ):
        pytest.fail("it came up")
    assert "second did not come up" in str(raised.value.__context__)
    assert log.read_text() == "what second wrote\n"
    assert removed == [(names, True)]
    with (
        pytest.raises(TestbedError, match="second did not come up"),
        on_demand.services(bed, "some", names, logs=tmp_path / "asked"),
    ):
        pytest.fail("it came up")
    assert sorted(path.name for path in (tmp_path / "asked").iterdir()) == [
        "first.log",
        "second.log",
    ]
