"""Images of the sky on the page: requested from one address where a survey is named, and otherwise not at all."""

import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from benchmarks.page import serving
from cubeprep.facts import SurveyFacts
from jobs.page.config import ExploreConfig
from jobs.page.export import export_page
from jobs.page.server import make_app
from jobs.page.sky_image import ENDPOINT, SURVEYS, sky_image
from jobs.page.source import Source
from modeling.catalog import read_catalog
from tests.jobs.catalogs import write_synthetic_catalog
from tests.jobs.pages import messages_of, opened, until
from tests.synthetic import synthetic_store

TOKEN = "a-secret"
SIZE, SPAXEL_ARCSEC = 16, 0.5
FACTS = SurveyFacts("", SPAXEL_ARCSEC, "north up, east left", 2.5, "https://dr17.sdss.org/{plateifu}")
SPEARMAN = {"score": {"flux": 0.1, "snr": 0.1}}
UNKNOWN = 1  # rank of the galaxy without a position, beginning at 0
Make = Callable[[str | None], Source]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Contents of a page of a survey on the sky, given the survey of its images; one galaxy has no position."""
    folder = tmp_path_factory.mktemp("sky")
    store = synthetic_store(folder / "windows.zarr", num_train=3, num_validation=1, num_views=1, shape=(3, 4, SIZE))
    store.attrs["survey_facts"] = FACTS.to_json()
    path = folder / "catalog.parquet"
    names = store.galaxies().query("status == 'accepted'")["plateifu"].tolist()
    write_synthetic_catalog(path, names=names)
    catalog = read_catalog(path)
    catalog.table.loc[UNKNOWN, "ra_deg"] = np.nan
    catalog = replace(catalog, provenance=catalog.provenance | {"rank_by": "unexplained", "spearman": SPEARMAN})

    def made(survey: str | None) -> Source:
        return Source(
            catalog,
            store,
            catalog_path=path,
            labels_path=folder / "labels.jsonl",
            reconstruct=lambda windows: np.nan_to_num(windows.flux),
            thumbnail_line="Ha-6564",
            image_survey=survey,
        )

    return made


@pytest.fixture(scope="module", params=["served", "file"])
def address(request: pytest.FixtureRequest, make: Make, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a page with images of the Legacy Surveys, in both its forms."""
    with ExitStack() as stack:
        if request.param == "served":
            yield stack.enter_context(serving(make_app(make("legacy"), TOKEN), TOKEN))
        else:
            path = tmp_path_factory.mktemp("file") / "explore.html"
            path.write_text(exported(make("legacy")))
            yield path.as_uri()


def exported(source: Source) -> str:
    return export_page(source, 3, lambda *_: None)[0]


def policies(source: Source) -> tuple[str, str]:
    """Content security policies of the served page and of the file."""
    with TestClient(make_app(source, TOKEN), base_url="http://127.0.0.1:8900") as client:
        served = client.get("/").headers["content-security-policy"]
    found = re.search(r'Content-Security-Policy" content="([^"]+)"', exported(source))
    assert found is not None
    return served, found[1].replace("&#x27;", "'")


def picture() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (300, 300), (20, 40, 90)).save(content, "JPEG")
    return content.getvalue()


def open_galaxy(tab: Any, rank: int) -> Any:
    tab.locator(".card").nth(rank).click()
    figure = tab.locator(".sky")
    figure.wait_for()
    return figure


def test_without_a_survey_the_page_allows_and_knows_no_address(make: Make) -> None:
    served, file = policies(make(None))
    assert "; img-src 'self' data: blob:; connect-src 'self'; " in served
    assert "; img-src data: blob:; connect-src 'none'; " in file
    meta = messages_of(exported(make(None)))["survey"][0]
    assert meta["sky_image"] is None
    assert "alasky" not in json.dumps(meta)


def test_with_a_survey_the_policy_allows_its_address_for_images_alone(make: Make) -> None:
    for without, policy in zip(policies(make(None)), policies(make("sdss")), strict=True):
        assert policy == without.replace("data: blob:", f"data: blob: {ENDPOINT}")
        assert policy.count("https:") == 1


