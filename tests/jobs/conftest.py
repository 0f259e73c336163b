"""Headless Chromium, one for all tests of the pages."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"no Chromium at {CHROMIUM}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        flags = ["--no-sandbox", "--headless=new", "--disable-background-networking"]
        found = driver.chromium.launch(executable_path=str(CHROMIUM), args=flags)
        yield found
        found.close()
