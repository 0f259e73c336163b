"""The page: what it holds, that it loads nothing, that hostile names stay text, and how it behaves in a browser."""

import base64
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cubeprep.store import WindowStore
from jobs import explore, score
from jobs.config import ProjectConfig
from jobs.models import opening
from jobs.page.cards import top_shares
from jobs.page.figures import (
    SPECTRUM_HEIGHT,
    band_path,
    flux_limits,
    line_maps,
    map_image,
    step_path,
    summed_spectra,
)
from jobs.page.render import number
from modeling.catalog import read_catalog, write_catalog
from modeling.network.autoencoder import make_model
from modeling.network.config import ModelConfig
from modeling.network.inference import reconstruct
from modeling.scoring.config import ScoreConfig
from modeling.training.folds import fold_of
from tests.jobs.test_score import make_project, save_tiny_model
from tests.synthetic import synthetic_store

HOSTILE = "<img src=x onerror=\"document.title='pwned'\">'</script><script>document.title='pwned'</script>"
NUM_CARDS = 3


class Elements(HTMLParser):
    """Collects elements and their attributes; what a script or style holds is not markup."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def attributes(self, *names: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.found for name in names if name in attrs]

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.found if name == tag]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> ProjectConfig:
    config = make_project(tmp_path_factory.mktemp("explore"), num_galaxies=NUM_CARDS)
    score.run(config)
    assert explore.run(config) == 0
    return config


@pytest.fixture(scope="module")
def page(project: ProjectConfig) -> str:
    return project.page_path.read_text()


def test_a_card_for_each_of_the_most_unusual_galaxies(project: ProjectConfig, page: str) -> None:
    elements = Elements(page)
    cards = [attrs["id"] for attrs in elements.of("article")]
    assert cards == [f"rank-{rank}" for rank in range(1, NUM_CARDS + 1)]
    for name in read_catalog(project.catalog_path).table["plateifu"].head(NUM_CARDS):
        assert len(re.findall(rf"</span> {name}</h2>", page)) == 1


def test_cards_say_why_in_words_and_where(project: ProjectConfig, page: str) -> None:
    rows = read_catalog(project.catalog_path).table.head(NUM_CARDS)
    reasons = [text for name in ("reason_1", "reason_2", "reason_3") for text in rows[name] if text]
    assert len(reasons) > NUM_CARDS
    assert all(f"<li>{text}</li>" in page for text in reasons)
    assert page.count("Where it is unusual") == NUM_CARDS
    for code in rows["triage"]:
        assert not code or f"Triage: {code}" in page


def test_galaxies_are_shown_as_the_models_that_never_saw_them_reconstruct_them(project: ProjectConfig) -> None:
    store, catalog = WindowStore.open(project.store_path), read_catalog(project.catalog_path)
    networks = [make_model(ModelConfig(latent_dim=4).arguments(store.shape), seed) for seed in range(4)]
    model = replace(opening.reopen_model(project, catalog, store), network=networks[0], folds=tuple(networks[1:]))
    row = catalog.table.iloc[0]
    windows = store.read_galaxy(row["plateifu"])
    arrays = windows.flux, windows.ivar, windows.mask
    fold = fold_of(row["mangaid"], 3)
    for num_left_out, unseen in ((1, [fold]), (2, [fold, (fold - 1) % 3])):
        shown = opening.as_scored(catalog, replace(model, num_left_out=num_left_out), "cpu")(windows)
        expected = np.mean([reconstruct(networks[1 + i], *arrays) for i in unseen], axis=0)
        np.testing.assert_allclose(shown, expected, rtol=1e-5)
    alone = opening.as_scored(catalog, replace(model, folds=()), "cpu")(windows)
    np.testing.assert_allclose(alone, reconstruct(networks[0], *arrays), rtol=1e-5)


def test_the_page_is_kept_beside_the_registered_catalog(project: ProjectConfig) -> None:
    from modeling.tracking.runs import make_client

    client = make_client(project.tracking_uri)
    version = client.get_model_version_by_alias(project.tracking.catalog_name, "latest")
    assert [item.path for item in client.list_artifacts(version.run_id, "page")] == ["page/explore.html"]


def test_the_page_loads_nothing(page: str) -> None:
    elements = Elements(page)
    references = elements.attributes("src", "href", "srcset", "data", "action", "poster", "xlink:href")
    assert references
    assert all(text.startswith(("#", "data:")) for text in references), references
    assert "connect-src 'none'" in page
    assert not re.search(r"@import|url\((?!data:)", page.partition("<style>")[2].partition("</style>")[0])
    assert not [attrs for attrs in elements.of("link") if attrs.get("rel") != "icon"]


def test_links_lead_to_elements_of_the_page(page: str) -> None:
    elements = Elements(page)
    ids = elements.attributes("id")
    assert len(set(ids)) == len(ids)
    assert {text[1:] for text in elements.attributes("href") if text.startswith("#")} <= set(ids)


def test_pictures_have_an_alternative_text_and_are_small(project: ProjectConfig, page: str) -> None:
    pictures = Elements(page).of("img")
    num_lines = WindowStore.open(project.store_path).shape[0]
    assert len(pictures) >= NUM_CARDS * num_lines * 4
    assert all("alt" in attrs for attrs in pictures)
    maps = [attrs for attrs in pictures if attrs.get("class") == "map"]
    assert all(attrs["alt"] for attrs in maps)
    assert max(len(attrs["src"] or "") for attrs in pictures) < 8000


def test_the_page_tells_the_survey_the_model_and_the_trap(project: ProjectConfig, page: str) -> None:
    provenance = read_catalog(project.catalog_path).provenance
    for text in (provenance["store"]["identity"], provenance["model"]["digest"], provenance["code_version"]):
        assert text in page
    assert "made so" in page  # the reason of the rejected galaxy
    assert "Spearman" in page
    assert "vacuum" in page


def test_hostile_names_and_reasons_stay_text(project: ProjectConfig, tmp_path: Path) -> None:
    catalog = read_catalog(project.catalog_path)
    table = catalog.table.assign(mangaid=HOSTILE, split=HOSTILE)
    provenance = catalog.provenance | {"code_version": HOSTILE}
    store = WindowStore.open(project.store_path)
    store.galaxies = lambda: pd.DataFrame(  # type: ignore[method-assign]
        {"plateifu": [HOSTILE], "status": ["rejected"], "code": [HOSTILE], "reason": [HOSTILE]}
    )
    path = tmp_path / "catalog.parquet"
    write_catalog(path, table, catalog.columns, provenance)
    catalog = read_catalog(path)
    cards = explore.make_cards(project, catalog, store, opening.reopen_model(project, catalog, store))
    named = [card.row | {"plateifu": HOSTILE} for card in cards]
    cards = [type(card)(**(vars(card) | {"row": row})) for card, row in zip(cards, named, strict=True)]
    found = explore.render_page(
        type(catalog)(table.assign(plateifu=HOSTILE), catalog.columns, provenance), cards, store, project.explore
    )
    assert HOSTILE not in found
    assert "<script>document" not in found
    assert "&lt;script&gt;document" in found
    assert not [attrs for _, attrs in Elements(found).found if "onerror" in attrs]


def test_a_catalog_of_another_store_or_model_is_refused(tmp_path: Path) -> None:
    config = make_project(tmp_path)
    with pytest.raises(ValueError, match="cubescout score"):
        explore.run(config)
    score.run(config)
    catalog = read_catalog(config.catalog_path)
    other = catalog.provenance | {"store": catalog.provenance["store"] | {"identity": "other-store"}}
    write_catalog(config.catalog_path, catalog.table, catalog.columns, other)
    with pytest.raises(ValueError, match=r"another store \(identity other-store\).*synthetic-0"):
        explore.run(config)
    write_catalog(config.catalog_path, catalog.table, catalog.columns, catalog.provenance)
    import torch

    from modeling.network.checkpoint import load_model, save_model

    folder = save_tiny_model(tmp_path / "model")
    model, metadata = load_model(folder)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    save_model(folder, model, metadata)
    with pytest.raises(ValueError, match="no longer the model"):
        explore.run(config)
    assert not config.page_path.exists()


def test_two_galaxies_with_one_sample_a_line_have_a_page_that_says_so(tmp_path: Path) -> None:
    shape = (3, 1, 8)
    synthetic_store(tmp_path / "windows.zarr", num_train=2, num_validation=1, shape=shape)
    model = save_tiny_model(tmp_path / "model", shape)
    config = ProjectConfig(workspace=tmp_path, score=ScoreConfig(model=str(model)))
    score.run(config)
    explore.run(config)
    page = config.page_path.read_text()
    assert [attrs["id"] for attrs in Elements(page).of("article")] == ["rank-1", "rank-2"]
    assert "too few galaxies for UMAP" in page
    assert "one sample a line" in page
    assert "undefined" in page  # Spearman of two galaxies


def windows_of_one() -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    shape = (2, 3, 4, 4)
    flux, ivar = rng.normal(5, 1, shape), rng.uniform(1, 2, shape)
    mask = np.zeros(shape, np.uint8)
    mask[0, :, 0, 0] = 1
    mask[1, 2] = 2
    return flux, ivar, mask, flux - 2


def test_maps_and_spectra_have_the_analytic_values_and_ignore_what_is_masked() -> None:
    flux, ivar, mask, model = windows_of_one()
    for array in (flux, ivar, model):
        array[mask > 0] = 1e30
    maps = line_maps(flux, ivar, mask, model)
    spectra = summed_spectra(flux, ivar, mask, model)
    assert np.isnan([getattr(maps, name)[0, 0, 0] for name in ("flux", "model", "sigma", "chi2")]).all()
    np.testing.assert_allclose(maps.flux[0, 1, 1], flux[0, :, 1, 1].mean())
    np.testing.assert_allclose(maps.flux[1, 1, 1], flux[1, :2, 1, 1].mean())
    np.testing.assert_allclose(maps.sigma[0, 1, 1], 2 * 3 / np.sqrt((1 / ivar[0, :, 1, 1]).sum()))
    np.testing.assert_allclose(maps.chi2[0, 1, 1], (4 * ivar[0, :, 1, 1]).mean())
    assert np.isnan(spectra.flux[1, 2])
    np.testing.assert_allclose(spectra.flux[0] - spectra.model[0], 2 * 15)
    np.testing.assert_allclose(spectra.error[1, 0], np.sqrt((1 / ivar[1, 0]).sum()))


def test_a_map_is_drawn_right_way_up_and_transparent_where_masked() -> None:
    values = np.array([[0.0, 1.0], [np.nan, 5.0]])
    uri = map_image(values, 0, 1, "viridis")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGBA"))
    assert pixels.shape == (2, 2, 4)
    assert tuple(pixels[1, 0, :3]) == (68, 1, 84)  # y = 0 at the bottom; viridis begins with this purple
    assert tuple(pixels[1, 1]) == tuple(pixels[0, 1]) == (253, 231, 36, 255)  # the last colour, also for what is above
    assert pixels[0, 0, 3] == 0


def test_scales_are_defined_for_any_map() -> None:
    assert flux_limits(np.full((2, 2), np.nan)) == (0.0, 1.0)
    assert flux_limits(np.zeros((2, 2))) == (0.0, 1.0)
    low, high = flux_limits(np.array([-2.0, 4.0]))
    assert low < 0 < high


def test_paths_of_spectra_break_where_there_is_nothing() -> None:
    assert step_path(np.array([0.0, 1.0]), 0, 1) == f"M0.0 {SPECTRUM_HEIGHT}H50.0L50.0 0.0H100.0"
    assert step_path(np.array([1.0, np.nan, 0.0, np.nan]), 0, 1).count("M") == 2
    assert step_path(np.full(3, np.nan), 0, 1) == ""
    assert band_path(np.array([0.5, np.nan]), np.array([0.5, 1.0]), 0, 1) == "M0.0 0.0H50.0V56.0H0.0Z"


def test_top_shares_are_in_order_and_know_what_is_usual() -> None:
    found = top_shares({"share_a": 0.1, "share_b": 0.9, "share_c": np.nan}, {"a": 0.5, "b": 0.4, "c": 0.1})
    assert [(item.name, item.share, item.usual) for item in found] == [("b", 0.9, 0.4), ("a", 0.1, 0.5), ("c", 0, 0.1)]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1.2345, "1.23"), (-0.01234, "−0.0123"), (123456, "123456"), (1.5e-17, "1.50 × 10⁻¹⁷"), (np.nan, "–")],
)
def test_numbers_for_the_eye(value: float, text: str) -> None:
    assert number(value) == text


@pytest.fixture
def tab(browser: Any, project: ProjectConfig) -> Iterator[Any]:
    """The page, open; a console error, a script error or a request to anywhere fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else complaints.append(r.url))
    opened.goto(project.page_path.absolute().as_uri())
    opened.wait_for_selector("html[data-ready=true]")
    yield opened
    context.close()
    assert complaints == []


