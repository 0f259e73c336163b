"""Headless Chromium, one for all tests of the pages in a process, and catalogs without UMAP."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from modeling.latents import umap_map

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


@pytest.fixture(scope="package", autouse=True)
def maps_without_umap() -> Iterator[None]:
    """Maps by PCA, as of few galaxies: UMAP takes ten seconds to compile, and has its own tests and `test_path`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(umap_map, "MIN_UMAP", 1000)
        yield
