"""Helpers for tests of the page: messages of an exported file, and a browser tab in which nothing may fail."""

import base64
import gzip
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jobs.page.pack import unpack

HELD = re.compile(r'<script type="application/octet-stream" id="message-([^"]+)">([A-Za-z0-9+/=]*)</script>')
MADE = "status of 503"  # an answer that a test makes


def messages_of(page: str) -> dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """Metadata and arrays of each message that an exported page holds."""
    return {name: unpack(gzip.decompress(base64.b64decode(text))) for name, text in HELD.findall(page)}


def provenance_of(path: Path) -> dict[str, Any]:
    """The provenance that an exported page shows."""
    provenance = messages_of(path.read_text())["survey"][0]["provenance"]
    assert isinstance(provenance, dict)
    return provenance


def until(tab: Any, expression: str, timeout_s: float = 10) -> None:
    """Waits for a JavaScript expression to be true. The page's policy forbids Playwright's own polling."""
    end = time.monotonic() + timeout_s
    while not tab.evaluate(expression):
        assert time.monotonic() < end, f"never true: {expression}"
        tab.wait_for_timeout(30)


def places(tab: Any, number: int) -> list[tuple[float, float]]:
    """Where each of a number of galaxies is drawn, in pixels of the tab."""
    tab.wait_for_selector("#map[data-ready=true]")
    found = tab.evaluate(
        """(count) => {
      const map = document.getElementById("map"), box = map.getBoundingClientRect();
      return Array.from({ length: count }, (_, row) => map.where(row)).map(([x, y]) => [box.left + x, box.top + y]);
    }""",
        number,
    )
    return [(x, y) for x, y in found]


class Tab:
    """A tab without a network but that of one page's own server; any error or foreign request fails the test."""

    def __init__(self, browser: Any, address: str, *, answered: tuple[str, ...] = (), **context: Any) -> None:
        """Opens nothing yet; addresses that begin as those `answered` are requested, and the test answers them."""
        origin = address.partition("/#")[0] if address.startswith("http") else ""
        own = (*answered, *((origin, f"blob:{origin}") if origin else (address, "blob:")))
        self._address, self._complaints = address, list[str]()
        self._view = {"viewport": {"width": 1280, "height": 900}} | context
        self._made = browser.new_context(**self._view, reduced_motion="reduce")
        self._made.set_offline(not origin)
        self.page = self._made.new_page()
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self._complaints.append(str(error)))
        self.page.on("request", lambda r: r.url.startswith((*own, "data:")) or self._complaints.append(r.url))

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning") and MADE not in message.text:
            self._complaints.append(message.text)

    @contextmanager
    def visit(self) -> Iterator[Any]:
        """The page, loaded anew, as a browser that was never there shows it."""
        self.page.set_viewport_size(self._view["viewport"])
        self.page.emulate_media(color_scheme="null")
        self.page.goto(self._address)
        self.page.wait_for_selector("html[data-ready=true]")
        yield self.page
        self.page.evaluate("localStorage.clear()")
        self.page.goto("about:blank")  # else the next visit would only follow the address's fragment
        complaints, self._complaints = self._complaints, []
        assert complaints == []

    def close(self) -> None:
        self._made.close()


@contextmanager
def opened(browser: Any, address: str, **context: Any) -> Iterator[Any]:
    """The page in a tab of its own."""
    tab = Tab(browser, address, **context)
    with tab.visit() as page:
        yield page
    tab.close()
