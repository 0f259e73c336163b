"""The served page in headless Chromium: what a click, a lasso, a label, a filter and a key do."""

import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jobs import score
from jobs.config import ProjectConfig
from jobs.page.server import make_app
from modeling.catalog import read_catalog
from modeling.labels.labels import current, read
from tests.jobs.test_page_server import open_source
from tests.jobs.test_score import make_project

TOKEN = "a-secret"
MADE = "status of 503"  # an answer that a test makes
NUM_GALAXIES = 15
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> ProjectConfig:
    config = make_project(tmp_path_factory.mktemp("browsed"))
    score.run(config)
    return config


@pytest.fixture(scope="module")
def address(project: ProjectConfig) -> Iterator[str]:
    """Of a running server, with the secret."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(make_app(open_source(project), TOKEN), log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/?token={TOKEN}"
        server.should_exit = True
        thread.join()


@pytest.fixture
def tab(browser: Any, address: str, project: ProjectConfig) -> Iterator[Any]:
    """The page, open; a script error, a failed or a foreign request fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    opened = context.new_page()
    complaints: list[str] = []
    origin = address.partition("/?")[0]
    opened.on("console", lambda m: complaints.append(m.text) if m.type == "error" and MADE not in m.text else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "request", lambda r: None if r.url.startswith((origin, "data:", f"blob:{origin}")) else complaints.append(r.url)
    )
    opened.goto(address)
    opened.wait_for_selector("html[data-ready=true]")
    yield opened
    context.close()
    project.labels_path.unlink(missing_ok=True)
    assert complaints == []


def table(project: ProjectConfig) -> pd.DataFrame:
    return read_catalog(project.catalog_path).table


def shown(tab: Any) -> int:
    return int(tab.locator("#count").inner_text().split()[0])


def test_the_gallery_begins_with_the_most_unusual(tab: Any, project: ProjectConfig) -> None:
    assert shown(tab) == NUM_GALAXIES
    names = [re.search(r"\d+-\d+", text)[0] for text in tab.locator(".card b").all_inner_texts()]  # type: ignore[index]
    assert names == table(project)["plateifu"].tolist()[: len(names)]
    tab.wait_for_function("[...document.images].every((image) => image.complete && image.naturalWidth === 16)")
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
    assert tab.locator("[data-line] canvas").count() == 15
    tab.locator("[data-line='3']").click()
    assert "Hzet" in tab.locator(".large h3").inner_text() or "NeIII" in tab.locator(".large h3").inner_text()
    assert tab.locator("[data-line='3']").get_attribute("aria-pressed") == "true"
    names = [text.partition("\n")[0] for text in tab.locator(".panel figcaption").all_inner_texts()]
    assert names == ["Observed", "Model", "Residual", "Misfit", "Attribution", "Attribution"]


def test_a_label_outlives_a_reload(tab: Any, project: ProjectConfig) -> None:
    name = table(project)["plateifu"].iloc[0]
    tab.locator(".card").first.click()
    chip = tab.locator(".labels [data-label=artefact]")
    chip.click()
    tab.wait_for_selector(".labels [data-label=artefact][aria-pressed=true]")
    assert current(read(project.labels_path)).to_dict() == {name: "artefact"}
    tab.reload()
    tab.wait_for_selector(".labels [data-label=artefact][aria-pressed=true]")
    tab.keyboard.press("Escape")
    assert tab.locator(".card .tag.label").all_inner_texts() == ["artefact"]
    tab.locator('[data-chip^="label:"]', has_text="artefact").click()
    assert shown(tab) == 1


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
    tab.wait_for_selector("#map[data-ready=true]")
    where = tab.evaluate("""() => {
      const map = document.getElementById("map"), box = map.getBoundingClientRect();
      const { xaxis, yaxis } = map._fullLayout, trace = map.data[1];
      return trace.customdata.map((row, i) => [row, box.left + xaxis._offset + xaxis.d2p(trace.x[i]),
        box.top + yaxis._offset + yaxis.d2p(trace.y[i])]);
    }""")
    xs = sorted(x for _, x, _ in where)
    middle = (xs[6] + xs[7]) / 2
    left = {row for row, x, _ in where if x < middle}
    low, high = min(y for _, _, y in where), max(y for _, _, y in where)
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
    names = pd.read_csv(Path(caught.value.path()))["plateifu"].tolist()
    assert names == table(project)["plateifu"].iloc[sorted(left)].tolist()
    tab.click("#lasso-clear")
    assert shown(tab) == NUM_GALAXIES


def test_the_map_turns_in_three_dimensions_and_takes_any_column(tab: Any) -> None:
    tab.wait_for_selector("#map[data-ready=true]")
    tab.select_option("#map-colour", "split")
    assert tab.locator("#map-key span").all_inner_texts() == ["train", "validation"]
    tab.click('[data-dimensions="3"]')
    tab.wait_for_function("document.getElementById('map').data?.[1].type === 'scatter3d'")
    assert len(tab.evaluate("document.getElementById('map').data[1].z")) == NUM_GALAXIES


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
    tab.wait_for_function(f"document.querySelector('.card').innerText.includes('{first}')")


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
    tab.keyboard.press("j")
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
    tab.wait_for_function(f"document.activeElement.getAttribute('aria-label')?.includes('{names[1]}')")


def test_a_server_that_is_gone_is_said(tab: Any) -> None:
    tab.route("**/api/galaxies/**", lambda route: route.fulfill(status=503, body='{"error": "the store is gone"}'))
    tab.locator(".card").first.click()
    assert tab.locator(".failed").inner_text() == "the store is gone"
    tab.unroute_all()


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
