"""Headless Chromium, one for all tests of the pages in a process."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        pytest.skip(f"no Chromium: on the PATH is none of {', '.join(BROWSERS)}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        flags = ["--no-sandbox", "--headless=new", "--disable-background-networking"]
        found = driver.chromium.launch(executable_path=chromium, args=flags)
        yield found
        found.close()
