"""Sums over blocks of spaxels while a cube streams by, and their merging into bins."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from cubeprep.cube import Rejected, Target
from cubeprep.fits import stream
from cubeprep.readers import manga_logcube
from cubeprep.stars.blocks import SIDE, BlockSpectra, BlockSums, block_sums, merge, read_summed
from cubeprep.stars.spectra import _trimmed
from cubeprep.survey import SurveyConfig
from tests.logcube import WAVE, cube_hdus, write_gzipped


def chunks(count: int, length: int) -> list[np.ndarray]:
    return np.array_split(np.arange(count), range(length, count, length))


@pytest.mark.parametrize("order", list(permutations(["flux", "ivar", "bad"])))
def test_sums_do_not_depend_on_the_order_of_the_hdus(order: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "flux": rng.normal(5, 1, (30, 7, 7)),
        "ivar": rng.uniform(1, 2, (30, 7, 7)),
        "bad": np.zeros((30, 7, 7), bool),
    }
    arrays["bad"][3, 2, 2] = True
    arrays["flux"][:, 0, 1] = arrays["ivar"][:, 0, 1] = 0  # without coverage: does not spoil its block
    arrays["bad"][:, 0, 1] = True
    wanted = np.arange(5, 25)
    sums = BlockSums(wanted, np.linspace(4000, 5000, 30))
    for name in order:
        for index in chunks(30, 8):
            getattr(sums, f"add_{name}")(index, arrays[name][index])
    spectra = sums.spectra()
    side = 4  # the last row and column of blocks hold one spaxel a side
    assert spectra.flux.shape == (20, side * side)
    np.testing.assert_allclose(spectra.flux[0, 5], arrays["flux"][5, 2:4, 2:4].sum(), rtol=1e-6)
    np.testing.assert_allclose(spectra.variance[0, 5], (1 / arrays["ivar"][5, 2:4, 2:4]).sum(), rtol=1e-6)
    np.testing.assert_allclose(spectra.flux[:, -1], arrays["flux"][wanted, 6, 6], rtol=1e-6)
    np.testing.assert_allclose(spectra.flux[0, 0], arrays["flux"][5, :2, :2].sum(), rtol=1e-6)
    assert spectra.good[:, 0].all()
    np.testing.assert_array_equal(spectra.wave, np.linspace(4000, 5000, 30)[wanted])


def test_a_flux_that_is_lost_in_one_plane_spoils_its_block_there_alone() -> None:
    flux = np.ones((10, 4, 4))
    flux[3, 0, 0], flux[4, 2, 2] = 0, np.nan
    flux[:, 0, 3] = 0  # without coverage
    flux[:6, 3, 0] = np.nan  # hardly covered
    sums = BlockSums(np.arange(10), np.arange(10.0))
    sums.add_flux(np.arange(10), flux)
    sums.add_ivar(np.arange(10), np.ones(flux.shape))
    expected = np.ones((10, 4), dtype=bool)
    expected[3, 0] = expected[4, 3] = False
    np.testing.assert_array_equal(sums.spectra().good, expected)


def test_a_cube_whose_sums_would_take_too_much_memory_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "manga-1-1-LOGCUBE.fits"
    cube_hdus(0.03).writeto(path)
    reader = manga_logcube.Reader(SurveyConfig(root=str(tmp_path)))
    target = Target("1-1", "1-1", 0.03, 0, 0, (str(path),), 1.0)
    (arm,) = reader.open(target)
    sums = BlockSums(np.arange(1000, 3000), arm.wave)
    monkeypatch.setattr(stream, "MOST_BYTES", sums.memory(12))
    with pytest.raises(Rejected, match=r"too_large: .*to be held at once"):
        read_summed(arm, np.arange(1000, 1100), 12, sums)
    (arm,) = reader.open(target)
    monkeypatch.setattr(stream, "MOST_BYTES", sums.memory(12) + 9 * 100 * 12**2)
    read_summed(arm, np.arange(1000, 1100), 12, sums)


def test_only_the_ends_of_the_arm_itself_are_cut_off() -> None:
    wave = np.linspace(4000, 5000, 200)

    def kept(planes: np.ndarray, lost: int = 0) -> np.ndarray:
        sums = BlockSums(planes, wave)
        flux = np.ones((len(planes), 2, 2))
        flux[:lost] = 0
        sums.add_flux(planes, flux)
        sums.add_ivar(planes, np.ones(flux.shape))
        return planes[_trimmed(sums.spectra()).good[:, 0]][[0, -1]]

    np.testing.assert_array_equal(kept(np.arange(200)), [5, 194])  # 2.5% of 200
    np.testing.assert_array_equal(kept(np.arange(50, 150)), [50, 149])
    np.testing.assert_array_equal(kept(np.arange(3, 150)), [5, 149])
    np.testing.assert_array_equal(kept(np.arange(40, 200), lost=20), [63, 196])  # 2.5% of 140


def test_a_bad_sample_spoils_its_block_at_its_wavelength_alone() -> None:
    sums = BlockSums(np.arange(4), np.arange(4.0))
    bad = np.zeros((4, 4, 4), dtype=bool)
    bad[2, 0, 0] = True
    values = np.ones((4, 4, 4))
    values[1, 3, 3] = np.nan
    sums.add_flux(np.arange(4), np.ones((4, 4, 4)))
    sums.add_ivar(np.arange(4), values)
    sums.add_bad(np.arange(4), bad)
    expected = np.ones((4, 4), dtype=bool)
    expected[2, 0] = expected[1, 3] = False
    np.testing.assert_array_equal(sums.spectra().good, expected)


def test_a_file_is_summed_as_an_arm_that_cannot_sum(tmp_path: Path) -> None:
    hdus = cube_hdus(0.03)
    hdus["MASK"].data[850, 6, 6] = 1 << 10
    path = write_gzipped(hdus, tmp_path / "manga-8000-1-LOGCUBE.fits.gz")
    reader = manga_logcube.Reader(SurveyConfig(root=str(tmp_path)))
    target = Target("8000-1", "1-1", 0.03, 0, 0, (str(path),))
    index, watched = np.array([700, 900, 901, 3000]), np.arange(800, 1000)
    found = []
    for whole in (False, True):
        (arm,) = reader.open(target)
        sums = BlockSums(watched, WAVE)
        used = WithoutSums(arm) if whole else arm
        found.append((read_summed(used, index, 10, sums), sums.spectra()))
    (planes, spectra), (want, other) = found
    (plain,) = reader.open(target)
    np.testing.assert_array_equal(planes.flux, plain.read(index, 10).flux)
    for name in ("flux", "ivar", "mask"):
        np.testing.assert_array_equal(getattr(planes, name), getattr(want, name))
    np.testing.assert_array_equal(spectra.good, other.good)
    for name in ("flux", "variance"):
        np.testing.assert_array_equal(getattr(spectra, name)[other.good], getattr(other, name)[other.good])
    assert (~spectra.good).sum() == 1, "the masked sample"


class WithoutSums:
    """An arm as readers of other packages have it."""

    def __init__(self, arm) -> None:
        self.wave, self.read = arm.wave, arm.read


def test_bins_have_the_signal_that_was_asked_for() -> None:
    y, x = np.mgrid[:16, :16] - 7.5
    snr = 30 * np.exp(-np.hypot(x, y) / 3)
    snr[np.hypot(x, y) > 8] = 0
    bins = merge(snr, 20, 64)
    assert ((bins < 0) == (snr == 0)).all()
    power = np.bincount(bins[bins >= 0], weights=snr[bins >= 0] ** 2)
    assert len(power) > 4
    assert (np.sqrt(power) >= 20).all()
    assert bins[7, 7] != bins[8, 8], "bright blocks stand alone"
    for number in range(len(power)):
        rows, columns = np.nonzero(bins == number)
        inside = bins[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert set(np.unique(inside)) <= {-1, number}, "a bin is a rectangle"


def test_bins_are_no_more_than_allowed_and_the_brightest_light_gets_them() -> None:
    snr = np.full((16, 16), 100.0)
    snr[8:] = 10
    bins = merge(snr, 5, 12)
    assert bins.max() + 1 == 12
    assert len(np.unique(bins[:8])) > 8
    assert (merge(np.zeros((4, 4)), 20, 64) == -1).all()


def test_samples_that_some_blocks_lack_are_scaled_up_from_the_others() -> None:
    flux = np.outer(np.linspace(1, 2, 50), [3.0, 1.0, 2.0])
    good = np.ones(flux.shape, dtype=bool)
    good[10:15, 1] = good[20, 0] = good[20, 2] = False
    bins = BlockSpectra(flux * good, np.full(flux.shape, 0.5), good, np.arange(50.0)).merged(np.array([0, 0, -1]), 1)
    assert np.flatnonzero(~bins.good[:, 0]).tolist() == [20], "too little of the light is left there"
    kept = bins.good[:, 0]
    np.testing.assert_allclose(bins.flux[kept, 0], 4 * np.linspace(1, 2, 50)[kept], rtol=0.02)
    assert bins.variance[12, 0] > 0.5
    assert bins.variance[0, 0] == pytest.approx(1.0)


def test_block_sums_are_those_of_squares() -> None:
    values = np.arange(36.0).reshape(1, 6, 6)
    assert block_sums(values)[0, 1, 2] == values[0, 2 : 2 + SIDE, 4 : 4 + SIDE].sum()
