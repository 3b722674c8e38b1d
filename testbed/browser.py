"""A real browser without a window: Chromium with a profile of its own, for one person."""

import base64
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.common.exceptions import (
    NoSuchElementException,
    StaleElementReferenceException,
    TimeoutException,
    WebDriverException,
)
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from testbed import loopback
from testbed.chromium import Chromium
from testbed.errors import ScenarioFailed, TestbedError

T = TypeVar("T")

_WINDOW = "1280,900"
_NOT_YET = (NoSuchElementException, StaleElementReferenceException)


class Browser:
    """Chromium at work. Every wait has an end; every page can be kept as a picture."""

    def __init__(
        self,
        chromium: Chromium,
        *,
        trusted: Iterable[str] = (),
        pictures: Path | None = None,
    ) -> None:
        """Start it with an empty profile.

        Args:
            trusted: Public keys (`spki`) whose certificates this profile believes. A CA of
                this machine's own is so believed here and nowhere else: nothing is added to
                the person's or the system's store, and any other bad certificate still fails.
            pictures: Where `picture` keeps what is seen.

        Raises:
            TestbedError: It does not start.
        """
        self._profile = tempfile.TemporaryDirectory(prefix="af-testbed-browser-")
        self._pictures = pictures
        self._count = 0
        options = webdriver.ChromeOptions()
        options.binary_location = chromium.browser
        keys = ",".join(trusted)
        for argument in (
            "--headless=new",
            f"--user-data-dir={self._profile.name}",
            f"--window-size={_WINDOW}",
            "--no-first-run",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            # This machine's proxy settings must not change what is judged.
            "--no-proxy-server",
            *([f"--ignore-certificate-errors-spki-list={keys}"] if keys else []),
            # A page that scrolls smoothly is never still while one tries again to click in it.
            "--force-prefers-reduced-motion",
            # Chromium's sandbox does not start for root.
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
        ):
            options.add_argument(argument)
        options.page_load_strategy = "eager"
        try:
            self.driver = webdriver.Chrome(options=options, service=Service(chromium.driver))
        except WebDriverException as error:
            self._profile.cleanup()
            raise TestbedError(
                "Chromium does not start", seen=str(error.msg)[-600:], cure="testbed doctor"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it and forget its profile."""
        self.driver.quit()
        self._profile.cleanup()

    # Looking

    @property
    def url(self) -> str:
        """The address that is shown."""
        return str(self.driver.current_url)

    @property
    def text(self) -> str:
        """What a person can read on the page."""
        return str(self.driver.find_element(By.TAG_NAME, "body").text)

    def has(self, css: str) -> bool:
        """Whether something of that kind is on the page now."""
        return bool(self.driver.find_elements(By.CSS_SELECTOR, css))

    def shows(self, css: str) -> bool:
        """Whether a person sees something of that kind now."""
        return self._shown(css) is not None

    def cookie(self, name: str) -> str:
        """The value of a cookie of the page that is shown; empty if there is none."""
        found = self.driver.get_cookie(name)
        return str(found["value"]) if found else ""

    def picture(self, name: str) -> None:
        """Keep what is seen now as `NN-name.png`."""
        if self._pictures:
            self._count += 1
            self._pictures.mkdir(parents=True, exist_ok=True)
            self.driver.save_screenshot(str(self._pictures / f"{self._count:02d}-{name}.png"))

    def pixels(self, css: str) -> tuple[bytes, int, int]:
        """A picture on the page as it was drawn: grey values row by row, width, height."""
        drawn: dict[str, Any] = self.driver.execute_script(_PIXELS, self.see(css))
        return base64.b64decode(drawn["grey"]), int(drawn["width"]), int(drawn["height"])

    # Waiting

    def until(self, check: Callable[[], T | None], what: str, timeout_s: float = 30) -> T:
        """Wait until `check` gives something true, and return that.

        Raises:
            ScenarioFailed: Not in time; with the page's address and its first words.
        """

        def tried(_driver: object) -> T | None:
            try:
                return check()
            except _NOT_YET:
                return None

        try:
            found: T = WebDriverWait(self.driver, timeout_s, poll_frequency=0.05).until(tried)  # type: ignore[assignment] # it returns only what is true
        except TimeoutException:
            self.picture("not-" + "".join(c if c.isalnum() else "-" for c in what))
            raise ScenarioFailed(
                f"the browser shows no {what} after {timeout_s:g} s",
                seen=f"{self.url}: {' '.join(self.text.split())[:300]}",
            ) from None
        return found

    def see(self, css: str, timeout_s: float = 30) -> WebElement:
        """Wait until something of that kind is shown, and return it."""
        return self.until(lambda: self._shown(css), css, timeout_s)

    def _shown(self, css: str) -> WebElement | None:
        for element in self.driver.find_elements(By.CSS_SELECTOR, css):
            if element.is_displayed():
                return element
        return None

    def arrive(self, prefix: str, timeout_s: float = 30) -> None:
        """Wait until the address begins with this."""
        self.until(lambda: self.url.startswith(prefix), f"page at {prefix}", timeout_s)

    # Doing

    def open(self, url: str) -> None:
        """Go to an address, as typed."""
        try:
            self.driver.get(url)
        except WebDriverException as error:
            raise ScenarioFailed(f"no page at {url}", seen=str(error.msg)) from error

    def click(self, css: str, timeout_s: float = 30) -> None:
        """Click what is shown."""

        def clicked() -> bool:
            element = self._shown(css)
            if element is None:
                return False
            try:
                element.click()
            except WebDriverException:  # something lies over it still
                return False
            return True

        self.until(clicked, f"{css} that can be clicked", timeout_s)

    def leave(self, css: str, timeout_s: float = 30) -> None:
        """Click what is shown, and wait until this page has given way to another."""
        self.driver.execute_script("window.left = false")
        self.click(css, timeout_s)

        def gone() -> bool:
            try:
                return bool(self.driver.execute_script("return window.left === undefined"))
            except WebDriverException:  # between two pages
                return False

        self.until(gone, f"page after {css}", timeout_s)

    def fill(self, css: str, value: str) -> None:
        """Type into an empty field."""
        field = self.see(css)
        field.clear()
        field.send_keys(value)

    def fetch(self, method: str, path: str) -> int:
        """Ask from within the page, as its own scripts do; returns the status."""
        done = self.driver.execute_async_script(_FETCH, method, path)
        return int(done)


def spki(url: str, *, verify: str | bool = True) -> str:
    """The public key that a server shows, as Chromium's list of believed keys wants it.

    The server's certificate is checked here against the site's CA first. Its key is taken,
    and not the CA's, because Chromium looks only at the certificates that a server sends.

    Args:
        url: Any https address of the server.

    Raises:
        TestbedError: No connection, or a certificate that the CA did not make.
    """
    parts = urlsplit(url)
    try:
        with loopback.connect_tls(parts.hostname or "", parts.port or 443, verify=verify) as tls:
            certificate = tls.getpeercert(binary_form=True) or b""
    except OSError as error:
        raise TestbedError(
            f"no believable TLS at {url}", seen=str(error), cure="testbed up; testbed logs proxy"
        ) from error
    return base64.b64encode(hashlib.sha256(public_key_info(certificate)).digest()).decode()


def public_key_info(certificate: bytes) -> bytes:
    """The SubjectPublicKeyInfo of a DER certificate.

    Source: RFC 5280, section 4.1: TBSCertificate is version [0], serial, signature, issuer,
    validity, subject, subjectPublicKeyInfo, …
    """
    _, begin, end = _der(certificate, 0)
    _, begin, end = _der(certificate, begin)
    parts = []
    while begin < end:
        tag, _, after = _der(certificate, begin)
        parts.append((tag, certificate[begin:after]))
        begin = after
    has_version = parts[0][0] == 0xA0
    return parts[6 if has_version else 5][1]


def _der(data: bytes, at: int) -> tuple[int, int, int]:
    """Tag, begin and end of the content of the element that begins at `at`."""
    tag, length, begin = data[at], data[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        length = int.from_bytes(data[begin : begin + count])
        begin += count
    return tag, begin, begin + length


_PIXELS = """
const image = arguments[0], canvas = document.createElement("canvas");
canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
const context = canvas.getContext("2d");
context.drawImage(image, 0, 0);
const rgba = context.getImageData(0, 0, canvas.width, canvas.height).data;
let grey = "";
for (let i = 0; i < rgba.length; i += 4) grey += String.fromCharCode(rgba[i]);
return {grey: btoa(grey), width: canvas.width, height: canvas.height};
"""

_FETCH = """
const done = arguments[2];
fetch(arguments[1], {method: arguments[0], redirect: "manual", credentials: "same-origin"})
  .then(answer => done(answer.status), () => done(0));
"""
