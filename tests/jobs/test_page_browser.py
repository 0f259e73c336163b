"""The page in headless Chromium, served and as a file: what a click, a lasso, a label, a filter and a key do."""

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.page import serving
from cubeprep.store import WindowStore
from jobs import explore, label, score
from jobs.config import ProjectConfig
from jobs.models import opening
from jobs.page import export
from jobs.page.server import make_app
from modeling.catalog import read_catalog
from modeling.labels.labels import current, read
from tests.jobs.pages import Tab, opened, places, until
from tests.jobs.test_page_server import open_source
from tests.jobs.test_score import make_project

TOKEN = "a-secret"
NUM_GALAXIES = 15
NUM_HELD = 2  # by the smaller file, without neighbours
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> ProjectConfig:
    config = make_project(tmp_path_factory.mktemp("browsed"))
    score.run(config)
    explore.run(config)  # of so few galaxies the file holds all
    return config


@pytest.fixture(scope="module")
def server(project: ProjectConfig) -> Iterator[str]:
    """Address of a running server, with the secret."""
    source = open_source(project, lambda names, table: f"{len(names)} sent, {names[0]} first{', as a table' * table}")
    with serving(make_app(source, TOKEN), TOKEN) as address:
        yield address


@pytest.fixture(scope="module")
def small_file(project: ProjectConfig, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a file that holds two galaxies alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "MAX_GALAXY_BYTES", 0)
        page, held = export.export_page(open_source(project), NUM_HELD, lambda *_: None)
    assert len(held) == NUM_HELD
    path = tmp_path_factory.mktemp("file") / "explore.html"
    path.write_text(page)
    return path.as_uri()


# A tab for each form of the page: a new one for each test would take twice the time of a processor.
@pytest.fixture(scope="module")
def tab_of_server(browser: Any, server: str) -> Tab:
    return Tab(browser, server)


@pytest.fixture(scope="module")
def tab_of_file(browser: Any, project: ProjectConfig) -> Tab:
    return Tab(browser, project.page_path.absolute().as_uri())


@pytest.fixture
def served(tab_of_server: Tab, project: ProjectConfig) -> Iterator[Any]:
    with tab_of_server.visit() as page:
        yield page
    project.labels_path.unlink(missing_ok=True)


@pytest.fixture
def file(tab_of_file: Tab) -> Iterator[Any]:
    """The exported file, opened without a network."""
    with tab_of_file.visit() as page:
        yield page


@pytest.fixture(params=["served", "file"])
def tab(request: pytest.FixtureRequest) -> Any:
    """The page, open, in both its forms."""
    return request.getfixturevalue(request.param)


def table(project: ProjectConfig) -> pd.DataFrame:
    return read_catalog(project.catalog_path).table


def shown(tab: Any) -> int:
    return int(tab.locator("#count").inner_text().split()[0])


def test_the_gallery_begins_with_the_most_unusual(tab: Any, project: ProjectConfig) -> None:
    assert shown(tab) == NUM_GALAXIES
    names = [re.search(r"\d+-\d+", text)[0] for text in tab.locator(".card b").all_inner_texts()]  # type: ignore[index]
    assert names == table(project)["plateifu"].tolist()[: len(names)]
    until(tab, "[...document.images].every((image) => image.complete && image.naturalWidth === 16)")
    assert tab.locator(".card").first.get_attribute("aria-label").startswith(f"Rank 1, {names[0]}, score")


def test_a_clicked_spaxel_shows_its_own_spectra(tab: Any, project: ProjectConfig) -> None:
    tab.locator(".card").first.click()
    canvas = tab.locator(".panel canvas").first
    canvas.wait_for()
    summed = tab.locator(".spectra .observed").first.get_attribute("d")
    box = canvas.bounding_box()
    canvas.click(position={"x": box["width"] * 6.5 / 16, "y": box["height"] * 4.5 / 16})
    assert tab.locator("#spaxel").inner_text().strip().startswith("spaxel 6, 11:")
    chosen = tab.locator(".spectra .observed").first.get_attribute("d")
    assert chosen != summed
    tab.keyboard.press("ArrowRight")
    assert tab.locator("#spaxel").inner_text().strip().startswith("spaxel 7, 11:")
    assert tab.locator(".spectra .observed").first.get_attribute("d") != chosen
    tab.keyboard.press("Escape")
    assert tab.locator(".spectra .observed").first.get_attribute("d") == summed