def test_every_survey_can_be_named_and_is_credited() -> None:
    (kinds, none) = get_args(ExploreConfig.model_fields["sky_image"].annotation)
    assert set(get_args(kinds)) == SURVEYS.keys()
    assert none is type(None)
    assert ExploreConfig().sky_image is None
    for name, survey in SURVEYS.items():
        found = sky_image(name, FACTS, SIZE)
        assert found is not None
        query = parse_qs(urlsplit(str(found["url"])).query)
        assert query["hips"] == [survey.hips]
        assert float(query["fov"][0]) * 3600 == pytest.approx(SIZE * SPAXEL_ARCSEC, rel=1e-3)
        assert found["credit"]


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (replace(FACTS, page_url=""), "explore.sky_image: legacy; these galaxies are simulated"),
        (replace(FACTS, spaxel_arcsec=None), "explore.sky_image: legacy; the size of a spaxel .* scale-to-re"),
    ],
)
def test_where_there_can_be_no_images_it_says_why(facts: SurveyFacts, said: str) -> None:
    assert sky_image(None, facts, SIZE) is None
    with pytest.raises(ValueError, match=said):
        sky_image("legacy", facts, SIZE)


@pytest.mark.browser
def test_the_image_has_the_field_of_the_windows_and_a_credit(browser: Any, address: str, make: Make) -> None:
    row = make(None).catalog.table.iloc[0]
    asked: list[Any] = []

    def answer(route: Any) -> None:
        asked.append(route.request)
        route.fulfill(body=picture(), content_type="image/jpeg")

    with opened(browser, address, answered=(ENDPOINT,)) as tab:
        tab.route(f"{ENDPOINT}**", answer)
        assert asked == []
        figure = open_galaxy(tab, 0)
        until(tab, "document.querySelector('.sky img').naturalWidth === 300")
        text = " ".join(figure.inner_text().split())
        credit = "Image: Legacy Surveys / D. Lang (Perimeter Institute); HiPS by CDS"
        assert text == f"Legacy Surveys DR10 8″, N ↑ E ← {credit}"
        tab.locator("[data-line='2']").click()
        assert figure.locator("img").is_visible()
        (request,) = asked
        assert "referer" not in request.headers
        query = {name: values[0] for name, values in parse_qs(urlsplit(request.url).query).items()}
        assert query["hips"] == "CDS/P/DESI-Legacy-Surveys/DR10/color"
        assert float(query["fov"]) * 3600 == pytest.approx(SIZE * SPAXEL_ARCSEC, rel=1e-3)
        position = [float(query[name]) for name in ("ra", "dec")]
        assert position == pytest.approx([row["ra_deg"], row["dec_deg"]], abs=1e-6)
        tab.click("#about-open")
        assert "(Legacy Surveys DR10) from alasky.cds.unistra.fr" in tab.locator("#about").inner_text()


@pytest.mark.browser
def test_an_image_that_does_not_come_is_said(browser: Any, address: str) -> None:
    with opened(browser, address, answered=(ENDPOINT,)) as tab:
        tab.route(f"{ENDPOINT}**", lambda route: route.fulfill(status=503))
        notice = open_galaxy(tab, 0).locator(".notice")
        notice.wait_for()
        assert notice.inner_text() == "The image could not be fetched from alasky.cds.unistra.fr."


@pytest.mark.browser
def test_without_a_position_nothing_is_requested(browser: Any, address: str) -> None:
    with opened(browser, address) as tab:
        assert open_galaxy(tab, UNKNOWN).locator(".notice").inner_text() == "No image: the catalog has no position."


@pytest.mark.browser
def test_off_no_request_leaves_the_page(browser: Any, make: Make, tmp_path: Path) -> None:
    path = tmp_path / "explore.html"
    path.write_text(exported(make(None)))
    with opened(browser, path.as_uri()) as tab:  # any foreign request is a complaint
        tab.locator(".card").first.click()
        tab.locator(".panel canvas").first.wait_for()
        assert tab.locator(".sky").count() == 0
        tab.wait_for_timeout(200)