@pytest.mark.browser
def test_in_a_browser_plots_and_pictures_are_there(tab: Any) -> None:
    boxes = [canvas.bounding_box() for canvas in tab.locator("canvas.bk-layer").all()]
    assert any(box and box["width"] > 300 and box["height"] > 200 for box in boxes)
    loaded = tab.evaluate("[...document.images].map(i => i.complete && i.naturalWidth > 1)")
    assert len(loaded) > 20
    assert all(loaded)


@pytest.mark.browser
def test_in_a_browser_a_ranking_link_lands_on_its_card(tab: Any) -> None:
    tab.click('.gallery a[href="#rank-3"]')
    assert tab.url.endswith("#rank-3")
    box = tab.locator("#rank-3").bounding_box()
    assert -1 < box["y"] < 100 or tab.evaluate("scrollY + innerHeight >= document.body.scrollHeight - 1")


@pytest.mark.browser
def test_in_a_browser_a_point_of_the_map_has_a_tip_and_leads_to_its_card(tab: Any, project: ProjectConfig) -> None:
    place = """() => {
      const doc = Bokeh.documents[0], source = doc.get_model_by_name("galaxies");
      const root = doc.roots().find((plot) => plot.renderers.some((r) => r.data_source === source));
      const view = Bokeh.index.get_by_id(root.id), i = source.data.rank.indexOf(2);
      const box = view.canvas_view.el.getBoundingClientRect();
      const [x, y] = [source.data.umap_1[i], source.data.umap_2[i]];
      return [box.left + view.frame.x_scale.compute(x), box.top + view.frame.y_scale.compute(y)];
    }"""
    tip = tab.locator(".bk-Tooltip").first
    for _ in range(50):  # the plot may still be laid out anew
        where = tab.evaluate(place)
        tab.mouse.move(where[0] + 40, where[1] + 40)
        tab.mouse.move(*where)
        tab.wait_for_timeout(200)
        if tip.is_visible():
            break
    tip.wait_for(state="visible")
    text = tip.evaluate("(element) => element.shadowRoot.textContent")
    row = read_catalog(project.catalog_path).table.iloc[1]
    assert row["plateifu"] in text
    assert f"{row['score']:.4g}" in text
    tab.mouse.click(*where)
    tab.wait_for_url("**#rank-2")
    assert tab.locator("#rank-2").bounding_box()["y"] < 900


@pytest.mark.browser
def test_in_a_browser_the_other_lines_show_at_a_click_or_key(tab: Any) -> None:
    hidden = tab.locator("#rank-1 .maps .extra")
    if hidden.count():
        assert not hidden.first.is_visible()
    tab.locator("#rank-1 .all").focus()
    tab.keyboard.press("Space")
    assert all(figure.is_visible() for figure in tab.locator("#rank-1 .maps figure").all())


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 768])
def test_in_a_browser_nothing_is_wider_than_a_phone(tab: Any, width: int) -> None:
    tab.set_viewport_size({"width": width, "height": 800})
    # The plots follow a moment later; the page's own policy keeps Playwright from polling inside it.
    for _ in range(50):
        if tab.evaluate("document.documentElement.scrollWidth <= innerWidth"):
            break
        tab.wait_for_timeout(100)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