def test_every_line_has_its_maps_and_can_be_chosen(tab: Any, project: ProjectConfig) -> None:
    tab.locator(".card").first.click()
    buttons = tab.locator("[data-line]")
    buttons.first.wait_for()
    assert buttons.count() == 5
    assert tab.locator("[data-line] canvas").count() == 20
    tab.locator("[data-line='3']").click()
    assert "Hzet" in tab.locator(".large h3").inner_text() or "NeIII" in tab.locator(".large h3").inner_text()
    assert tab.locator("[data-line='3']").get_attribute("aria-pressed") == "true"
    names = [text.partition("\n")[0] for text in tab.locator(".panel figcaption").all_inner_texts()]
    assert names == ["Observed", "Reconstruction", "Residual", "Misfit", "Attribution", "Attribution"]


def test_a_label_outlives_a_reload(served: Any, project: ProjectConfig) -> None:
    name = table(project)["plateifu"].iloc[0]
    served.locator(".card").first.click()
    chip = served.locator(".labels [data-label=artefact]")
    chip.click()
    served.wait_for_selector(".labels [data-label=artefact][aria-pressed=true]")
    assert current(read(project.labels_path)).to_dict() == {name: "artefact"}
    served.reload()
    served.wait_for_selector(".labels [data-label=artefact][aria-pressed=true]")
    served.keyboard.press("Escape")
    assert served.locator(".card .tag.label").all_inner_texts() == ["artefact"]
    served.locator('[data-chip^="label:"]', has_text="artefact").click()
    assert shown(served) == 1
    assert served.locator("#count-note").inner_text().startswith("galaxy by ")


def test_a_hostile_label_stays_text(tab: Any, project: ProjectConfig) -> None:
    hostile = "<img src=x onerror=\"document.title='pwned'\">"
    tab.locator(".card").first.click()
    tab.locator(".labels input").fill(hostile)
    tab.keyboard.press("Enter")
    tab.locator(".labels [aria-pressed=true]", has_text="onerror").wait_for()
    assert "pwned" not in tab.title()
    tab.keyboard.press("Escape")
    assert tab.locator("img[onerror]").count() == 0


def test_a_lasso_makes_a_subset_and_its_csv(tab: Any, project: ProjectConfig) -> None:
    where = places(tab, NUM_GALAXIES)
    xs = sorted(x for x, _ in where)
    middle = (xs[6] + xs[7]) / 2
    left = [row for row, (x, _) in enumerate(where) if x < middle]
    low, high = min(y for _, y in where), max(y for _, y in where)
    corners = [(xs[0] - 6, low - 6), (middle, low - 6), (middle, high + 6), (xs[0] - 6, high + 6), (xs[0] - 6, low - 4)]
    tab.mouse.move(*corners[0])
    tab.mouse.down()
    for corner in corners[1:]:
        tab.mouse.move(*corner, steps=4)
    tab.mouse.up()
    tab.locator("#lasso-clear").wait_for()
    assert shown(tab) == len(left) == 7
    with tab.expect_download() as caught:
        tab.click("#download")
    found = pd.read_csv(Path(caught.value.path()))
    expected = table(project).iloc[left]
    assert found["plateifu"].tolist() == expected["plateifu"].tolist()
    np.testing.assert_allclose(found["score"], expected["score"], rtol=1e-6)
    tab.click("#lasso-clear")
    assert shown(tab) == NUM_GALAXIES


