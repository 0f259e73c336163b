import numpy as np
import pytest

from cubeprep.masks import good_samples
from modeling.training import rows
from modeling.training.rows import copy_all, set_bad_to_zero


@pytest.fixture(params=["compiled", "NumPy"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to do the same."""
    if request.param == "NumPy":
        monkeypatch.setattr(rows, "library", lambda name: None)
    elif rows.library(rows.SOURCE) is None:
        pytest.skip("no C compiler")
    return str(request.param)


def windows(rng: np.random.Generator, *shape: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flux and ivar with each kind of bad number, many of them in one sample, and a mask."""
    odd = np.array([0, -1, np.nan, np.inf, -np.inf, 1e-45, 3e38, -0.0], np.float32)
    flux, ivar = (
        np.where(rng.random(shape) < 0.3, rng.choice(odd, shape), rng.lognormal(size=shape)).astype(np.float32)
        for _ in range(2)
    )
    return flux, ivar, (rng.random(shape) < 0.2).astype(np.uint8) * 128


def test_flux_and_ivar_are_zero_where_a_sample_is_not_good_and_else_as_they_were() -> None:
    flux, ivar, mask = windows(np.random.default_rng(0), 3, 7, 11)
    expected, before = good_samples(flux, ivar, mask), (flux.copy(), ivar.copy())
    assert 0.1 < expected.mean() < 0.9
    good = set_bad_to_zero(flux, ivar, mask)
    np.testing.assert_array_equal(good, expected)
    for values, old in zip((flux, ivar), before, strict=True):
        np.testing.assert_array_equal(values, np.where(expected, old, 0))


def test_arrays_that_do_not_lie_in_one_piece_or_have_other_types_are_the_same() -> None:
    flux, ivar, mask = windows(np.random.default_rng(1), 6, 5)
    expected = good_samples(flux, ivar, mask)
    np.testing.assert_array_equal(set_bad_to_zero(flux.astype(float), ivar.astype(float), mask), expected)
    np.testing.assert_array_equal(set_bad_to_zero(flux.T, ivar.T, mask.T), expected.T)
    assert not flux[~expected].any()


def test_copies_go_to_their_places() -> None:
    rng = np.random.default_rng(2)
    target = [np.zeros((4, 3), np.float32), np.zeros((4, 5), bool)]
    source = [[rng.random(3).astype(np.float32), rng.random(5) < 0.5] for _ in range(4)]
    copy_all([(row[kind], target[kind][place]) for kind in range(2) for place, row in enumerate(source)])
    for kind in range(2):
        np.testing.assert_array_equal(target[kind], np.stack([row[kind] for row in source]))


def test_a_copy_from_other_strides_is_a_copy_of_the_values() -> None:
    source, target = np.arange(12).reshape(3, 4).T, np.zeros((4, 3), int)
    copy_all([(source, target)])
    np.testing.assert_array_equal(target, source)


def test_arrays_that_may_not_be_written_to_or_differ_in_size_are_refused() -> None:
    flux, ivar, mask = windows(np.random.default_rng(3), 4, 5)
    flux.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        set_bad_to_zero(flux, ivar, mask)
    with pytest.raises(ValueError, match="broadcast"):
        set_bad_to_zero(flux.copy(), ivar, mask[:, :3].copy())
    with pytest.raises(ValueError, match="broadcast"):
        copy_all([(np.zeros(3), np.zeros(4))])
