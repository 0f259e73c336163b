"""Equivalent widths and line ratios of windows with known fluxes and continuum."""

from typing import Any

import numpy as np
import pytest

from cubeprep.cube import Planes, screened
from cubeprep.extract import _plan as plan_lines
from cubeprep.extract import extract_windows
from cubeprep.line_ratios import COLUMNS, _flux, covariance, described, line_ratios
from cubeprep.windows import Continuum, LineWindows, WindowConfig

CONFIG = WindowConfig(num_samples=20, size=8)
Z = 0.05
FLUXES = {"Ha-6564": 30.0, "NII-6585": 10.0, "Hb-4862": 10.0, "OIII-5008": 40.0}
LEVEL = 2.0


def windows(fluxes: dict[str, float] = FLUXES, sigma: float = 0.01) -> tuple[LineWindows, Continuum]:
    """Lines of 20 samples (69 km/s each), whose flux lies in the two central ones; far samples hold another line."""
    shape = (len(CONFIG.line_names), 20, 8, 8)
    flux = np.zeros(shape, dtype=np.float32)
    for name, total in fluxes.items():
        k = CONFIG.line_names.index(name)
        wave = CONFIG.line_list[k].rest_wave * (1 + Z) * 10**CONFIG.offsets_dex
        width = wave * np.log(10) * CONFIG.step_dex
        flux[k, 9:11] = (total / 2 / width[9:11])[:, None, None]
        flux[k, 0] = 100.0  # 650 km/s away
    ivar = np.full(shape, sigma**-2, dtype=np.float32)
    mask = np.zeros(shape, dtype=np.uint8)
    level = np.full((shape[0], 8, 8), LEVEL, dtype=np.float32)
    return LineWindows(flux, ivar, mask), Continuum(level, np.full_like(level, 100.0), np.ones((8, 8), dtype=bool))


def test_widths_and_ratios_are_those_of_the_lines() -> None:
    found = line_ratios(*windows(), CONFIG, Z, 3.0)
    for aperture in ("", "_centre", "_re"):
        assert found[f"ew_ha{aperture}_angstrom"] == pytest.approx(30 / LEVEL / (1 + Z), rel=1e-5)
        assert found[f"ew_oiii{aperture}_angstrom"] == pytest.approx(40 / LEVEL / (1 + Z), rel=1e-5)
        assert found[f"log_nii_ha{aperture}"] == pytest.approx(np.log10(1 / 3), abs=1e-5)
        assert found[f"log_oiii_hb{aperture}"] == pytest.approx(np.log10(4), abs=1e-5)
    # 14 samples of 1.6 Angstrom and 0.01 each, in 4 spaxels of the centre and 64 of the whole window.
    assert found["ew_ha_centre_angstrom_error"] == pytest.approx(4 * found["ew_ha_angstrom_error"], rel=1e-4)
    error = np.sqrt(14) * 1.587 * 0.01 / 8 / LEVEL / (1 + Z)
    assert found["ew_ha_angstrom_error"] == pytest.approx(error, rel=0.02)


def test_the_error_of_the_stars_does_not_average_out() -> None:
    made, continuum = windows()
    share = np.full(len(CONFIG.line_list), 0.008)
    noise, both = line_ratios(made, continuum, CONFIG, Z, 3.0), line_ratios(made, continuum, CONFIG, Z, 3.0, share)
    # 14 samples of 1.587 Angstrom, in units of the continuum itself.
    shared = 0.008 * 14 * 1.587 / (1 + Z)
    for aperture in ("", "_centre", "_re"):
        column = f"ew_ha{aperture}_angstrom_error"
        assert both[column] == pytest.approx(np.hypot(noise[column], shared), rel=2e-3)
    assert both["log_oiii_hb_error"] > 5 * noise["log_oiii_hb_error"]
    continuum.stars[:] = False
    assert line_ratios(made, continuum, CONFIG, Z, 3.0, share) == noise, "no model was subtracted"


