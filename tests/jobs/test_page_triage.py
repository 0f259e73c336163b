"""Crosses on the page's maps, in headless Chromium: spaxels of which triage masked samples."""

from collections.abc import Iterator
from typing import Any

import pytest
import zarr

from benchmarks.page import serving
from jobs import explore, score
from jobs.config import ProjectConfig
from jobs.page.server import make_app
from modeling.catalog import read_catalog
from modeling.scoring.attribution import attribution_path
from tests.jobs.pages import opened
from tests.jobs.test_page_server import open_source
from tests.jobs.test_score import make_project

TOKEN = "a-secret"
LINE, Y, X = 3, 4, 9
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> ProjectConfig:
    """A catalog of whose most unusual galaxy half of one spaxel's samples of one line were masked, and no others."""
    config = make_project(tmp_path_factory.mktemp("triaged"))
    score.run(config)
    group: Any = zarr.open_group(attribution_path(config.catalog_path), mode="r+")
    best = read_catalog(config.catalog_path).table["plateifu"][0]
    shares = 0 * group["triaged"][...]
    shares[group["plateifu"][...].tolist().index(best), LINE, Y, X] = 0.5
    group["triaged"][...] = shares
    explore.run(config)
    return config


@pytest.fixture(scope="module", params=["served", "file"])
def address(request: pytest.FixtureRequest, project: ProjectConfig) -> Iterator[str]:
    if request.param == "file":
        yield project.page_path.absolute().as_uri()
        return
    with serving(make_app(open_source(project), TOKEN), TOKEN) as served:
        yield served


def test_a_cross_marks_a_spaxel_whose_samples_triage_masked(browser: Any, address: str) -> None:
    with opened(browser, address) as tab:
        tab.locator(".card").first.click()
        tab.locator(f"[data-line='{LINE}']").click()
        crossed = tab.locator(".panel:has(.crosses) figcaption b").all_inner_texts()
        assert crossed == ["Residual", "Misfit", "Attribution", "Attribution"]
        assert tab.locator(".crosses path").first.get_attribute("d") == f"M{X} {15 - Y}l1 1m0-1l-1 1"
        assert "samples were masked as artefacts" in tab.locator(".large .note").inner_text()
        tab.locator(f"[data-line='{LINE - 1}']").click()
        assert tab.locator(".panel:has(.crosses) figcaption").all_inner_texts() == ["Attribution\nall lines, σ"]
        tab.keyboard.press("j")
        tab.wait_for_selector(".galaxy-head .rank:text('2')")
        assert tab.locator(".crosses").count() == 0
        assert "artefacts" not in tab.locator(".large .note").inner_text()
