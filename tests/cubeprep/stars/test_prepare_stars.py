"""`prepare` with stars subtracted: the continuum in the store, the DAP's model cubes, and what cannot be done."""

from pathlib import Path

import numpy as np
import pytest

from cubeprep.cluster import DaskConfig
from cubeprep.config import ConfigError
from cubeprep.prepare import prepare
from cubeprep.prepare_config import PrepareConfig
from cubeprep.store import StoreError, WindowStore
from cubeprep.survey import SurveyConfig
from cubeprep.windows import WindowConfig
from tests.logcube import WAVE, cube_hdus, line_spectrum, write_drpall, write_gzipped, write_survey
from tests.maps import maps_hdus, write_maps
from tests.model_cubes import model_hdus, write_model
from tests.synthetic import synthetic_store

Z, SIZE = 0.03, 8


def prepared(survey: SurveyConfig, path: Path, continuum: str, views: int = 2, **config: object) -> WindowStore:
    windows = WindowConfig(size=SIZE, continuum=continuum)
    job = PrepareConfig(windows=windows, dask=DaskConfig(num_workers=0), augment={"num_views": views}, **config)
    prepare(job, survey, str(path), seed=0)
    return WindowStore.open(str(path))


@pytest.fixture(scope="module")
def starry(tmp_path_factory: pytest.TempPathFactory) -> SurveyConfig:
    """Three galaxies of a red continuum with an absorption at Hbeta; the model cube of one, without one spaxel."""
    root = tmp_path_factory.mktemp("dap")
    absorption = 1 - 0.5 * np.exp(-0.5 * ((WAVE / (1 + Z) - 4862.7) / 6) ** 2)
    stars = (WAVE / 5000)[:, None, None] * absorption[:, None, None] * np.ones((SIZE, SIZE))
    lines = line_spectrum(WAVE, Z)[:, None, None] * np.ones((SIZE, SIZE))
    names = ["8000-1", "8000-2", "8000-3"]
    for seed, name in enumerate(names):
        hdus = cube_hdus(Z, size=SIZE, seed=seed, sigma=0.01)
        noise = np.random.default_rng(seed).normal(0, 0.01, stars.shape)
        hdus["FLUX"].data[:] = np.where(hdus["IVAR"].data > 0, stars + lines + noise, 0)
        write_gzipped(hdus, root / "cubes" / f"manga-{name}-LOGCUBE.fits.gz")
    write_drpall(root / "cubes", [(name, f"7-{name}", Z) for name in names])
    bins = np.arange(SIZE**2).reshape(SIZE, SIZE)
    bins[4, 5] = -1
    for name in names[:2]:
        write_model(root / "models", model_hdus(stars, lines, bins, plateifu=name))
    write_maps(root / "models", maps_hdus(np.zeros((SIZE, SIZE)), np.zeros((SIZE, SIZE), dtype=bool), z=Z))
    return SurveyConfig(root=str(root / "cubes"), maps_root=str(root / "models"))


