"""A real browser: Debian's Chromium, without a window."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from support.waiting import until


@contextmanager
def browser(*, width: int = 1000, javascript: bool = True) -> Iterator[webdriver.Chrome]:
    """Start Chromium, and end it afterwards. It needs the packages chromium and chromium-driver."""
    options = Options()
    options.binary_location = shutil.which("chromium") or "chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    if not javascript:
        options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver") or "chromedriver"))
    try:
        driver.set_page_load_timeout(60)
        # A window cannot be narrower than 500 pixels, but a page can be shown as on a narrower screen.
        metrics = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        yield driver
    finally:
        driver.quit()


def shows(driver: webdriver.Chrome, pattern: str) -> None:
    """Wait until the page has such a text."""

    def found() -> bool:
        try:
            return re.search(pattern, driver.find_element(By.TAG_NAME, "body").text) is not None
        except (NoSuchElementException, StaleElementReferenceException):  # of a page that is being replaced
            return False

    until(found, 30, pattern)
