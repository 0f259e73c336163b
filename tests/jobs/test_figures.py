"""The figures: all are written, the same bytes each time, and what they show is what the store holds."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from cubeprep.store import Windows
from jobs import cli, figures
from jobs.config import ProjectConfig
from jobs.console.command import CommandError
from jobs.figures import label_figures
from jobs.reports.gallery_plots import line_map, line_spectra
from jobs.reports.paper_plots import score_histogram
from modeling.catalog import read_catalog
from tests.jobs.test_score import make_project

NAMES = {"umap", "umap_3d", "anomalies", "neighbours"}


@pytest.mark.slow
def test_all_figures_are_written_twice_the_same(project: ProjectConfig) -> None:
    assert figures.run(project) == 0
    folder = project.workspace / "figures"
    assert {path.name for path in folder.iterdir()} == {f"{name}.{kind}" for name in NAMES for kind in ("pdf", "png")}
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert figures.run(project) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    for name in NAMES:
        assert first[f"{name}.pdf"].startswith(b"%PDF")
        image = Image.open(folder / f"{name}.png").convert("RGB")
        assert image.width > 1000
        colours = image.getcolors(1 << 24)
        assert colours is not None
        assert len(colours) > 50


@pytest.mark.slow
def test_labels_are_drawn_if_given(project: ProjectConfig) -> None:
    table = project.workspace / "mine.csv"
    names = read_catalog(project.catalog_path).table["plateifu"]
    pd.DataFrame({"plateifu": names, "kind": np.where(np.arange(len(names)) < 4, "agn", "")}).to_csv(table)
    catalog = read_catalog(project.catalog_path)
    drawn = figures.label_figures(catalog, table, label="kind", bpt=None, key="plateifu")
    assert set(drawn) == {"label_scores", "label_umap"}
    legend = drawn["label_umap"].axes[0].get_legend().get_texts()
    assert [text.get_text() for text in legend] == ["all (15)", "agn (4)"]


def test_a_label_that_no_galaxy_has_is_named(project: ProjectConfig, tmp_path: Path) -> None:
    catalog = read_catalog(project.catalog_path)
    path = tmp_path / "mergers.csv"
    path.write_text("plateifu,P\n" + "".join(f"{name},0.2\n" for name in catalog.table["plateifu"]))
    with pytest.raises(CommandError, match="no galaxy of the catalog has a label by the threshold P > 0"):
        label_figures(catalog, path, label="P>0.5", bpt=None, key="plateifu")


def test_columns_of_labels_without_a_table_are_refused(tmp_path: Path) -> None:
    arguments = ["figures", "demo", "--set", f"workspace={tmp_path}", "--label", "kind", "--key", "name"]
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 2
    assert "--label, --key: ignored without a table of labels; expected --labels TABLE, too" in result.output


def test_a_catalog_of_another_store_is_refused(project: ProjectConfig, tmp_path: Path) -> None:
    other = make_project(tmp_path)
    arguments = ["figures", "demo", "--set", f"workspace={project.workspace}"]
    store = tmp_path / "windows.zarr"
    path = store / "zarr.json"
    path.write_text(path.read_text().replace('"identity": "', '"identity": "0'))
    result = CliRunner().invoke(cli.main, [*arguments, "--set", f"prepare.store={other.store_path}"])
    assert result.exit_code == 2
    assert "is the catalog of another store" in result.output


def test_maps_and_spectra_leave_out_what_is_masked() -> None:
    flux = np.ones((1, 2, 3, 4, 4), np.float32)
    flux[0, 1, :, 0, 0] = [2, 4, 1e9]
    mask = np.zeros(flux.shape, np.uint8)
    mask[0, 1, 2, 0, 0] = 1
    mask[0, 1, :, 3, 3] = 1
    mask[0, 0, 1] = 1
    flux[mask > 0] = np.nan
    windows = Windows(flux, np.ones_like(flux), mask, np.array(["8000-1"]), np.array([0]))
    found = line_map(windows, 1)
    assert found[0, 0] == 3
    assert np.isnan(found[3, 3])
    assert np.nansum(found) == 3 + 14
    np.testing.assert_array_equal(line_spectra(windows, [0]), [[16, np.nan, 16]])
    np.testing.assert_array_equal(line_spectra(windows, [1]), [[16, 18, 14]])


def test_the_histogram_holds_every_finite_score_of_a_label() -> None:
    score = np.r_[np.nan, np.geomspace(0.01, 10, 99)]
    figure = score_histogram(score, {"agn": np.arange(100) < 11}, "score")
    axes = figure.axes[0]
    everyone, labelled = axes.containers[0], axes.patches[-1]
    assert sum(bar.get_height() for bar in everyone) == pytest.approx(1)
    assert axes.get_xscale() == "log"
    assert "agn (10)" in [text.get_text() for text in axes.get_legend().get_texts()]
    assert labelled.get_path().vertices[:, 1].max() > 0
