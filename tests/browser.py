"""A real browser without a window, for what a person sees on a page."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from tests.redis_server import free_port
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = (1100, 1000)

# In the page, and in what a toolbar keeps apart from its styles.
_FIND = """(selector) => [document, ...[...document.querySelectorAll("*")]
    .flatMap((one) => one.shadowRoot ?? [])]
    .flatMap((root) => [...root.querySelectorAll(selector)])"""


class Browser:
    """Chromium, and the questions that tests have for it."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Go to a page; what earlier pages complained of is forgotten."""
        self.complaints()
        self.driver.get(url)

    def texts(self, selector: str) -> list[str]:
        """Return what a person reads in every element that `selector` finds."""
        # At once: elements that are asked one by one may be replaced meanwhile.
        script = f"return ({_FIND})(arguments[0]).map((one) => one.innerText)"
        return list(self.run(script, selector))

    def style(self, selector: str, *names: str) -> list[str]:
        """Return how the first element that `selector` finds is drawn."""
        script = f"const style = getComputedStyle(({_FIND})(arguments[0])[0]);"
        script += "return arguments[1].map((name) => style.getPropertyValue(name))"
        return list(self.run(script, selector, names))

    def click(self, selector: str) -> None:
        """Click the first element that `selector` finds."""
        self.run(f"({_FIND})(arguments[0])[0].click()", selector)

    def run(self, script: str, *arguments: Any) -> Any:
        """Return what a script of the page returns."""
        return self.driver.execute_script(script, *arguments)

    def use_scheme(self, scheme: str) -> None:
        """Prefer `light` or `dark` pages, as a setting of the operating system does."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def complaints(self) -> list[str]:
        """Return what the console of the browser says since it was last asked."""
        return [entry["message"] for entry in self.driver.get_log("browser")]


@pytest.fixture(scope="session")
def _chromium() -> Iterator[Chrome]:
    driver = shutil.which("chromedriver")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if driver is None or program is None:
        pytest.fail("there is no browser: apt-get install chromium-driver", pytrace=False)
    options = ChromeOptions()
    options.binary_location = program
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument(f"--window-size={SIZE[0]},{SIZE[1]}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chromium = Chrome(options, ChromeService(driver, port=free_port()))
    try:
        chromium.set_page_load_timeout(PATIENCE)
        chromium.set_script_timeout(PATIENCE)
        yield chromium
    finally:
        chromium.quit()


@pytest.fixture
def browser(_chromium: Chrome) -> Iterator[Browser]:
    """Chromium with an empty jar of cookies."""
    browser = Browser(_chromium)
    browser.use_scheme("light")
    yield browser
    _chromium.delete_all_cookies()
    _chromium.get("about:blank")
