"""A missing browser is installed where that may be done, else the cure is told."""

import pytest

from testbed import chromium, doctor
from testbed.errors import TestbedError


@pytest.fixture
def _no_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Chromium."""
    monkeypatch.setattr(chromium.shutil, "which", lambda _name: None)


@pytest.mark.usefixtures("_no_browser")
def test_elsewhere_the_cure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chromium.apt, "is_debian", lambda: False)
    with pytest.raises(TestbedError, match="chromium-driver"):
        chromium.ensure(print)


@pytest.mark.usefixtures("_no_browser")
def test_as_root_on_debian_its_packages_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before it is done; what is still missing after that is an error."""
    done: list[tuple[str, ...]] = []
    monkeypatch.setattr(chromium.apt, "is_debian", lambda: True)
    monkeypatch.setattr(chromium.os, "geteuid", lambda: 0)
    monkeypatch.setattr(chromium.apt, "update", lambda _say: done.append(()))
    monkeypatch.setattr(chromium.apt, "install", lambda names, _say: done.append(names))
    said: list[str] = []
    with pytest.raises(TestbedError, match="still not found"):
        chromium.ensure(said.append)
    assert done == [(), ("chromium", "chromium-driver")]
    assert "no Chromium" in said[0]


def test_both_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"google-chrome": "/opt/chrome"}
    monkeypatch.setattr(chromium.shutil, "which", there.get)
    assert chromium.find() is None
    there["chromedriver"] = "/opt/driver"
    assert chromium.find() == chromium.Chromium("/opt/chrome", "/opt/driver")


@pytest.mark.usefixtures("_no_browser")
def test_the_doctor_tells_of_it_without_alarm() -> None:
    """Everything but the browser scenarios works without."""
    check = doctor.browser()
    assert check.ok
    assert "no Chromium" in check.seen