def test_errors_of_ratios_are_the_scatter_of_noisy_galaxies() -> None:
    rng, values, stated = np.random.default_rng(0), [], []
    for _ in range(200):
        made, continuum = windows(sigma=2.0)
        noisy = LineWindows(made.flux + rng.normal(0, 2.0, made.flux.shape), made.ivar, made.mask)
        found = line_ratios(noisy, continuum, CONFIG, Z, float("nan"))
        values.append(found["log_oiii_hb"])
        stated.append(found["log_oiii_hb_error"])
        assert found["log_oiii_hb_re"] is None, "the effective radius is unknown"
    assert np.std(values) == pytest.approx(np.mean(stated), rel=0.2)


@pytest.mark.parametrize("continuum", ["sidebands", "none"])
@pytest.mark.parametrize("sampling", ["conserve", "nearest"])
def test_samples_of_a_line_share_noise(sampling: Any, continuum: Any) -> None:
    """The scatter of the flux of a line over spaxels of white noise is the stated error."""
    size, z = 40, 0.0312
    wave = 10 ** (3.6 + 1e-4 * np.arange(2400)) if sampling == "nearest" else 4700 + 1.25 * np.arange(2200)

    class Noise:
        def __init__(self) -> None:
            self.wave = wave

        def read(self, planes: np.ndarray, side: int | None) -> Planes:
            values = np.random.default_rng(0).normal(0, 2, (len(planes), size, size)).astype(np.float32)
            nowhere = np.zeros((1, 1, 1), dtype=bool)
            return screened(values, np.full(values.shape, 0.25, "f4"), nowhere, nowhere[0], 0.5)

    lines = ("Ha-6564", "OIII-5008")
    config = WindowConfig(lines=lines, num_samples=20, size=size, sampling=sampling, continuum=continuum)
    found = extract_windows([Noise()], z, config)
    planned = plan_lines([Noise()], z, config)
    for number, cut in enumerate(planned):
        flux = _flux(found.windows, config, cut.line, np.zeros((size, size)), number, z)
        factor = covariance(cut.sampling, cut.bands, cut.line, config)
        assert found.covariance is None or found.covariance[number] == factor
        assert flux.flux.std() == pytest.approx(np.sqrt(factor * flux.variance.mean()), rel=0.06)
        assert (factor == pytest.approx(1)) == ((sampling, continuum) == ("nearest", "none"))


def test_faint_and_uncovered_lines_have_no_ratio() -> None:
    made, continuum = windows({"Ha-6564": 30.0, "NII-6585": 0.0, "OIII-5008": 40.0, "Hb-4862": 10.0})
    found = line_ratios(made, continuum, CONFIG, Z, 3.0)
    assert found["log_nii_ha"] is None
    assert found["log_oiii_hb"] is not None
    made.mask[CONFIG.line_names.index("Hb-4862")] = 2
    found = line_ratios(made, continuum, CONFIG, Z, 3.0)
    assert found["log_oiii_hb"] is None
    assert found["ew_oiii_angstrom"] is not None
    without = WindowConfig(lines=("Hb-4862",), num_samples=20, size=8)
    one = LineWindows(*(values[:1] for values in (made.flux, made.ivar, made.mask)))
    assert set(line_ratios(one, continuum, without, Z, 3.0).values()) == {None}


def test_a_bad_spaxel_counts_in_neither_flux_nor_continuum() -> None:
    made, continuum = windows()
    k = CONFIG.line_names.index("Ha-6564")
    made.flux[k, 10, 0, 0], made.mask[k, 10, 0, 0] = np.nan, 1
    found = line_ratios(made, continuum, CONFIG, Z, 3.0)
    assert found["ew_ha_angstrom"] == pytest.approx(30 / LEVEL / (1 + Z), rel=1e-5)


def test_each_column_is_described() -> None:
    text = described()
    assert tuple(text) == COLUMNS
    assert text["ew_ha_re_angstrom_error"] == (
        "Uncertainty: Rest-frame equivalent width of Halpha, positive in emission, within one Re",
        "Angstrom",
    )
    assert len({words for words, _ in text.values()}) == len(COLUMNS)