def test_a_point_of_the_map_has_a_tip_and_opens_its_galaxy(tab: Any, project: ProjectConfig) -> None:
    x, y = places(tab, NUM_GALAXIES)[1]
    tab.mouse.move(x + 1, y + 1)
    name = table(project)["plateifu"].iloc[1]
    assert tab.locator(".tip").inner_text().startswith(name)
    tab.mouse.click(x + 1, y + 1)
    tab.wait_for_selector(f".galaxy-head h2:has-text('{name}')")


def test_the_map_pans_zooms_and_returns(tab: Any) -> None:
    before = places(tab, NUM_GALAXIES)
    tab.click("[data-mode=pan]")
    x, _ = before[0]
    box = tab.locator("#map").bounding_box()
    tab.mouse.move(box["x"] + 60, box["y"] + 60)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 100, box["y"] + 80, steps=3)
    tab.mouse.up()
    until(tab, f"Math.abs(document.getElementById('map').where(0)[0] - {x - box['x'] + 40}) < 0.1")
    panned = places(tab, NUM_GALAXIES)
    np.testing.assert_allclose(np.subtract(panned, before), np.full((NUM_GALAXIES, 2), (40, 20)), atol=0.1)
    tab.mouse.wheel(0, -400)
    until(tab, f"Math.abs(document.getElementById('map').where(0)[0] - {panned[0][0] - box['x']}) > 1")
    assert np.ptp([x for x, _ in places(tab, NUM_GALAXIES)]) > 1.5 * np.ptp([x for x, _ in before])
    tab.locator("#map canvas").focus()
    tab.keyboard.press("0")
    until(tab, f"Math.abs(document.getElementById('map').where(0)[0] - {x - box['x']}) < 0.1")


def test_the_map_turns_in_three_dimensions_and_takes_any_column(tab: Any) -> None:
    places(tab, NUM_GALAXIES)
    tab.select_option("#map-colour", "split")
    assert tab.locator("#map-key span").all_inner_texts() == ["train", "validation"]
    tab.click('[data-dimensions="3"]')
    flat = places(tab, NUM_GALAXIES)
    box = tab.locator("#map").bounding_box()
    tab.mouse.move(box["x"] + 60, box["y"] + 60)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 160, box["y"] + 60, steps=3)
    tab.mouse.up()
    tab.wait_for_timeout(100)
    turned = places(tab, NUM_GALAXIES)
    assert len({round(x) for x, _ in turned}) > NUM_GALAXIES / 2
    assert np.abs(np.subtract(turned, flat)[:, 0]).max() > 10


def test_a_filter_keeps_what_is_in_its_range(tab: Any, project: ProjectConfig) -> None:
    z = table(project)["z"]
    limit = float(np.median(z)) + 1e-6
    tab.fill("[data-column=z][data-end=high]", str(limit))
    tab.keyboard.press("Tab")
    assert shown(tab) == (z <= limit).sum()
    tab.locator('[data-chip^="split:"]', has_text="validation").click()
    assert shown(tab) == ((z <= limit) & (table(project)["split"] == "validation")).sum()
    tab.click("#filters-clear")
    assert shown(tab) == NUM_GALAXIES


def test_the_order_follows_a_column(tab: Any, project: ProjectConfig) -> None:
    tab.select_option("#order", "z")
    tab.click("#reverse")
    first = table(project).sort_values("z", ascending=False)["plateifu"].iloc[0]
    until(tab, f"document.querySelector('.card').innerText.includes('{first}')")


def test_menus_of_columns_are_grouped(tab: Any) -> None:
    places(tab, NUM_GALAXIES)  # the map is there, and its menu
    for menu in ("#order", "#map-colour", "#filters select"):
        groups = tab.locator(f"{menu} optgroup").evaluate_all("(all) => all.map((group) => group.label)")
        coloured = ["Labels"] if menu == "#map-colour" else []
        assert groups == ["Score", "Significance and triage", "Lines", "Galaxy", *coloured, "Map and split"]
    assert tab.locator("#map-colour").input_value() == "score"
    assert tab.locator("#order").input_value() == "rank"


