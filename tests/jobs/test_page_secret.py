"""The secret of a served page in headless Chromium: who has it, and how the page says that it has none."""

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.page import serving
from jobs.config import ProjectConfig
from jobs.page.server import make_app
from tests.jobs.test_page_server import open_source

TOKEN = "a-secret"
READY, WITHOUT = "html[data-ready=true]", "#message.bad"
pytestmark = pytest.mark.browser


@pytest.fixture
def address(project: ProjectConfig) -> Iterator[str]:
    with serving(make_app(open_source(project), TOKEN), TOKEN) as address:
        yield address


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    made = browser.new_context()
    yield made
    made.close()


def test_the_secret_leaves_the_address_and_is_kept_without_a_cookie(context: Any, address: str) -> None:
    tab = context.new_page()
    tab.goto(address)
    tab.wait_for_selector(READY)
    assert tab.url == address.partition("#")[0]
    tab.reload()
    tab.wait_for_selector(READY)
    other = context.new_page()  # as a link opened in a new tab
    other.goto(f"{tab.url}#galaxy/1000-1901")
    other.wait_for_selector(READY)
    assert context.cookies() == []


def test_without_the_secret_the_page_says_where_it_is(context: Any, address: str) -> None:
    tab = context.new_page()
    tab.goto(address.partition("#")[0])
    tab.wait_for_selector(WITHOUT)
    assert tab.locator(WITHOUT).inner_text().startswith("Open the address that `cubescout explore --serve` printed")
    assert tab.locator(".card").count() == 0


def test_an_address_of_a_new_server_is_taken_by_an_open_page(context: Any, address: str) -> None:
    tab = context.new_page()
    tab.goto(address)
    tab.wait_for_selector(READY)
    tab.goto(address.replace(TOKEN, "another"))  # differs in its fragment alone: nothing is loaded unless the page does
    tab.wait_for_selector(WITHOUT)
    tab.goto(address)
    tab.wait_for_selector(READY)


def test_an_address_that_is_no_text_does_no_harm(context: Any, address: str) -> None:
    tab = context.new_page()
    tab.goto(address)
    tab.wait_for_selector(READY)
    tab.goto(f"{tab.url}#galaxy/100%")
    tab.reload()
    tab.wait_for_selector(READY)
    assert "100%" in tab.locator("#galaxy").inner_text()