def hbeta(store: WindowStore, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Flux of Hbeta, 1e-17 erg/s/cm2, and mask, both [y, x]."""
    config = WindowConfig(size=SIZE)
    line, wave = config.line_names.index("Hb-4862"), 4862.69 * (1 + Z) * 10**config.offsets_dex
    windows = store.read_galaxy(name)
    width = wave[:, None, None] * np.log(10) * config.step_dex
    return (windows.flux[0, line] * width).sum(axis=0), windows.mask[0, line].any(axis=0)


def test_the_daps_stars_are_subtracted_and_sidebands_alone_keep_half_of_hbeta(
    starry: SurveyConfig, tmp_path: Path
) -> None:
    store = prepared(starry, tmp_path / "dap", "dap")
    table = store.galaxies().set_index("plateifu")
    assert table["code"].to_dict() == {"8000-1": "", "8000-2": "", "8000-3": "no_model"}
    assert "no model cube of 8000-3" in table.loc["8000-3", "reason"]
    assert "LOGCUBE-HYB10" in table.loc["8000-1", "source"]
    assert "MAPS" not in table.loc["8000-1", "source"], "velocities are not asked for"
    flux, masked = hbeta(store, "8000-1")
    modelled = ~masked
    modelled[4, 5] = False
    assert np.median(flux[modelled]) == pytest.approx(20, rel=0.03)
    sidebands, _ = hbeta(prepared(starry, tmp_path / "sidebands", "sidebands"), "8000-1")
    assert np.median(sidebands[modelled]) < 15
    assert flux[4, 5] == pytest.approx(sidebands[4, 5], rel=1e-5), "a spaxel without a model has its sidebands"


def test_the_continuum_of_each_galaxy_is_kept_once(starry: SurveyConfig, tmp_path: Path) -> None:
    store = prepared(starry, tmp_path / "s", "dap", galaxies_per_shard=1)
    held = {}
    for split in store.splits:
        for shard in range(store.num_shards(split)):
            names = store.read_shard(split, shard).observed.plateifu
            held |= dict(zip(names.tolist(), store.read_continuum(split, shard), strict=True))
    assert sorted(held) == ["8000-1", "8000-2"]
    continuum, line = held["8000-1"], WindowConfig().line_names.index("Ha-6564")
    good = np.isfinite(continuum.flux[line])
    assert np.median(continuum.flux[line][good]) == pytest.approx(6564.6 * (1 + Z) / 5000, rel=0.02)
    assert (continuum.ivar[line] > 0).sum() == good.sum()
    assert not continuum.stars[4, 5]
    assert continuum.stars[3, 3]
    where = tmp_path / "s" / store.splits[0] / "continuum" / "c" / "0" / "0" / "0" / "0"
    content = bytearray(where.read_bytes())
    content[len(content) // 2] ^= 255
    where.write_bytes(content)
    with pytest.raises(StoreError, match=r"continuum/c/0/0/0/0: damaged"):
        WindowStore.open(str(tmp_path / "s")).read_continuum(store.splits[0], 0)


def test_a_store_without_continuum_says_so(starry: SurveyConfig, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no continuum"):
        prepared(starry, tmp_path / "s", "none").read_continuum("train", 0)
    made = synthetic_store(tmp_path / "synthetic")
    assert not made.has_continuum


def test_a_store_of_format_1_is_read_but_not_resumed(tmp_path: Path) -> None:
    survey = SurveyConfig(root=str(write_survey(tmp_path / "cubes", {"1-1": Z, "1-2": Z}, size=SIZE)))
    store = prepared(survey, tmp_path / "s", "none")
    metadata = tmp_path / "s" / "zarr.json"
    metadata.write_text(metadata.read_text().replace('"format_version": 2', '"format_version": 1'))
    old = WindowStore.open(str(tmp_path / "s"))
    assert len(old.read_shard("train", 0)) == len(store.read_shard("train", 0))
    assert not old.has_continuum
    with pytest.raises(StoreError, match="of format 1, which can be read but not resumed"):
        prepared(survey, tmp_path / "s", "none")


@pytest.mark.slow
def test_a_rerun_after_an_interruption_makes_the_same_bytes(
    starry: SurveyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(starry, tmp_path / "whole", "stars", galaxies_per_shard=1)
    write, calls = WindowStore.write_continuum, []

    def interrupted(self: WindowStore, *arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(WindowStore, "write_continuum", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepared(starry, tmp_path / "resumed", "stars", galaxies_per_shard=1)
    prepared(starry, tmp_path / "resumed", "stars", galaxies_per_shard=1)
    whole, resumed = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "whole", tmp_path / "resumed")
    )
    assert whole == resumed
    assert any("stars" in path.parts for path in whole)


def test_what_has_no_spectra_or_no_models_is_refused_before_a_file_is_read(
    starry: SurveyConfig, tmp_path: Path
) -> None:
    lacking = starry.model_copy(update={"maps_root": None})
    with pytest.raises(ConfigError, match=r"dap needs survey.maps_root"):
        prepared(lacking, tmp_path / "a", "dap")
    sami = SurveyConfig(reader="sami", root=str(tmp_path))
    with pytest.raises(ConfigError, match="sami has no model cubes, manga-logcube has; set it to stars"):
        prepared(sami, tmp_path / "b", "dap")
    maps = SurveyConfig(reader="manga-maps", root=str(tmp_path))
    with pytest.raises(ConfigError, match="manga-maps has no spectra to fit stars to"):
        prepared(maps, tmp_path / "c", "stars")
