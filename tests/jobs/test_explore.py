"""The exported page: what the file holds, that it loads nothing, how exact it is, and what `explore` refuses."""

import base64
import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cubeprep.store import WindowStore
from jobs import explore, score
from jobs.config import ProjectConfig
from jobs.models import opening
from jobs.page import export
from jobs.page.compact import STEP_SIGMA, compact, restored
from jobs.page.document import bundle
from jobs.page.figures import flux_limits, line_maps, map_png, summed_spectra
from jobs.page.pack import pack, unpack
from jobs.page.survey_texts import pretty_unit, usual_shares
from modeling.catalog import line_names_of, read_catalog, write_catalog
from modeling.labels.labels import Label, append
from modeling.network.autoencoder import make_model
from modeling.network.config import ModelConfig
from modeling.network.inference import reconstruct
from modeling.scoring.config import ScoreConfig
from modeling.training.folds import fold_of
from tests.jobs.pages import messages_of
from tests.jobs.test_page_server import open_source
from tests.jobs.test_score import make_project, save_tiny_model
from tests.synthetic import synthetic_store

NUM_GALAXIES = 3
HOSTILE = "</script><script>document.title='pwned'</script>"


class Elements(HTMLParser):
    """Collects elements, their attributes, and the text of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.found.append(("", {}))
        self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self.texts:
            self.texts[-1] += data

    def of(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attrs, text) for (name, attrs), text in zip(self.found, self.texts, strict=True) if name == tag]


@pytest.fixture(scope="module")
def project(project: ProjectConfig) -> ProjectConfig:
    assert project.explore.num_galaxies == NUM_GALAXIES
    assert explore.run(project) == 0
    return project


@pytest.fixture(scope="module")
def page(project: ProjectConfig) -> str:
    return project.page_path.read_text()


def test_the_file_holds_all_rows_and_the_most_unusual_galaxies_in_full(project: ProjectConfig, page: str) -> None:
    table, held = read_catalog(project.catalog_path).table, messages_of(page)
    columns = {column["name"]: column for column in held["survey"][0]["columns"]}
    assert columns["plateifu"]["values"] == table["plateifu"].tolist()
    np.testing.assert_allclose(held["survey"][1]["score"], table["score"], rtol=1e-6)
    names = held["contents"][0]["galaxies"]
    assert names[:NUM_GALAXIES] == table["plateifu"].head(NUM_GALAXIES).tolist()
    assert {name.removeprefix("galaxy-") for name in held if name.startswith("galaxy-")} == set(names)
    for name in names:
        assert held[f"galaxy-{name}"][0]["row"]["plateifu"] == name


def test_shares_of_lines_that_were_not_observed_are_no_zeros(project: ProjectConfig) -> None:
    source = open_source(project)
    table = source.catalog.table
    first, second, *_ = lines = line_names_of(table)
    table.loc[0, f"share_{first}"] = np.nan
    table[f"share_{second}"] = np.nan
    usual = usual_shares(table, lines)
    assert usual[second] is None
    assert usual[first] == table[f"share_{first}"][1:].median() > 0
    shown = unpack(source.galaxy(table["plateifu"][0]))[0]["lines"]
    assert [line["share"] for line in shown[:2]] == [None, None]


@pytest.mark.slow
def test_neighbours_are_added_nearest_first_while_there_is_room(
    project: ProjectConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = read_catalog(project.catalog_path).table
    sizes = []
    for limit in (0, 150_000, 10**9):
        monkeypatch.setattr(export, "MAX_GALAXY_BYTES", limit)
        _, held = export.export_page(open_source(project), NUM_GALAXIES, lambda *_: None)
        sizes.append(len(held))
    assert sizes[0] == NUM_GALAXIES < sizes[1] < sizes[2]
    nearest = [names[0] for names in table["neighbours"].head(NUM_GALAXIES) if names[0] not in held[:NUM_GALAXIES]]
    assert held[NUM_GALAXIES : NUM_GALAXIES + len(set(nearest))] == list(dict.fromkeys(nearest))
    assert set(held) == set(table["plateifu"].head(NUM_GALAXIES)).union(*table["neighbours"].head(NUM_GALAXIES))


def test_thumbnails_are_those_of_the_first_ranks_and_of_all_neighbours(
    project: ProjectConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "MAX_THUMBNAILS", 4)
    monkeypatch.setattr(export, "MAX_GALAXY_BYTES", 0)
    meta, arrays = messages_of(export.export_page(open_source(project), 1, lambda *_: None)[0])["contents"]
    table = read_catalog(project.catalog_path).table
    assert meta["thumbnails"][:4] == table["plateifu"].head(4).tolist()
    assert set(meta["thumbnails"]) == {*table["plateifu"].head(4), *table["neighbours"].iloc[0]}
    ends = [0, *arrays["thumbnail_ends"].tolist()]
    content = arrays["thumbnails"].tobytes()
    images = [Image.open(io.BytesIO(content[start:end])) for start, end in pairwise(ends)]
    assert {image.size for image in images} == {(16, 16)}
    assert len(images) == len(meta["thumbnails"])


def test_rounding_is_within_what_the_message_states(project: ProjectConfig) -> None:
    message = open_source(project).galaxy(read_catalog(project.catalog_path).table["plateifu"].iloc[0])
    exact = unpack(message)[1]
    small = compact(message)
    meta, arrays = unpack(small)
    start = 4 + int.from_bytes(small[:4], "little")
    decoding = {item["name"]: item for item in json.loads(small[4:start])["arrays"]}
    error = restored(arrays["error"], decoding["error"])
    good = np.isfinite(exact["error"])
    np.testing.assert_array_equal(np.isfinite(error), good)
    np.testing.assert_allclose(error[good], exact["error"][good], rtol=1.01 * meta["rounding"]["error_share"])
    for name in ("flux", "reconstruction"):
        found = restored(arrays[name], decoding[name], error)
        assert np.isnan(found[~good]).all()
        off = np.abs(found - exact[name])[good] / error[good]
        assert off.max() <= 1.001 * meta["rounding"]["flux_sigma"]
        assert off.max() > meta["rounding"]["flux_sigma"] / 2  # rounded it is
    for name in ("map_flux", "map_chi2", "by_place"):
        np.testing.assert_allclose(restored(arrays[name], decoding[name]), exact[name], rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(arrays["sum_flux"], exact["sum_flux"])
    assert len(small) < 0.6 * len(message)  # before compression, which then has fewer digits to keep


def test_a_bright_galaxy_has_larger_steps_instead_of_an_overflow() -> None:
    error = np.full((1, 1, 2, 2), 1e-20, np.float32)
    flux = np.array([[[[1e-14, -1e-14], [np.nan, 0]]]], np.float32)
    error[np.isnan(flux)] = np.nan
    meta, arrays = unpack(compact(pack({}, {"flux": flux, "reconstruction": flux, "error": error})))
    assert meta["rounding"]["flux_sigma"] > 10 * STEP_SIGMA
    assert arrays["flux"].ravel().tolist() == [2**15 - 1, -(2**15) + 1, 0, 0]


def test_the_page_loads_nothing_and_allows_its_own_script_alone(page: str) -> None:
    elements = Elements(page)
    references = [a[name] for _, a in elements.found for name in ("src", "href", "srcset", "action") if name in a]
    assert all(text and text.startswith(("#", "data:")) for text in references), references
    metas = [attrs for attrs, _ in elements.of("meta") if attrs.get("http-equiv") == "Content-Security-Policy"]
    policy = metas[0]["content"] or ""
    assert "unsafe" not in policy
    assert "connect-src 'none'" in policy
    scripts = [text for attrs, text in elements.of("script") if attrs.get("type") != "application/octet-stream"]
    for kind, texts in (("script-src", scripts), ("style-src", [text for _, text in elements.of("style")])):
        digests = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts}
        assert [f"'sha256-{digest}'" for digest in digests] == re.findall(rf"{kind} ([^;]+)", policy)
    assert not [attrs for _, attrs in elements.found if any(name.startswith("on") for name in attrs)]


@pytest.mark.slow
def test_hostile_names_and_labels_stay_data(tmp_path: Path) -> None:
    config = make_project(tmp_path, num_galaxies=1)
    score.run(config)
    catalog = read_catalog(config.catalog_path)
    table = catalog.table.assign(mangaid=HOSTILE, split=HOSTILE)
    write_catalog(config.catalog_path, table, catalog.columns, catalog.provenance | {"code_version": HOSTILE})
    append(config.labels_path, [Label(plateifu=table["plateifu"].iloc[1], label=HOSTILE)])
    page, _ = export.export_page(open_source(config), 1, lambda *_: None)
    assert "pwned" not in page
    assert messages_of(page)["contents"][0]["labels"] == {table["plateifu"].iloc[1]: HOSTILE}


def test_the_bundle_refuses_what_it_does_not_understand(tmp_path: Path) -> None:
    (tmp_path / "main.js").write_text('import { a } from "./a.js";\nconsole.log(a);\n')
    (tmp_path / "a.js").write_text("export const a = 1;\n")
    assert bundle(tmp_path).index("const a = 1;") < bundle(tmp_path).index("console.log")
    for source, said in (
        ("export default 1;\n", "export default"),
        ('import * as b from "./b.js";\n', "import"),
        ("export const a = '</script>';\n", "</script"),
        ('import { c } from "./main.js";\nexport const a = c;\n', "main -> a -> main"),
    ):
        (tmp_path / "a.js").write_text(source)
        with pytest.raises(ValueError, match=re.escape(said)):
            bundle(tmp_path)


@pytest.mark.parametrize(
    ("unit", "shown"),
    [
        ("1e-17 erg / (s cm2 Angstrom spaxel)", "10⁻¹⁷ erg s⁻¹ cm⁻² Å⁻¹ spaxel⁻¹"),
        ("1e-17 erg / (s cm2 Angstrom)", "10⁻¹⁷ erg s⁻¹ cm⁻² Å⁻¹"),
        ("km / s", "km / s"),
        ("", ""),
    ],
)
def test_units_for_the_eye(unit: str, shown: str) -> None:
    assert pretty_unit(unit) == shown


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_two_galaxies_with_one_sample_a_line_have_a_page(tmp_path: Path) -> None:
    shape = (3, 1, 8)
    synthetic_store(tmp_path / "windows.zarr", num_train=2, num_validation=1, shape=shape)
    model = save_tiny_model(tmp_path / "model", shape)
    config = ProjectConfig(workspace=tmp_path, score=ScoreConfig(model=str(model)))
    score.run(config)
    explore.run(config)
    held = messages_of(config.page_path.read_text())
    assert len(held["contents"][0]["galaxies"]) == 2
    assert held["survey"][0]["summary"]["spearman"]["score"]["flux"] is None  # of two galaxies it is undefined


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
    assert np.isnan(
        [getattr(maps, name)[0, 0, 0] for name in ("flux", "reconstruction", "residual_sigma", "chi2")]
    ).all()
    np.testing.assert_allclose(maps.flux[0, 1, 1], flux[0, :, 1, 1].mean())
    np.testing.assert_allclose(maps.flux[1, 1, 1], flux[1, :2, 1, 1].mean())
    np.testing.assert_allclose(maps.residual_sigma[0, 1, 1], 2 * 3 / np.sqrt((1 / ivar[0, :, 1, 1]).sum()))
    np.testing.assert_allclose(maps.chi2[0, 1, 1], (4 * ivar[0, :, 1, 1]).mean())
    assert np.isnan(spectra.flux[1, 2])
    np.testing.assert_allclose(spectra.flux[0] - spectra.reconstruction[0], 2 * 15)
    np.testing.assert_allclose(spectra.error[1, 0], np.sqrt((1 / ivar[1, 0]).sum()))


def test_a_map_is_drawn_right_way_up_and_transparent_where_masked() -> None:
    values = np.array([[0.0, 1.0], [np.nan, 5.0]])
    pixels = np.asarray(Image.open(io.BytesIO(map_png(values, 0, 1, "viridis"))).convert("RGBA"))
    assert pixels.shape == (2, 2, 4)
    assert tuple(pixels[1, 0, :3]) == (68, 1, 84)  # y = 0 at the bottom; viridis begins with this purple
    assert tuple(pixels[1, 1]) == tuple(pixels[0, 1]) == (253, 231, 36, 255)  # the last colour, also for what is above
    assert pixels[0, 0, 3] == 0


def test_scales_are_defined_for_any_map() -> None:
    assert flux_limits(np.full((2, 2), np.nan)) == (0.0, 1.0)
    assert flux_limits(np.zeros((2, 2))) == (0.0, 1.0)
    low, high = flux_limits(np.array([-2.0, 4.0]))
    assert low < 0 < high
