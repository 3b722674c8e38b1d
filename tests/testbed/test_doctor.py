"""The machine is judged by what it says of itself."""

import socket
from typing import Any

import pytest

from testbed import doctor, settings
from testbed.bed import Bed

MEMINFO = """\
MemTotal:       24684272 kB
MemFree:        22932100 kB
MemAvailable:   24115488 kB
"""


class EmptyEngine:
    """An engine with no container."""

    @property
    def api(self) -> "EmptyEngine":
        return self

    def containers(self, **_filters: Any) -> list[Any]:
        return []


def bed(port: int) -> Bed:
    made = Bed(settings.load("unit-test", port, environ={}))
    vars(made)["client"] = EmptyEngine()
    return made


def test_available_memory() -> None:
    assert doctor.available_mib(MEMINFO) == 24115488 // 1024
    assert doctor.available_mib("MemTotal: 1 kB") is None


def test_a_taken_port_is_seen_and_another_offered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        check = doctor.port(bed(taken))
        assert not check.ok
        assert f"127.0.0.1:{taken} is taken" in check.seen
        assert "testbed up --port" in check.cure
    assert doctor.port(bed(taken)).ok


def test_every_bad_check_has_a_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.engine, "tools", lambda: doctor.engine.Tools(None, None, None))
    check = doctor.plugins()
    assert not check.ok
    assert check.cure
