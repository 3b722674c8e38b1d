"""What a person does on the facility's pages, in a real browser."""

import contextlib
from collections.abc import Callable
from urllib.parse import urlsplit

import numpy
import pyotp
import zxingcpp
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from testbed import entry
from testbed.browser import Browser
from testbed.errors import ScenarioFailed
from testbed.secret import Secret
from testbed.site import Hub, Site

LOGIN_FORM = "#kc-form-login"
LOGIN_ERROR = "#input-error, #input-error-otp-code, .kc-feedback-text, .pf-v5-c-alert__title"
CODE = "#otp"
QR_CODE = "#kc-totp-secret-qr-code"
START = "#start, #spawn_form .feedback-container [type=submit]"
HUB_PAGE = "#start, #stop, #af-form"
CHOICE = '#af-form input[name="choice"]'

_NOTEBOOK = ".jp-NotebookPanel:not(.lm-mod-hidden)"
PANEL = "#af-session-panel"
_TAB = "#jp-main-dock-panel .lm-TabBar-tab.lm-mod-current .lm-TabBar-tabLabel"
CELL = f"{_NOTEBOOK} .jp-Cell .cm-content"

_LAB_TIMEOUT_S = 90
_RUNS = 3


def give_password(browser: Browser, name: str, password: Secret) -> None:
    """Fill in the login page."""
    browser.see(LOGIN_FORM)
    browser.fill("#username", name)
    browser.fill("#password", password)
    browser.leave("#kc-login")


def give_code(browser: Browser, code: str) -> None:
    """Fill in the page that asks for the second factor."""
    browser.fill(CODE, code)
    browser.leave("#kc-login")


def enrol(browser: Browser, code: Callable[[Secret], str]) -> Secret:
    """Read the QR code off the page as a telephone does, give its first code; returns the seed.

    Args:
        code: A code of that seed that was not used before.

    Raises:
        ScenarioFailed: No code can be read, or it is not for a one-time password.
    """
    grey, width, height = browser.pixels(QR_CODE)
    drawn = numpy.frombuffer(grey, dtype=numpy.uint8).reshape(height, width)
    found = zxingcpp.read_barcodes(drawn)
    if not found or not found[0].text.startswith("otpauth://totp/"):
        raise ScenarioFailed("the page shows no QR code that a telephone could read")
    totp = pyotp.parse_uri(found[0].text)
    if not isinstance(totp, pyotp.TOTP):
        raise ScenarioFailed("the QR code is not one for codes that change with the time")
    seed = Secret(totp.secret)
    browser.fill("#totp", code(seed))
    browser.leave("#saveTOTPBtn")
    return seed


def login_error(browser: Browser) -> str:
    """What the login page says is wrong."""
    return browser.see(LOGIN_ERROR).text


def spawn(browser: Browser, url: str, name: str, backend: str) -> None:
    """Start a server by the form, and wait until its JupyterLab is shown.

    Args:
        url: The hub's, without a slash at the end.
        backend: The first choice of it in the form is taken.
    """
    browser.open(f"{url}/hub/spawn/{name}")
    begin_spawn(browser, backend)
    wait_for_lab(browser, url)


def begin_spawn(browser: Browser, backend: str) -> None:
    """Fill in the form that is shown and send it."""
    browser.see(CHOICE)
    wanted = f'{CHOICE}[value^="{backend}/"]'
    if not browser.has(wanted):
        raise ScenarioFailed(f"the form offers nothing on {backend}")
    browser.click(wanted)
    browser.leave(START)


def wait_for_lab(browser: Browser, url: str) -> None:
    """Wait until JupyterLab is shown, at an address of that hub."""
    path = urlsplit(url).path
    browser.until(
        lambda: (
            urlsplit(browser.url).path.startswith(f"{path}/user/")
            and browser.has(".jp-Launcher, .jp-NotebookPanel")
        ),
        "JupyterLab",
        _LAB_TIMEOUT_S,
    )


def log_in(browser: Browser, site: Site, name: str) -> None:
    """Give a person's password and code, where a page led to the login."""
    person = site.person(name)
    give_password(browser, name, site.secret(person, {}))
    browser.see(CODE)
    give_code(browser, entry.code(site, person, {}))


def open_lab(browser: Browser, site: Site, hub: Hub, name: str) -> None:
    """Log a person in on the way to the JupyterLab of their running server."""
    browser.open(f"{site.entry_url(hub)}/user/{name}/lab?reset")
    log_in(browser, site, name)
    wait_for_lab(browser, site.entry_url(hub))


def show_panel(browser: Browser) -> None:
    """Click the time left until the session's panel is there: a pop-up may take a click."""

    def shown() -> bool:
        browser.click(".af-TimeLeft")
        return browser.shows(PANEL)

    browser.until(shown, "the panel after a click on the time left")


def run_first_cell(browser: Browser, source: str) -> str:
    """Make a notebook from the launcher, run one cell in it, and return what it printed."""
    if not browser.has(".jp-Launcher"):
        # JupyterLab came back with what was open last time.
        browser.open(browser.url.partition("/lab")[0] + "/lab?reset")
    browser.click('.jp-LauncherCard[data-category="Notebook"]')
    browser.see(CELL, 60).send_keys(source)
    return run_open_cell(browser)


def notebook_in_front(browser: Browser, name: str) -> bool:
    """Whether the notebook whose tab begins so is in front, with a cell that can be typed in.

    JupyterLab opens what was open last time, too, and may show that first.
    """
    try:
        label = browser.driver.find_element(By.CSS_SELECTOR, _TAB).text
    except WebDriverException:
        return False
    return label.startswith(name) and browser.shows(CELL)


def run_open_cell(browser: Browser) -> str:
    """Run the first cell of the notebook that is shown, and return what it printed."""
    browser.see(CELL, 60)
    # JupyterLab drops what is run before the kernel is there, and now and then a moment after
    # (4.6: 2 of 40 first cells): it is run again, as a person would, unless it is under way.
    browser.until(
        lambda: browser.has(f'{_NOTEBOOK} .jp-Notebook-ExecutionIndicator[data-status="idle"]'),
        "kernel that is ready",
        60,
    )

    def text(css: str) -> str:
        return browser.driver.find_element(By.CSS_SELECTOR, f"{_NOTEBOOK} {css}").text

    def output() -> str:
        return text(".jp-OutputArea-output pre")

    def asked() -> bool:
        # A notebook that has just been opened draws its cells anew, and what was seen is gone.
        with contextlib.suppress(WebDriverException):
            browser.driver.find_element(By.CSS_SELECTOR, CELL).send_keys(Keys.SHIFT, Keys.ENTER)
            return True
        return False

    for _ in range(_RUNS - 1):
        browser.until(asked, "cell that takes keys", 60)
        try:
            return browser.until(output, "output of the cell yet", 10)
        except ScenarioFailed:
            if "*" in text(".jp-InputPrompt"):
                break
    else:
        browser.until(asked, "cell that takes keys", 60)
    return browser.until(output, "output of the cell", 60)
