"""Chromium and its driver on this machine: find them, or as root on Debian install them."""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from testbed import apt
from testbed.errors import TestbedError

Say = Callable[[str], None]

PACKAGES = ("chromium", "chromium-driver")
# Debian's names first; other distributions and Google's own builds have others.
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BY_HAND = (
    "install Chromium and its driver of the same version "
    f"(Debian: apt-get install {' '.join(PACKAGES)}), with both on PATH"
)


@dataclass(frozen=True)
class Chromium:
    """Where browser and driver are."""

    browser: str
    driver: str

    def version(self) -> str:
        """The browser's own word, as `Chromium 141.0.7390.54`."""
        done = subprocess.run(
            [self.browser, "--version"], capture_output=True, text=True, timeout=30, check=False
        )
        return " ".join(done.stdout.split()[:2]) or "no word on its version"


def find() -> Chromium | None:
    """Browser and driver on PATH; None unless both are there."""
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    driver = shutil.which("chromedriver")
    return Chromium(browser, driver) if browser and driver else None


def ensure(say: Say) -> Chromium:
    """Browser and driver, installed first where that is needed and may be done.

    Raises:
        TestbedError: They are missing and cannot be installed here, with what to do by hand.
    """
    if found := find():
        return found
    if not (apt.is_debian() and os.geteuid() == 0):
        raise TestbedError("no Chromium with its driver on PATH", cure=BY_HAND)
    say("no Chromium: installing Debian's packages (once, for browser scenarios)")
    apt.update(say)
    apt.install(PACKAGES, say)
    if found := find():
        return found
    raise TestbedError("Chromium was installed and is still not found", cure=BY_HAND)
