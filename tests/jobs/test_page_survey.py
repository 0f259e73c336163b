"""The galaxies that the page shows, in headless Chromium: filters by label, order of columns with gaps, and labels."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.page import serving
from cubeprep.store import WindowStore
from jobs import explore, score
from jobs.config import ProjectConfig
from jobs.models import opening
from jobs.page.export import export_page
from jobs.page.server import make_app
from jobs.page.source import Source
from modeling.catalog import read_catalog
from modeling.labels.labels import Label, append, current, read
from tests.jobs.pages import opened
from tests.jobs.test_score import make_project

TOKEN = "a-secret"
OFFSETS = {3: 200.0, 1: 900.0, 8: -50.0}
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> ProjectConfig:
    config = make_project(tmp_path_factory.mktemp("shown"))
    score.run(config)
    return config


@pytest.fixture
def source(project: ProjectConfig) -> Source:
    """A catalog of which three galaxies have an offset, and three a label."""
    catalog, store = read_catalog(project.catalog_path), WindowStore.open(project.store_path)
    offsets = [OFFSETS.get(row, np.nan) for row in range(len(catalog.table))]
    changed = replace(catalog, table=catalog.table.assign(velocity_offset_kms=offsets))
    project.labels_path.unlink(missing_ok=True)
    names = catalog.table["plateifu"]
    labels = {names[0]: "merger", names[1]: "ring", names[2]: "merger"}
    append(project.labels_path, [Label(plateifu=name, label=label) for name, label in labels.items()])
    return explore.open_source(project, changed, store, opening.reopen_model(project, changed, store))


@pytest.fixture
def served(source: Source, browser: Any) -> Iterator[Any]:
    with serving(make_app(source, TOKEN), TOKEN) as address, opened(browser, address) as tab:
        yield tab


def shown(tab: Any) -> list[int]:
    """Rows of the galaxies in the gallery, in order."""
    return [int(card.get_attribute("data-row")) for card in tab.locator(".card").all()]


def test_galaxies_without_a_value_are_last_in_both_orders(served: Any) -> None:
    served.select_option("#order", "velocity_offset_kms")
    assert shown(served)[:4] == [8, 3, 1, 0]
    served.click("#reverse")
    assert shown(served)[:3] == [1, 3, 8]


def test_a_filter_by_label_is_kept_when_labels_change(served: Any, project: ProjectConfig) -> None:
    served.locator('[data-chip^="label:"]', has_text="merger").click()
    assert shown(served) == [0, 2]
    served.locator(".card").first.click()
    served.locator(".labels [data-label=interesting]").click()
    served.wait_for_selector(".labels [data-label=interesting][aria-pressed=true]")
    served.keyboard.press("Escape")
    served.locator('[data-chip="split:0"]').click()  # another filter, so that all are applied again
    served.locator('[data-chip="split:0"]').click()
    assert shown(served) == [2]
    assert served.locator('[data-chip^="label:"][aria-pressed=true]').inner_text().startswith("merger")


@pytest.mark.parametrize("text", ["5", "True", "1e3", "-inf"])
def test_a_number_is_no_label(served: Any, project: ProjectConfig, text: str) -> None:
    before = current(read(project.labels_path)).to_dict()
    served.locator(".card").first.click()
    served.fill(".labels input", text)
    served.keyboard.press("Enter")
    assert f"The label is {text}, expected a word" in served.locator("#message").inner_text()
    assert current(read(project.labels_path)).to_dict() == before


def test_nor_is_it_in_the_file(browser: Any, source: Source, tmp_path: Any) -> None:
    path = tmp_path / "explore.html"
    path.write_text(export_page(source, 1, lambda *_: None)[0])
    with opened(browser, path.as_uri()) as tab:
        tab.locator(".card").first.click()
        tab.fill(".labels input", "5")
        tab.keyboard.press("Enter")
        assert "The label is 5, expected a word" in tab.locator("#message").inner_text()
        assert tab.evaluate("Object.keys(localStorage).length") == 0