LINES_OF_WORDS = """() => [...document.querySelectorAll(".range legend")].map((legend) => {
  const range = document.createRange();
  return [...legend.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE && node.data).map((node) => {
    range.selectNodeContents(node);
    return range.getClientRects().length;
  });
})"""


@pytest.mark.parametrize("width", [360, 1280])
def test_names_of_filters_break_after_underscores(tab: Any, width: int) -> None:
    tab.set_viewport_size({"width": width, "height": 780})
    if width < 860:
        tab.click(".panes [data-pane=filters]")
    lines = tab.evaluate(LINES_OF_WORDS)
    assert [len(words) for words in lines] == [1, 1, 2, 3, 2]
    assert {number for words in lines for number in words} == {1}


def test_search_finds_a_galaxy_and_says_when_there_is_none(tab: Any, project: ProjectConfig) -> None:
    name = table(project)["plateifu"].iloc[9]
    tab.fill("#search-id", "9-9")
    tab.keyboard.press("Enter")
    assert tab.locator("#message.bad").inner_text() == "9-9: no such galaxy in the catalog"
    tab.keyboard.press("Escape")
    tab.keyboard.press("/")
    tab.fill("#search-id", name)
    tab.keyboard.press("Enter")
    tab.wait_for_selector(f".galaxy-head h2:has-text('{name}')")
    assert tab.title().startswith(name)


def test_all_goes_by_keyboard(tab: Any, project: ProjectConfig) -> None:
    names = table(project)["plateifu"].tolist()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("j")
    assert names[1] in tab.evaluate("document.activeElement.getAttribute('aria-label')")
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.keyboard.press("Enter")
    tab.wait_for_selector(f".galaxy-head h2:has-text('{names[1]}')")
    tab.keyboard.press("j")
    tab.wait_for_selector(f".galaxy-head h2:has-text('{names[2]}')")
    tab.keyboard.press("k")
    tab.wait_for_selector(f".galaxy-head h2:has-text('{names[1]}')")
    tab.keyboard.press("Escape")
    until(tab, f"document.activeElement.getAttribute('aria-label')?.includes('{names[1]}')")


def test_a_server_that_is_gone_is_said(served: Any) -> None:
    served.route("**/api/galaxies/**", lambda route: route.fulfill(status=503, body='{"error": "the store is gone"}'))
    served.locator(".card").first.click()
    assert served.locator(".failed").inner_text() == "the store is gone"
    served.unroute_all()


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_screen(tab: Any, width: int) -> None:
    tab.set_viewport_size({"width": width, "height": 780})
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    card = tab.locator(".card").first
    card.wait_for()  # laid out anew for this width
    box = card.bounding_box()
    assert box["x"] + box["width"] <= width
    if width < 860:
        for pane in ("map", "filters", "gallery"):
            tab.click(f".panes [data-pane={pane}]")
            assert tab.locator(f"#{pane}-pane").is_visible()
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.locator(".card").first.click()
    tab.locator(".panel canvas").first.wait_for()
    assert tab.evaluate("document.getElementById('galaxy').scrollWidth") <= width


CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => { for (; node; node = node.parentElement) { const c = rgb(getComputedStyle(node).backgroundColor); if (c[3] !== 0) return c; } return [255, 255, 255]; };
  return [...document.querySelectorAll("b, span, dt, dd, button, p, a, h2, h3, label, legend")].filter((e) => e.offsetParent && e.innerText?.trim() && !e.closest("#map, .pixels")).map((e) => {
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.className || e.tagName, e.innerText.slice(0, 20)];
  }).filter(([ratio]) => ratio < 4.5);
}"""  # noqa: E501


def test_text_has_the_contrast_of_aa_in_light_and_dark(tab: Any) -> None:
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        assert tab.evaluate(CONTRAST) == []
    tab.locator(".card").first.click()
    tab.locator(".panel canvas").first.wait_for()
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        assert tab.evaluate(CONTRAST) == []


NAMELESS = """() => [...document.querySelectorAll("button, input, select, a, img, canvas, [role=img]")]
  .filter((e) => !e.closest("#map, datalist") && !e.getAttribute("aria-label") && !e.textContent.trim()
    && !e.closest("label") && !e.getAttribute("aria-hidden") && !e.hasAttribute("alt"))
  .map((e) => e.outerHTML.slice(0, 80))"""


def test_what_can_be_used_has_a_name(tab: Any) -> None:
    assert tab.evaluate(NAMELESS) == []
    tab.locator(".card").first.click()
    tab.locator(".panel canvas").first.wait_for()
    assert tab.evaluate(NAMELESS) == []


def test_the_file_shows_what_the_server_shows(served: Any, file: Any) -> None:
    for tab in (served, file):
        tab.locator(".card").nth(1).click()
        tab.locator(".panel canvas").first.wait_for()
    texts = [tab.locator("#galaxy").inner_text().replace("Label", "") for tab in (served, file)]
    texts[0] = texts[0].replace("Point Aladin\n", "")  # which a file cannot do
    assert "to within 0.06 σ" in texts[1]
    without = re.sub(r" In this file flux [^.]+\.[^.]*?\.?\d*%; sums over spaxels are exact\.", "", texts[1])
    assert without == texts[0]
    path = "document.querySelector('.chosen .rebuilt[d]').getAttribute('d')"
    assert served.evaluate(path) == file.evaluate(path)
    for tab in (served, file):
        tab.locator(".panel canvas").first.focus()
        tab.keyboard.press("ArrowRight")
    numbers = [np.array(re.findall(r"[\d.]+", tab.evaluate(path)), float) for tab in (served, file)]
    np.testing.assert_allclose(*numbers, atol=3)  # of 60: an eighth of a sigma, where the axis spans a few


def test_buttons_send_the_galaxies_shown_or_one_and_a_file_has_none(
    served: Any, file: Any, project: ProjectConfig
) -> None:
    names = table(project)["plateifu"]
    served.click("#send")
    message = f"{len(names)} sent, {names[0]} first, as a table"
    until(served, f"document.querySelector('#message').textContent === '{message}'")
    served.locator(".card").nth(1).click()
    served.click("#point")
    until(served, f"document.querySelector('#message').textContent === '1 sent, {names[1]} first'")
    assert file.locator("#send").is_hidden()
    file.locator(".card").nth(1).click()
    file.locator(".panel canvas").first.wait_for()
    assert file.locator("#point").count() == 0


def test_a_label_in_the_file_stays_and_goes_to_the_command(file: Any, project: ProjectConfig, tmp_path: Path) -> None:
    name = table(project)["plateifu"].iloc[0]
    file.locator(".card").first.click()
    file.locator(".labels [data-label=interesting]").click()
    file.wait_for_selector(".labels [data-label=interesting][aria-pressed=true]")
    assert "kept in this browser" in file.locator("#message").inner_text()
    file.reload()
    file.wait_for_selector(".labels [data-label=interesting][aria-pressed=true]")
    file.keyboard.press("Escape")
    with file.expect_download() as caught:
        file.click("#download-labels")
    saved = tmp_path / "labels.csv"
    saved.write_bytes(Path(caught.value.path()).read_bytes())
    assert pd.read_csv(io.BytesIO(saved.read_bytes())).to_dict("records") == [
        {"plateifu": name, "label": "interesting"}
    ]
    try:
        label.run(project, table=str(saved))
        assert current(read(project.labels_path)).to_dict() == {name: "interesting"}
    finally:
        project.labels_path.unlink()


def test_a_galaxy_that_the_file_does_not_hold_says_so(browser: Any, small_file: str, project: ProjectConfig) -> None:
    with opened(browser, small_file) as tab:
        assert shown(tab) == NUM_GALAXIES
        assert f"maps and spectra of {NUM_HELD}" in tab.locator("#count-note").inner_text()
        tab.locator(".card").nth(NUM_HELD).click()
        notice = tab.locator(".middle .notice")
        assert f"of {NUM_HELD} of {NUM_GALAXIES} galaxies" in notice.inner_text()
        assert "cubescout explore CONFIG --serve" in notice.inner_text()
        assert table(project)["reason_1"].iloc[NUM_HELD] in tab.locator("aside .why").inner_text()
        tab.keyboard.press("k")
        tab.locator(".panel canvas").first.wait_for()


def test_the_about_dialog_names_what_the_survey_is(tab: Any, project: ProjectConfig) -> None:
    provenance = read_catalog(project.catalog_path).provenance
    tab.click("#about-open")
    for summary in tab.locator("#about summary").all():
        summary.click()
    text = tab.locator("#about").inner_text()
    for expected in (provenance["store"]["identity"], provenance["model"]["digest"], provenance["code_version"]):
        assert expected in text
    for expected in ("made so", "Spearman", "vacuum", "1/(n + 1)", "optimistic", "Redshift"):
        assert expected in text
    loose = "dialog => [...dialog.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE).length"
    assert tab.locator("#about").evaluate(loose) == 0  # such as "null" where no galaxy was rejected


@pytest.mark.parametrize("form", ["server", "file"])
def test_all_is_reached_by_touch_on_a_phone(browser: Any, server: str, project: ProjectConfig, form: str) -> None:
    address = server if form == "server" else project.page_path.absolute().as_uri()
    with opened(browser, address, **PHONE) as tab:
        for pane in ("filters", "map"):
            tab.tap(f".panes [data-pane={pane}]")
            assert tab.evaluate("document.documentElement.scrollWidth") <= 390
            buttons = tab.locator(f"#{pane}-pane button:visible").all()
            assert all(box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in (b.bounding_box() for b in buttons))
        name = table(project)["plateifu"].iloc[0]
        tab.touchscreen.tap(*places(tab, NUM_GALAXIES)[0])
        tab.wait_for_selector(f".galaxy-head h2:has-text('{name}')")
        canvas = tab.locator(".panel canvas").first
        canvas.tap()
        assert tab.locator("#spaxel").inner_text().strip().startswith("spaxel")
        assert tab.evaluate("document.getElementById('galaxy').scrollWidth") <= 390
        tab.tap(".galaxy-head .back")
        tab.wait_for_selector("#survey:not([hidden])")


def test_cards_name_the_strongest_line_and_mark_repeat_observations(
    browser: Any, project: ProjectConfig, tmp_path: Path
) -> None:
    catalog, store = read_catalog(project.catalog_path), WindowStore.open(project.store_path)
    with_line = catalog.table.assign(strongest_line="Hzet-3890", strongest_line_snr=41.5)
    with_line.loc[[0, 2], "mangaid"] = "1-22"
    model = opening.reopen_model(project, catalog, store)
    source = explore.open_source(project, replace(catalog, table=with_line), store, model)
    path = tmp_path / "explore.html"
    path.write_text(export.export_page(source, 1, lambda *_: None)[0])
    with opened(browser, path.as_uri()) as tab:
        assert "S/N Hzet 41.5" in tab.locator(".card").first.inner_text()
        assert "med. S/N" not in tab.locator(".card").first.inner_text()
        cards = tab.locator(".card:has(.repeat)")
        assert [card.get_attribute("data-row") for card in cards.all()] == ["0", "2"]
        assert cards.first.locator(".repeat").get_attribute("title") == "One of 2 observations of 1-22 in this catalog"
        assert cards.first.locator(".tag").count() == 1  # beside which the reason keeps its two lines
        assert cards.first.locator(".why").evaluate("(why) => getComputedStyle(why).webkitLineClamp") == "2"
        tab.locator(".card").first.click()
        facts = " ".join(tab.locator(".galaxy-head .facts").inner_text().split())
        assert "S/N Hzet-3890 41.5 median S/N" in facts
