import re
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf

from cubeprep.cube import Planes, Rejected, screened
from cubeprep.extract import extract_windows as extract
from cubeprep.lines import LINES_BY_NAME, PAPER_LINES, SPEED_OF_LIGHT_KMS, air_to_vacuum
from cubeprep.masks import WINDOW_MASK_BITS as BITS
from cubeprep.sampling import check_grid, pixel_edges, sample_line
from cubeprep.windows import LineWindows, WindowConfig
from tests.logcube import WAVE

HA = LINES_BY_NAME["Ha-6564"]
HA_ONLY = WindowConfig(lines=("Ha-6564",), size=8)


def extract_windows(arms: list["ArrayArm"], z: float, config: WindowConfig) -> LineWindows:
    return extract(arms, z, config).windows


@dataclass
class ArrayArm:
    """An arm whose spectra are in memory: flux, ivar and bad are [plane], the same in every spaxel."""

    wave: np.ndarray
    flux: np.ndarray
    ivar: np.ndarray | None = None
    bad: np.ndarray | None = None

    def read(self, planes: np.ndarray, size: int | None) -> Planes:
        size = size or 20

        def image(values: np.ndarray) -> np.ndarray:
            return np.broadcast_to(values[planes, None, None], (len(planes), size, size))

        ones = np.ones(len(self.wave))
        ivar, bad = ones if self.ivar is None else self.ivar, ones < 0 if self.bad is None else self.bad
        return screened(image(self.flux), image(ivar), image(bad), np.zeros((size, size), dtype=bool), 0.5)


def gaussian_mean(low: np.ndarray, high: np.ndarray, centre: float, sigma: float) -> np.ndarray:
    """Mean of a Gaussian of unit area between edges: the analytic answer of a sample."""
    scaled = [(edge - centre) / (np.sqrt(2) * sigma) for edge in (low, high)]
    return (erf(scaled[1]) - erf(scaled[0])) / 2 / (high - low)


def test_nearest_takes_the_planes_around_the_line() -> None:
    z = 0.03
    arm = ArrayArm(WAVE, np.arange(len(WAVE), dtype=float))
    window = extract_windows([arm], z, HA_ONLY).flux[0, :, 0, 0]
    assert np.array_equal(np.diff(window), np.ones(9))
    centre = np.interp(HA.rest_wave * (1 + z), WAVE, arm.flux)
    assert abs(window.mean() - centre) <= 0.5


