"""Values that cannot be are recorded and flagged, and what is nothing at all is set aside."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from cubeprep.cluster import DaskConfig
from cubeprep.cube import Planes
from cubeprep.plausible import doubts, flux_level, noise_deviations, noise_ratio, signal_share, survey_doubts
from cubeprep.prepare import prepare
from cubeprep.prepare_config import PrepareConfig
from cubeprep.store import WindowStore
from cubeprep.survey import SurveyConfig
from cubeprep.windows import LineWindows, WindowConfig
from tests.logcube import cube_hdus, write_gzipped, write_survey

CONFIG = PrepareConfig(windows=WindowConfig(size=8), dask=DaskConfig(num_workers=0), galaxies_per_shard=4)
NAMES = [f"8000-{i}" for i in range(9)]


@pytest.mark.parametrize("truth", [0.1, 1.0, 10.0])
def test_the_ratio_is_the_scatter_over_the_stated_errors(truth: float) -> None:
    rng = np.random.default_rng(0)
    sigma = rng.uniform(0.5, 2, (20, 12, 11))
    flux = 100 + truth * rng.normal(0, sigma)
    mask = (rng.random(flux.shape) < 0.1).astype(np.uint8)
    planes = Planes(np.where(mask, 1e30, flux), np.where(mask, 0, sigma**-2), mask)
    found = noise_ratio([noise_deviations(planes, np.arange(0, 20)), noise_deviations(planes, np.arange(12, 20))])
    assert found == pytest.approx(truth, rel=0.05)
    assert np.isnan(noise_ratio([noise_deviations(planes, np.arange(1))]))
    assert np.isnan(noise_ratio([]))


def windows(lines: dict[int, float], num: int = 4) -> LineWindows:
    """Noise of sigma 1 in all lines, and so much flux in some."""
    flux = np.random.default_rng(1).normal(0, 1, (num, 10, 6, 5))
    for line, value in lines.items():
        flux[line, 5] += value
    return LineWindows(flux, np.ones_like(flux), np.zeros(flux.shape, dtype=np.uint8))


def test_lines_with_a_signal_are_counted_among_the_covered() -> None:
    assert signal_share(windows({})) == 0
    found = windows({0: 3.0, 2: -3.0})
    assert signal_share(found) == 0.5
    found.mask[1], found.flux[1], found.ivar[1] = 2, np.nan, 0
    assert signal_share(found) == pytest.approx(2 / 3)
    found.mask[:] = 1
    assert np.isnan(signal_share(found))
    assert flux_level(windows({})) == pytest.approx(1.645, abs=0.1)


def test_doubts_are_in_words() -> None:
    assert doubts(1.0, 0.5) == doubts(float("nan"), 0.1) == doubts(0.31, 1.0) == doubts(2.9, 1.0) == ""
    assert "noise between lines is 31.6 times the stated errors, expected 0.3 to 3" in doubts(31.6, 1.0)
    assert doubts(0.2, 0.0).endswith("; no line has a signal of 5 sigma")


def test_brightness_is_compared_within_the_survey() -> None:
    levels = dict(zip(NAMES, 10 ** np.linspace(-0.6, 0.6, 9), strict=True))
    assert survey_doubts(levels) == {}
    found = survey_doubts(levels | {"bright": 1000.0, "faint": 1e-3, "none": 0.0})
    assert found["bright"] == "flux is 1e+03 times above the survey's median"
    assert set(found) == {"bright", "faint"}
    wide = dict(zip(NAMES, 10 ** np.linspace(-3, 3, 9), strict=True))
    assert set(survey_doubts(wide)) == {NAMES[0], NAMES[-1]}, "a factor of 1,000 is never the scatter of a survey"
    spread = dict(zip(range(30), 10 ** np.linspace(-0.6, 0.6, 30), strict=True))  # 4.5 robust sigmas are 2.0 dex
    spread = {f"1-{i}": level for i, level in spread.items()}
    assert survey_doubts(spread | {"far": 10**1.8}) == {}
    assert set(survey_doubts(spread | {"far": 10**2.3})) == {"far"}
    few = {name: levels[name] for name in NAMES[:5]}
    assert survey_doubts(few | {"bright": 1000.0}) == {}


def changed(root: Path, name: str, change: Callable[[fits.HDUList], None]) -> None:
    (path,) = root.rglob(f"manga-{name}-LOGCUBE.fits.gz")
    hdus = cube_hdus(0.03, size=9, seed=int(name[-1]))
    change(hdus)
    write_gzipped(hdus, path)


@pytest.mark.slow
def test_a_survey_with_implausible_galaxies_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_survey(tmp_path / "survey", dict.fromkeys(NAMES, 0.03), size=9)

    def bright(hdus: fits.HDUList) -> None:
        hdus["FLUX"].data *= 1000
        hdus["IVAR"].data /= 1000**2

    def sure(hdus: fits.HDUList) -> None:
        hdus["IVAR"].data *= 100

    def nothing(hdus: fits.HDUList) -> None:
        hdus["FLUX"].data[:] = 0

    def absurd(hdus: fits.HDUList) -> None:
        hdus["FLUX"].data *= 1e30

    for name, change in (("8000-1", bright), ("8000-2", sure), ("8000-3", nothing), ("8000-4", absurd)):
        changed(root, name, change)
    names = {f"9000-{i}": 0.03 for i in range(4)}
    (root / "drpall.fits").unlink()
    root = write_survey(root.parent / "more", dict.fromkeys(NAMES, 0.03) | names, size=9)
    for name in NAMES[1:5]:
        (old,), (new,) = ((tmp_path / kind).rglob(f"manga-{name}-LOGCUBE.fits.gz") for kind in ("survey", "more"))
        new.write_bytes(old.read_bytes())
    with caplog.at_level(logging.WARNING):
        summary = prepare(CONFIG, SurveyConfig(root=str(root)), str(tmp_path / "s.zarr"), seed=3)
    table = WindowStore.open(str(tmp_path / "s.zarr")).galaxies().set_index("plateifu")
    assert summary["implausible"] == 2
    assert table.loc["8000-1", "implausible"] == "flux is 1e+03 times above the survey's median"
    assert table.loc["8000-2", "implausible"].startswith("noise between lines is 10")
    assert table["code"].to_dict() | {"8000-3": "no_flux", "8000-4": "implausible"} == table["code"].to_dict()
    assert (table["code"] != "").sum() == 2
    normal = table.drop(index=NAMES[1:5])
    assert (normal["implausible"] == "").all()
    assert normal["noise_ratio"].between(0.9, 1.1).all()
    assert (normal["signal_share"] == 1).all()
    assert "implausible values in 2 galaxies (8000-1, 8000-2)" in caplog.text


def test_maps_and_windows_without_sidebands_have_no_noise_ratio(tmp_path: Path) -> None:
    root = write_survey(tmp_path / "survey", {"8000-1": 0.03}, size=9)
    unchecked = CONFIG.model_copy(update={"redshift": CONFIG.redshift.model_copy(update={"check": False})})
    prepare(unchecked, SurveyConfig(root=str(root)), str(tmp_path / "s.zarr"), seed=3)
    store = WindowStore.open(str(tmp_path / "s.zarr"))
    table = store.galaxies()
    assert table["noise_ratio"].isna().all()
    assert (table["signal_share"] == 1).all()
    windows = store.read_galaxy("8000-1")
    snr = np.abs(windows.flux[windows.good]) * np.sqrt(windows.ivar[windows.good])
    assert table["median_snr"][0] == pytest.approx(np.median(snr), rel=1e-6)


def test_records_of_earlier_versions_are_finished(tmp_path: Path) -> None:
    root, path = write_survey(tmp_path / "survey", {"8000-1": 0.03}, size=9), tmp_path / "s.zarr"
    prepare(CONFIG, SurveyConfig(root=str(root)), str(path), seed=3)
    (record,) = (path / "records").iterdir()
    old = [{name: value for name, value in row.items() if name in OLD} for row in json.loads(record.read_text())]
    record.write_text(json.dumps(old))
    (path / "summary.json").unlink()
    assert prepare(CONFIG, SurveyConfig(root=str(root)), str(path), seed=3)["implausible"] == 0


OLD = {"plateifu", "code", "reason", "covered", "median_snr", "z_used", "z_offset_kms", "z_offset_snr", "z_flag"}
OLD |= {"velocity", "source_checksum"}
