"""The classical baselines: linear algebra whose answer is known, and obvious anomalies in the tiny tier."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.anomaly.all_detectors import load_detectors
from benchmarks.anomaly.dataset import Data, prepare_data
from benchmarks.anomaly.detectors.components import principal_components, symmetric_components
from benchmarks.anomaly.detectors.detector import Detector
from benchmarks.anomaly.detectors.factorisation import Weighted, factorise, first_factors
from benchmarks.anomaly.detectors.physical import measured
from benchmarks.anomaly.detectors.triaged import Triaged, _shared
from benchmarks.anomaly.execute import Batch, Task, batches, run_batch
from benchmarks.anomaly.samples import training_store
from benchmarks.anomaly.tiers import TIERS
from cubeprep.store import Windows, WindowStore

TINY = TIERS["tiny"]
STRONG = ["PCA-128", "PCA-512", "PCA-512, rotated copies", "HMF", "RX on spaxels"]
ON_FEATURES = ["physical features + ECOD", "physical features + IsolationForest"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Data:
    return prepare_data(TINY, tmp_path_factory.mktemp("benchmark"), 1)


@pytest.fixture(scope="module")
def fitted(data):
    found: dict[str, Detector] = {}

    def fit(name: str) -> Detector:
        if name not in found:
            found[name] = load_detectors()[name](TINY, TINY.runs[0])
            found[name].fit(training_store(data, 0, TINY.runs[0]), "train")
        return found[name]

    return fit


@pytest.fixture
def clean(data) -> Windows:
    windows = WindowStore.open(data.store(0)).read_shard("test", 0)
    return windows.select((data.rows.loc[data.rows["fold"] == 0, "family"] == "").to_numpy()[: len(windows)])


def with_flux(windows: Windows, flux: np.ndarray) -> Windows:
    return replace(windows, flux=flux.astype(np.float32))


def test_components_in_all_orientations_are_those_of_all_copies():
    images = np.random.default_rng(0).normal(size=(5, 3, 6, 6)).astype(np.float32)
    copies = np.concatenate([np.rot90(view, k, (-2, -1)) for view in (images, images[..., ::-1]) for k in range(4)])
    rows = copies.reshape(40, -1)
    for count in (4, 17, 39):
        mean, expected = principal_components(rows, count)
        found_mean, found = symmetric_components(images.reshape(5, -1), 6, count)
        np.testing.assert_allclose(found_mean, mean, atol=1e-6)
        np.testing.assert_allclose(found @ found.T, np.eye(count), atol=1e-4)
        lost = [((rows - mean - (rows - mean) @ part.T @ part) ** 2).sum() for part in (expected, found)]
        assert lost[1] == pytest.approx(lost[0], rel=1e-3, abs=1e-3)


def low_rank(num: int, seed: int) -> tuple[Weighted, np.ndarray]:
    """Galaxies of three components with noise of very different size, a fifth of them masked; and their true flux."""
    rng = np.random.default_rng(seed)
    components = np.random.default_rng(9).normal(size=(3, 180))
    truth = 1 + rng.normal(size=(num, 3)) @ components
    sigma = np.where(rng.random(truth.shape) < 0.3, 5.0, 0.1)
    good = rng.random(truth.shape) > 0.2
    flux = np.where(good, truth + sigma * rng.normal(size=truth.shape), 0)
    ivar = np.where(good, sigma**-2, 0)
    arrays = (flux, ivar, np.zeros((num, 36)), np.ones(num))
    return Weighted(*(values.astype(np.float32) for values in arrays)), truth


def test_a_factorisation_minds_masks_and_ivar_where_principal_components_do_not():
    galaxies, truth = low_rank(60, 0)
    factors = factorise(galaxies, first_factors(galaxies, 3), 3, 0.1)
    start = np.zeros((60, 3), np.float32)
    found = factors.expected(factors.solve(galaxies.flux, galaxies.weights(0.1), start, 1.0, 12))
    mean, components = principal_components(galaxies.flux, 3)
    plain = mean + (galaxies.flux - mean) @ components.T @ components
    assert np.abs(found - truth).mean() < 0.05
    assert np.abs(plain - truth).mean() > 0.5


def test_the_likelihood_of_held_out_galaxies_is_highest_at_the_true_rank():
    galaxies, held_out = low_rank(60, 0)[0], low_rank(40, 1)[0]
    first = first_factors(galaxies, 12)
    fits = {rank: factorise(galaxies, first, rank, 0.1) for rank in (1, 2, 3, 6, 12)}
    assert max(fits, key=lambda rank: fits[rank].log_likelihood(held_out, 0.1)) == 3


def test_the_likelihood_is_that_of_a_normal_distribution():
    galaxies = low_rank(20, 0)[0]
    factors = factorise(galaxies, first_factors(galaxies, 2), 2, 0.1)
    good = galaxies.ivar[0] > 0
    components, one = factors.components[:, good], Weighted(*(values[:1] for values in vars(galaxies).values()))
    covariance = (components.T @ components).astype(np.float64) + np.diag(1 / galaxies.ivar[0][good].astype(np.float64))
    offset = (galaxies.flux[0] - factors.mean)[good]
    expected = -0.5 * (np.linalg.slogdet(covariance)[1] + offset @ np.linalg.solve(covariance, offset)) / good.sum()
    assert factors.log_likelihood(one, 0.1) == pytest.approx(expected, rel=1e-3)


def both(detector: Detector, windows: Windows) -> list[np.ndarray]:
    """Main score in front of and behind the triage."""
    scored = detector.score_windows(windows)
    return [scored.score, scored.variants["triaged"]]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*STRONG, *ON_FEATURES])
def test_values_under_a_mask_change_no_score(name, fitted, clean):
    mask = clean.mask.copy()
    mask[:, 1, 1:3, 2:5, 2:5] = 1
    masked = replace(clean, mask=mask)
    spoiled = [with_flux(masked, np.where(masked.good, clean.flux, value)) for value in (np.nan, 1e6)]
    scores = [both(fitted(name), windows) for windows in spoiled]
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scores[0], scores[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", STRONG)
def test_each_baseline_finds_a_foreign_line(name, fitted, clean):
    flux = clean.flux.copy()
    image = np.nanmax(np.nan_to_num(clean.flux), axis=(1, 2))
    # As a background galaxy would: one sample of [O III], many times as bright as the galaxy, over several spaxels.
    flux[:, 1, 3, 2:6, 2:6] += 100 * image.max(axis=(1, 2))[:, None, None]
    before, after = (both(fitted(name), windows) for windows in (clean, with_flux(clean, flux)))
    assert (after[0] > before[0]).all()
    assert (after[1] > before[1]).all()


class Sample:
    """Store of one shard of analytic galaxies: a disc of 8 x 8 spaxels with Hb, [O III] and Ha of five samples."""

    line_names = ("Hb-4862", "OIII-5008", "Ha-6564")
    shape = (3, 5, 8)
    path = "analytic"

    def __init__(self, num: int) -> None:
        rng = np.random.default_rng(0)
        oiii, sigma, radius = (np.exp(0.1 * rng.normal(size=(3, num))).T * (1.0, 0.3, 2.0)).T
        lines = np.stack([np.ones(num), oiii, 3 * np.ones(num)], axis=1)
        velocity = np.linspace(-1, 1, 5)
        profile = np.exp(-0.5 * (velocity / sigma[:, None]) ** 2)
        y, x = np.indices((8, 8)) - 3.5
        image = np.exp(-np.hypot(y, x) / radius[:, None, None])
        flux = np.einsum("nl,ns,nyx->nlsyx", lines, profile, image) + 1e-3 * rng.normal(size=(num, 3, 5, 8, 8))
        ivar, mask = np.full(flux.shape, 1e6, np.float32), np.zeros(flux.shape, np.uint8)
        self.windows = Windows(flux.astype(np.float32), ivar, mask, np.arange(num).astype(str), np.zeros(num, int))

    def coordinate(self, split: str, name: str) -> np.ndarray:
        return np.linspace(-400, 400, 5)

    def num_shards(self, split: str) -> int:
        return 1

    def read_shard(self, split: str, shard: int) -> Windows:
        return self.windows


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_FEATURES)
def test_features_find_unusual_ratios_widths_and_shapes(name):
    sample = Sample(80)
    detector = load_detectors()[name](TINY, TINY.runs[0])
    detector.fit(sample, "train")
    typical = np.quantile(detector.score_windows(sample.windows).score, 0.9)
    flux = sample.windows.flux.copy()
    flux[:, 1] *= 20
    flux[:, 2] = np.roll(flux[:, 2].mean(axis=1, keepdims=True), 3, axis=-1)
    assert np.median(detector.score_windows(with_flux(sample.windows, flux)).score) > typical


@pytest.mark.slow
def test_detectors_of_a_batch_give_the_scores_that_each_gives_alone(data, tmp_path):
    names = ["random", "PCA-32", "PCA-128", *ON_FEATURES]
    tasks = [Task(data, name, TINY.runs[0], 1, tmp_path / f"{i}.npz") for i, name in enumerate(names)]
    (batch,) = batches(tasks)
    assert batch.tasks == tuple(tasks)
    assert len(run_batch(batch)) == len(names)
    for task in tasks:
        _shared.clear()
        alone = task._replace(path=tmp_path / "alone.npz")
        run_batch(Batch((alone,)))
        together, single = (np.load(path) for path in (task.path, alone.path))
        arrays = [name for name in single.files if not name.endswith("_seconds")]
        assert set(single.files) == set(together.files)
        for name in arrays:
            np.testing.assert_array_equal(together[name], single[name])


def test_a_detector_that_takes_minutes_is_a_task_of_its_own(data, tmp_path):
    tasks = [Task(data, name, TINY.runs[0], fold, tmp_path) for fold in (0, 1) for name in ("random", "HMF", "PCA-32")]
    found = [[(task.detector, task.fold) for task in batch.tasks] for batch in batches(tasks)]
    wanted = [[("random", 0), ("PCA-32", 0)], [("HMF", 0)], [("random", 1), ("PCA-32", 1)], [("HMF", 1)]]
    assert found == wanted


def test_physical_features_are_what_they_are_called():
    windows = Sample(1).windows
    flux = windows.flux.copy()
    flux[:, 1] = 10 * flux[:, 0]
    first, tenfold = (measured(with_flux(windows, values), Sample.line_names)[0] for values in (windows.flux, flux))
    assert tenfold[0] - first[0] == pytest.approx(np.log(10 * flux[0, 0].sum() / windows.flux[0, 1].sum()), abs=0.2)
    point = np.zeros_like(flux)
    point[:, :, 2, 2, 5] = 1
    found = measured(with_flux(windows, point), Sample.line_names)[0]
    width, asymmetry, compactness, radius = found[4], *found[4 + 9 : 4 + 12]
    assert (width, compactness, radius) == (0, 1, 0)
    assert asymmetry == 1  # its half turn lies elsewhere


@pytest.mark.slow
def test_a_hot_sample_is_an_anomaly_until_triage_masks_it(fitted, clean):
    y, x = np.unravel_index(np.nanargmax(clean.flux[0, 2].sum(0)), clean.flux.shape[-2:])
    flux = clean.flux.copy()
    flux[0, 0, 2, y, x] += 1e3 * np.nanmax(clean.flux[0])
    detector, struck = fitted("PCA-128"), with_flux(clean, flux)
    (front, behind), (front_struck, behind_struck) = (both(detector, windows) for windows in (clean, struck))
    assert front_struck[0] > 2 * front[0]
    assert behind_struck[0] < behind[0] + (front_struck[0] - front[0])
    _, cleaned = detector.guide.cleaned(struck)
    assert clean.good[0, 0, 2, y, x]
    assert not cleaned.windows.good[0, 0, 2, y, x]


@pytest.mark.slow
def test_every_strong_baseline_is_also_behind_the_triage(fitted, clean):
    for name in [*STRONG, *ON_FEATURES]:
        assert issubclass(load_detectors()[name], Triaged)
    own = [fitted(name) for name in STRONG[:4]]
    assert all(part.guide.reconstruction is part.detector for part in own)
    wanted = {"triaged", "triaged region", "triaged peak", "triaged region and peak", "triaged chi2"}
    assert all(wanted <= set(part.score_windows(clean).variants) for part in own)