def test_conserve_on_an_aligned_grid_is_nearest() -> None:
    z = WAVE[2700] * 10**0.5e-4 / HA.rest_wave - 1  # the middle of ten samples lies between two planes
    flux = np.random.default_rng(0).normal(size=len(WAVE))
    nearest, conserve = (
        extract_windows([ArrayArm(WAVE, flux)], z, HA_ONLY.model_copy(update={"sampling": sampling}))
        for sampling in ("nearest", "conserve")
    )
    np.testing.assert_allclose(conserve.flux, nearest.flux, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(conserve.ivar, nearest.ivar, rtol=1e-4)


def test_nearest_refuses_a_step_that_adds_up_to_planes() -> None:
    check_grid(WAVE, HA_ONLY, "cube")
    rebinned = WAVE[0] * np.exp(np.arange(len(WAVE)) * 69 / SPEED_OF_LIGHT_KMS)  # two planes off at its end
    with pytest.raises(Rejected, match=r"needs a wavelength grid of 0\.0001 dex a pixel; this one has 9\.99569e-05"):
        check_grid(rebinned, HA_ONLY, "cube")


@dataclass
class BlurredNoise:
    """An arm of noise with sigma 1 that neighbouring spaxels share, and errors that say so of each alone."""

    wave: np.ndarray

    def read(self, planes: np.ndarray, size: int | None) -> Planes:
        white = np.random.default_rng(4).normal(size=(len(planes), 33, 33))
        flux = (white[:, 1:, 1:] + white[:, :-1, 1:] + white[:, 1:, :-1] + white[:, :-1, :-1]) / 2
        nothing = np.zeros(flux.shape, dtype=bool)
        return screened(flux.astype(np.float32), np.ones_like(flux), nothing, nothing[0], 0.5)


def test_noise_that_spaxels_share_is_measured_on_the_binned_ones() -> None:
    crop, binned = (
        extract([BlurredNoise(WAVE)], 0.03, WindowConfig(lines=("Ha-6564",), continuum="sidebands", **grid))
        for grid in ({"size": 32}, {"size": 16, "space": "bin", "bin_factor": 2})
    )
    assert crop.noise_ratio == pytest.approx(1, rel=0.1)
    assert crop.remarks == ()
    # A sum of 2 x 2 spaxels holds white noise with weights (1, 2, 1) x (1, 2, 1) / 2: a variance of 9 in place of 4.
    assert binned.noise_ratio == pytest.approx(1.5, rel=0.1)
    assert re.fullmatch(
        r"noise of neighbouring spaxels is correlated: binned ones scatter by 1\.\d+ times what their errors say",
        binned.remarks[0],
    )


@pytest.mark.parametrize("z", [0.0, 0.0123, 0.08])
def test_a_gaussian_line_gives_its_analytic_window(z: float) -> None:
    config = WindowConfig(size=8, sampling="conserve")
    for i, line in enumerate(PAPER_LINES):
        centre, sigma = line.rest_wave * (1 + z), 3.0
        fine = np.unique([*range(3600, 10400), *(centre + np.linspace(-100, 100, 12_000))])  # near the line
        edges = pixel_edges(fine)
        window = extract_windows([ArrayArm(fine, gaussian_mean(edges[:-1], edges[1:], centre, sigma))], z, config)
        low, high = (centre * 10 ** (config.offsets_dex + sign * config.step_dex / 2) for sign in (-1, 1))
        expected = gaussian_mean(low, high, centre, sigma)
        np.testing.assert_allclose(window.flux[i, :, 0, 0], expected, rtol=1e-3, atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(
    z=st.floats(0.0, 0.08),
    step=st.floats(0.3, 4.0),
    start=st.floats(3500, 3700),
    num_samples=st.integers(1, 40),
    step_dex=st.floats(2e-5, 4e-4),
)
def test_conserve_keeps_the_flux(z: float, step: float, start: float, num_samples: int, step_dex: float) -> None:
    wave = np.arange(start, 10400, step)
    config = WindowConfig(lines=("Ha-6564",), size=8, sampling="conserve", num_samples=num_samples, step_dex=step_dex)
    rng = np.random.default_rng(num_samples)
    flux = rng.uniform(0.5, 2, len(wave))
    window = extract_windows([ArrayArm(wave, flux)], z, config)
    samples = HA.rest_wave * (1 + z) * 10 ** ((np.arange(num_samples + 1) - num_samples / 2) * step_dex)
    edges = pixel_edges(wave)
    cumulative = np.concatenate([[0], np.cumsum(flux * np.diff(edges))])
    expected = np.diff(np.interp(samples[[0, -1]], edges, cumulative))[0]
    got = (window.flux[0, :, 0, 0].astype(float) * np.diff(samples)).sum()
    assert got == pytest.approx(expected, rel=1e-5)


@settings(deadline=None)
@given(z=st.floats(0, 0.08), coarser=st.floats(1, 3))
def test_samples_no_finer_than_planes_correlate_by_half_at_most(z: float, coarser: float) -> None:
    config = WindowConfig(sampling="conserve", step_dex=coarser * 1e-4)
    weights = sample_line(WAVE, config.line_list[-1], z, config).weights
    covariance = weights @ weights.T  # of planes with independent noise of one width
    sigma = np.sqrt(np.diag(covariance))
    correlation = covariance / sigma[:, None] / sigma
    assert np.abs(correlation - np.eye(len(sigma))).max() <= 0.5 + 1e-3
    assert np.abs(np.triu(correlation, 2)).max() < 1e-9, "only neighbours share a plane"


def test_variance_is_that_of_the_weighted_mean() -> None:
    rng = np.random.default_rng(1)
    wave = np.arange(6000, 7200, 0.6)
    config = HA_ONLY.model_copy(update={"sampling": "conserve"})
    noise = rng.normal(0, 2.0, (400, len(wave)))
    windows = [extract_windows([ArrayArm(wave, row, np.full(len(wave), 0.25))], 0.02, config) for row in noise]
    measured = np.var([window.flux[0, :, 0, 0] for window in windows], axis=0)
    np.testing.assert_allclose(measured * windows[0].ivar[0, :, 0, 0], 1, atol=0.3)
    assert (measured * windows[0].ivar[0, :, 0, 0]).mean() == pytest.approx(1, abs=0.08)


def test_a_line_between_two_arms_is_cut_from_the_one_that_holds_more_of_it() -> None:
    arms = [ArrayArm(np.arange(low, high, 0.5), np.full(2000, flux)) for low, high, flux in BLUE_AND_RED]
    config = WindowConfig(lines=("Ha-6564", "SII-6718"), size=8, sampling="conserve", min_lines=1)
    for order in (arms, arms[::-1]):
        windows = extract_windows(order, 0.0, config)
        good = windows.mask[0, :, 0, 0] == 0
        assert 6 <= good.sum() < 10
        np.testing.assert_allclose(windows.flux[0, good], 2)


BLUE_AND_RED = ((5560.5, 6560.5, 1.0), (6560.5, 7560.5, 2.0))  # three of ten samples of Halpha in the blue


def test_a_line_out_of_range_is_masked_and_never_zero() -> None:
    wave = WAVE[WAVE < 6800]
    config = WindowConfig(size=8, min_lines=17)
    windows = extract_windows([ArrayArm(wave, np.ones(len(wave)))], 0.02, config)
    out = [line.rest_wave * 1.02 > 6800 for line in PAPER_LINES]
    assert sum(out) == 2
    assert (windows.mask[out] == BITS["NOCOVERAGE"]).all()
    assert np.isnan(windows.flux[out]).all()
    assert (windows.ivar[out] == 0).all()
    assert (windows.flux[~np.array(out)] == 1).all()


def test_too_few_lines_in_range_rejects_the_galaxy() -> None:
    arm = ArrayArm(WAVE, np.ones(len(WAVE)))
    with pytest.raises(Rejected, match=r"no_coverage.*z = 0\.60000.*SII-6732"):
        extract_windows([arm], 0.6, WindowConfig(size=8))


@pytest.mark.parametrize("sampling", ["nearest", "conserve"])
def test_bad_planes_mask_their_samples_and_leak_nothing(sampling: str) -> None:
    z = 0.02
    config = HA_ONLY.model_copy(update={"sampling": sampling})
    centre = int(np.argmin(abs(WAVE - HA.rest_wave * (1 + z))))
    clean = ArrayArm(WAVE, np.ones(len(WAVE)))
    bad = np.zeros(len(WAVE), dtype=bool)
    bad[centre] = True
    for value in (1e30, np.nan, -np.inf):
        flux = np.where(bad, value, 1.0)
        got = extract_windows([ArrayArm(WAVE, flux, bad=bad)], z, config)
        want = extract_windows([clean], z, config)
        masked = got.mask[0, :, 0, 0] > 0
        assert 1 <= masked.sum() <= 2
        assert np.isnan(got.flux[0, masked]).all()
        assert (got.ivar[0, masked] == 0).all()
        assert np.array_equal(got.flux[0, ~masked], want.flux[0, ~masked])


def test_sidebands_remove_a_sloping_continuum_and_add_its_variance() -> None:
    z = 0.04
    config = HA_ONLY.model_copy(update={"sampling": "conserve", "continuum": "sidebands"})
    continuum = 5 + 0.01 * (WAVE - 6800)
    centre = HA.rest_wave * (1 + z)
    line = np.exp(-0.5 * ((WAVE - centre) / 1.5) ** 2)
    plain = config.model_copy(update={"continuum": "none"})
    got = extract_windows([ArrayArm(WAVE, continuum + line)], z, config)
    want = extract_windows([ArrayArm(WAVE, line)], z, plain)
    np.testing.assert_allclose(got.flux, want.flux, atol=2e-3)
    assert (got.ivar < want.ivar).all()
    assert (got.ivar > 0.9 * want.ivar).all()


def test_the_variance_of_a_continuum_is_that_of_a_line_through_two_means() -> None:
    z, config = 0.04, HA_ONLY.model_copy(update={"continuum": "sidebands"})
    got = extract_windows([ArrayArm(WAVE, np.ones(len(WAVE)))], z, config)
    edges = [np.array(band) * (1 + z) for band in (HA.blueside, HA.redside)]
    num_blue, num_red = (((low <= WAVE) & (high > WAVE)).sum() for low, high in edges)
    wave = HA.rest_wave * 10**config.offsets_dex
    share = (wave - np.mean(HA.blueside)) / (np.mean(HA.redside) - np.mean(HA.blueside))
    expected = 1 + (1 - share) ** 2 / num_blue + share**2 / num_red
    np.testing.assert_allclose(1 / got.ivar[0, :, 0, 0], expected, rtol=1e-5)


def test_sidebands_out_of_range_mask_the_line() -> None:
    wave = WAVE[WAVE < 6600 * 1.04]
    config = HA_ONLY.model_copy(update={"continuum": "sidebands"})
    windows = extract_windows([ArrayArm(wave, np.ones(len(wave)))], 0.04, config)
    assert (windows.mask == BITS["NOCOVERAGE"]).all()


def test_each_line_comes_from_the_arm_that_covers_it() -> None:
    blue, red = np.arange(3700, 5700, 0.9), np.arange(6200, 7400, 0.5)
    config = WindowConfig(size=8, sampling="conserve", min_lines=1)
    windows = extract_windows(
        [ArrayArm(blue, np.full(len(blue), 2.0)), ArrayArm(red, np.full(len(red), 3.0))], 0.03, config
    )
    value = {name: flux[5, 0, 0] for name, flux in zip(config.line_names, windows.flux, strict=True)}
    assert value["Hb-4862"] == pytest.approx(2)
    assert value["Ha-6564"] == pytest.approx(3)
    assert np.isnan(value["HeI-5877"])


def test_nearest_refuses_a_linear_grid() -> None:
    with pytest.raises(Rejected, match=r"bad_wave: cube.*sampling=conserve"):
        check_grid(np.arange(3600, 9000, 1.0), WindowConfig(), "cube")
    check_grid(WAVE, WindowConfig(), "cube")


def test_air_to_vacuum_gives_the_dap_wavelengths() -> None:
    # Air wavelengths of NIST for Halpha, [O III], Hbeta against the vacuum list of the DAP.
    vacuum = air_to_vacuum(np.array([6562.819, 5006.843, 4861.333]))
    np.testing.assert_allclose(vacuum, [6564.632, 5008.240, 4862.691], atol=0.02)


def test_unknown_and_repeated_lines_are_config_mistakes() -> None:
    with pytest.raises(ValueError, match="unknown lines"):
        WindowConfig(lines=("Ha-6564", "Lya"))
    with pytest.raises(ValueError, match="named twice"):
        WindowConfig(lines=("Ha-6564", "Ha-6564"))


@pytest.mark.parametrize(
    ("given", "num_samples", "step_dex"),
    [
        ({"half_width_kms": 345.0}, 10, 1e-4),
        ({"half_width_kms": 600.0}, 17, 1e-4),
        ({"half_width_kms": 10.0}, 1, 1e-4),
        ({"half_width_kms": 345.0, "step_dex": 0.5e-4}, 20, 0.5e-4),
        ({"half_width_kms": "1e3", "num_samples": 20, "sampling": "conserve"}, 20, 1.44865046e-4),
    ],
)
def test_a_half_width_sets_the_samples_or_the_step(given: dict, num_samples: int, step_dex: float) -> None:
    config = WindowConfig(**given)
    assert config.num_samples == num_samples
    assert config.step_dex == pytest.approx(step_dex, rel=1e-6)
    half_width = num_samples * step_dex * np.log(10) * SPEED_OF_LIGHT_KMS / 2
    if "num_samples" in given:
        assert half_width == pytest.approx(1000, rel=1e-6)
    else:
        assert abs(half_width - given["half_width_kms"]) <= step_dex * np.log(10) * SPEED_OF_LIGHT_KMS / 2
    again = WindowConfig.model_validate(config.model_dump(mode="json"))
    assert again == config
    assert again.half_width_kms is None


def test_a_half_width_beside_samples_and_step_is_a_config_mistake() -> None:
    with pytest.raises(ValueError, match="half_width_kms, num_samples and step_dex: give two at most"):
        WindowConfig(half_width_kms=300, num_samples=10, step_dex=1e-4)
    with pytest.raises(ValueError, match="nearest has that of the cube"):
        WindowConfig(half_width_kms=300, num_samples=10)
    with pytest.raises(ValueError, match="greater than 0"):
        WindowConfig(half_width_kms=-300)


def test_line_presets_and_lines_of_ones_own(tmp_path) -> None:
    assert len(WindowConfig().line_list) == 19
    assert len(WindowConfig(lines="dap-dr17").line_list) == 35
    by_name = WindowConfig(lines=tuple(line.name for line in PAPER_LINES))
    assert by_name.line_list == list(PAPER_LINES), "not the DAP's of DR17, which have other sidebands"
    assert all(3800 < line.rest_wave < 8000 for line in WindowConfig().line_list)
    own = {"name": "HeI-4922", "rest_wave": 4923.305, "blueside": [4898.3, 4913.3], "redside": [4933.3, 4948.3]}
    config = WindowConfig.model_validate({"lines": ["Hb-4862", own]})
    assert config.line_names == ["Hb-4862", "HeI-4922"]
    assert WindowConfig.model_validate(config.model_dump(mode="json")) == config
    with pytest.raises(ValueError, match="colour"):
        WindowConfig.model_validate({"lines": [own | {"colour": "blue"}]})


@pytest.mark.realdata
def test_the_line_lists_are_the_daps(real_data) -> None:
    for file, lines in (
        ("elpmpl8.par", WindowConfig().line_list),
        ("elpmpl11.par", WindowConfig(lines="dap-dr17").line_list),
    ):
        rows = [row for row in (real_data / "linedb" / file).read_text().splitlines() if row.startswith("DAPEML")]
        waves = {round(float(row.split()[3]), 2): [float(x) for x in re.findall(r"[\d.]+", row)[-4:]] for row in rows}
        for line in lines:
            bands = waves[min(waves, key=lambda wave: abs(wave - line.rest_wave))]
            assert min(abs(wave - line.rest_wave) for wave in waves) < 0.011
            assert [*line.blueside, *line.redside] == bands, line.name


def column(mask: int, planes: np.ndarray) -> np.ndarray:
    bad = np.zeros(len(WAVE), dtype=bool)
    bad[planes] = mask > 0
    return bad


def test_with_sidebands_a_masked_sample_keeps_the_surveys_reason() -> None:
    z, config = 0.02, HA_ONLY.model_copy(update={"continuum": "sidebands"})
    blue = np.flatnonzero((HA.blueside[0] * (1 + z) < WAVE) & (HA.blueside[1] * (1 + z) > WAVE))
    centre = int(np.argmin(abs(WAVE - HA.rest_wave * (1 + z))))
    ones = np.ones(len(WAVE))
    in_band = extract_windows([ArrayArm(WAVE, ones, bad=column(1, blue))], z, config)
    assert (in_band.mask == BITS["SURVEY"]).all(), "a band that the survey masked is no gap in the coverage"
    everywhere = extract_windows([ArrayArm(WAVE, ones, bad=ones > 0)], z, config)
    assert (everywhere.mask == BITS["SURVEY"]).all()
    both = np.where(np.isin(np.arange(len(WAVE)), blue), np.nan, 1.0)
    mixed = extract_windows([ArrayArm(WAVE, both, bad=column(1, np.array([centre])))], z, config)
    assert sorted(np.unique(mixed.mask)) == [BITS["SURVEY"], BITS["NONFINITE"]]


def test_a_line_that_is_half_covered_is_not_in_range() -> None:
    z, observed = 0.02, HA.rest_wave * 1.02
    config = WindowConfig(lines=("Hb-4862", "Ha-6564"), size=8, min_lines=2)
    wave = WAVE[observed > WAVE]
    with pytest.raises(Rejected, match=r"only 1 of 2 lines.*out of range: Ha-6564"):
        extract_windows([ArrayArm(wave, np.ones(len(wave)))], z, config)
    windows = extract_windows([ArrayArm(wave, np.ones(len(wave)))], z, config.model_copy(update={"min_lines": 1}))
    covered = (windows.mask[1] == 0).all(axis=(1, 2))
    assert covered.tolist() == [True] * 5 + [False] * 5


@pytest.mark.parametrize("end", ["first", "last"])
def test_nearest_refuses_a_grid_that_changes_its_step(end: str) -> None:
    steps = np.full(4562, 1e-4)
    steps[slice(0, 50) if end == "first" else slice(-50, None)] = 1.1e-4
    wave = 3621.6 * 10 ** np.concatenate([[0], np.cumsum(steps)])
    with pytest.raises(Rejected, match=r"0\.0001"):
        check_grid(wave, HA_ONLY, "cube")
