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


@contextmanager
def opened(browser: Any, address: str, **context: Any) -> Iterator[Any]:
    """The page in a tab without a network but its own server's; any error or foreign request fails the test."""
    origin = address.partition("/?")[0] if address.startswith("http") else ""
    allowed = (origin, f"blob:{origin}", "data:") if origin else (address, "blob:", "data:")
    made = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"} | context)
    tab = made.new_page()
    complaints: list[str] = []
    tab.on(
        "console",
        lambda m: complaints.append(m.text) if m.type in ("error", "warning") and MADE not in m.text else None,
    )
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda r: None if r.url.startswith(allowed) else complaints.append(r.url))
    if not origin:
        made.set_offline(True)
    tab.goto(address)
    tab.wait_for_selector("html[data-ready=true]")
    yield tab
    made.close()
    assert complaints == []
