"""Scores of a store, shard by shard: resumed, cross-fitted, and on Ray the same."""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from cubeprep.lines import SPEED_OF_LIGHT_KMS
from cubeprep.store import WindowStore
from modeling.network.autoencoder import make_model
from modeling.scoring import survey_scorer
from modeling.scoring.attribution import (
    OtherScoringError,
    attribution_path,
    read_attribution,
    read_by_line,
    write_attribution,
)
from modeling.scoring.galaxy_scorer import GalaxyScorer
from modeling.scoring.survey_scorer import (
    ModelEnsemble,
    ShardScores,
    Task,
    calibrate_ensemble,
    known_offsets_kms,
    run_here,
    score_shard,
    score_store,
)
from modeling.training.config import TrainConfig, TrainingJob
from modeling.training.folds import fold_of, left_out, left_out_of
from tests.synthetic import synthetic_store

SHAPE = (5, 4, 16)
SMALL: dict[str, Any] = {
    "latent_dim": 4,
    "step_channels": 2,
    "lstm_channels": 2,
    "decoder_channels": 2,
    "spaxel_code": 3,
}


def network(seed: int) -> Any:
    num_lines, num_samples, size = SHAPE
    return make_model({"num_lines": num_lines, "num_samples": num_samples, "size": size, **SMALL}, seed)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> WindowStore:
    return synthetic_store(tmp_path_factory.mktemp("scoring") / "windows.zarr", shape=SHAPE)


class Calibrated(NamedTuple):
    """Models with scorers, the file of these, and the galaxies that each was calibrated on."""

    ensemble: ModelEnsemble
    path: Path
    used: list[set[str]]


@pytest.fixture(scope="module")
def calibrated(store: WindowStore, tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    names = {w.flux[i].tobytes(): str(w.plateifu[i]) for _, w in store.iter_galaxies() for i in range(len(w))}
    used: list[set[str]] = []
    calibrate = survey_scorer.calibrate

    def recording(network: Any, batches: Any, *arguments: Any, **options: Any) -> Any:
        used.append({names[flux.tobytes()] for batch in batches() for flux in batch[0]})
        return calibrate(network, batches, *arguments, **options)

    bare = ModelEnsemble(store.path, tuple(network(seed) for seed in range(4)))
    path = tmp_path_factory.mktemp("ensemble") / "scorers.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(survey_scorer, "calibrate", recording)
        return Calibrated(calibrate_ensemble(bare, path, num_galaxies=100), path, used)


@pytest.fixture(scope="module")
def ensemble(calibrated: Calibrated) -> ModelEnsemble:
    return calibrated.ensemble


@pytest.fixture(scope="module")
def shards(ensemble: ModelEnsemble, tmp_path_factory: pytest.TempPathFactory) -> Sequence[Path]:
    """Scores of the whole store."""
    return score_store(ensemble, tmp_path_factory.mktemp("shards"))


def loaded(paths: Sequence[Path]) -> dict[str, ShardScores]:
    return {path.stem: ShardScores.load(path) for path in paths}


@pytest.mark.slow
def test_every_galaxy_is_scored_by_the_model_that_left_it_out(
    store: WindowStore, ensemble: ModelEnsemble, shards: Sequence[Path]
) -> None:
    mangaid = store.galaxies().set_index("plateifu")["mangaid"]
    for path in shards:
        scores = ShardScores.load(path)
        alone = [
            ModelEnsemble(ensemble.store, (net,), 1, (scorer,))
            for net, scorer in zip(ensemble.networks, ensemble.scorers, strict=True)
        ]
        split, shard = path.stem.split("-")
        for i, name in enumerate(scores.plateifu):
            own = 1 + fold_of(mangaid[name], 3)
            expected = score_shard(alone[own], Task(split, int(shard)))
            # Batches of other sizes are rounded otherwise.
            assert scores.means.combined[i] == pytest.approx(expected.means.combined[i], rel=1e-4, abs=1e-5)
            assert scores.means.num_models[i] == 1


def test_with_two_folds_left_out_two_models_score_and_have_a_spread(
    store: WindowStore, ensemble: ModelEnsemble
) -> None:
    two = ModelEnsemble(ensemble.store, ensemble.networks, 2, ensemble.scorers)
    found = score_shard(two, Task(store.splits[0], 0)).means
    np.testing.assert_array_equal(found.num_models, 2)
    assert (found.spread > 0).all()
    assert np.isnan(score_shard(ensemble, Task(store.splits[0], 0)).means.spread).all()


def test_models_score_only_the_galaxies_that_they_count_for(
    ensemble: ModelEnsemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[int] = []
    score = GalaxyScorer.score
    monkeypatch.setattr(
        GalaxyScorer, "score", lambda self, *arrays: scored.append(len(arrays[0])) or score(self, *arrays)
    )
    found = score_shard(ensemble, Task("train", 0))
    names = dict(
        zip(*(WindowStore.open(ensemble.store).coordinate("train", n) for n in ("plateifu", "mangaid")), strict=True)
    )
    counts = ensemble.counts([str(names[name]) for name in found.plateifu])
    assert scored == [len(found.plateifu), *(number for number in counts[1:].sum(1) if number)]


def test_an_interrupted_run_goes_on_with_what_is_left(
    ensemble: ModelEnsemble, shards: Sequence[Path], tmp_path: Path
) -> None:
    done: list[Task] = []

    def dies_after_two(
        function: Any, ensemble: ModelEnsemble, tasks: Sequence[Task]
    ) -> Iterator[tuple[Task, ShardScores]]:
        for task in tasks[:2]:
            yield task, function(ensemble, task)
        raise KeyboardInterrupt

    def counted(function: Any, ensemble: ModelEnsemble, tasks: Sequence[Task]) -> Iterator[tuple[Task, ShardScores]]:
        done.extend(tasks)
        return run_here(function, ensemble, tasks)

    with pytest.raises(KeyboardInterrupt):
        score_store(ensemble, tmp_path, run_tasks=dies_after_two)
    resumed = loaded(score_store(ensemble, tmp_path, run_tasks=counted))
    whole = loaded(shards)
    assert len(done) == len(whole) - 2 > 0
    for name, scores in whole.items():
        np.testing.assert_array_equal(resumed[name].means.combined, scores.means.combined)
        np.testing.assert_array_equal(resumed[name].means.scores.by_place, scores.means.scores.by_place)


def test_models_of_folds_are_calibrated_on_galaxies_that_they_have_not_seen(
    store: WindowStore, calibrated: Calibrated
) -> None:
    galaxies = store.galaxies().query("status == 'accepted'")
    folds = {
        fold: set(galaxies["plateifu"][[fold_of(name, 3) == fold for name in galaxies["mangaid"]]]) for fold in range(3)
    }
    everything = set(galaxies["plateifu"])
    assert sorted(map(len, folds.values())) == [1, 6, 8]  # the one is too few
    assert calibrated.used == [everything, *(everything if len(own) == 1 else own for own in folds.values())]


def test_folds_with_few_galaxies_share_their_regressions(calibrated: Calibrated) -> None:
    main, *folds = (scorer["standardisers"] for scorer in calibrated.ensemble.scorers)
    assert all(fold == folds[0] for fold in folds)
    assert folds[0] != main
    assert folds[0][1]["spread"] != 1  # of the 14 galaxies of two folds, neither of which has ten


def test_folds_with_many_galaxies_have_regressions_of_their_own(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "w.zarr", shape=SHAPE, num_train=32, num_validation=0, num_views=1)
    rows = store.galaxies().query("status == 'accepted'")
    sizes = [sum(fold_of(name, 2) == fold for name in rows["mangaid"]) for fold in range(2)]
    assert min(sizes) >= 10
    bare = ModelEnsemble(store.path, tuple(network(seed) for seed in range(3)))
    found = calibrate_ensemble(bare, tmp_path / "scorers.json", num_galaxies=100).scorers
    assert found[1]["standardisers"] != found[2]["standardisers"]


def test_calibration_reads_no_further_than_it_needs(store: WindowStore, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    read_shard = WindowStore.read_shard
    monkeypatch.setattr(WindowStore, "read_shard", lambda self, *which: read.append(1) or read_shard(self, *which))
    bare = ModelEnsemble(store.path, (network(0),))
    galaxies = survey_scorer._CalibrationGalaxies(bare, 0, 1)
    assert len(list(galaxies())) == len(read) == 1


def test_galaxies_that_were_rejected_calibrate_no_fold(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "w.zarr", shape=SHAPE, num_train=12, num_validation=0, num_views=1)
    rows = store.galaxies()
    gone = rows["mangaid"].map(lambda name: fold_of(name, 2) == 0)
    assert gone.sum() >= 3
    table = rows.assign(status=np.where(gone, "rejected", rows["status"]))
    (tmp_path / "w.zarr" / "galaxies.parquet").write_bytes(table.to_parquet())
    galaxies = survey_scorer._CalibrationGalaxies(ModelEnsemble(store.path, (network(0),) * 3), 1, 100)
    assert galaxies.takes_all


def test_calibration_is_kept(store: WindowStore, calibrated: Calibrated) -> None:
    other = ModelEnsemble(store.path, tuple(network(seed) for seed in range(9, 13)))
    assert calibrate_ensemble(other, calibrated.path, num_galaxies=100).scorers == calibrated.ensemble.scorers


def test_a_store_too_small_for_folds_is_scored(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "w.zarr", shape=SHAPE, num_train=3, num_validation=0)
    bare = ModelEnsemble(store.path, tuple(network(seed) for seed in range(4)))
    found = calibrate_ensemble(bare, tmp_path / "scorers.json", num_galaxies=100)
    (path,) = score_store(found, tmp_path / "shards")
    scores = ShardScores.load(path)
    assert len(scores.plateifu) == 2
    assert np.isfinite(scores.means.combined).all()
    assert (scores.means.num_models == 1).all()


def test_redshifts_that_prepare_flagged_have_known_offsets_unless_it_corrected_them() -> None:
    right = 0.03 * (1 + 300 / SPEED_OF_LIGHT_KMS) + 300 / SPEED_OF_LIGHT_KMS
    columns = ["plateifu", "status", "z", "z_used", "z_offset_kms", "z_flag"]
    rows = [
        ("wrong", "accepted", 0.03, 0.03, 300.0, True),
        ("corrected", "accepted", 0.03, right, 300.0, True),
        ("usual", "accepted", 0.03, 0.03, 30.0, False),
        ("no lines", "accepted", 0.03, 0.03, None, False),
        ("set aside", "rejected", None, None, None, None),
    ]
    found = known_offsets_kms(pd.DataFrame(rows, columns=columns))
    assert found.index.tolist() == ["wrong", "corrected", "usual", "no lines"]
    np.testing.assert_allclose(found, [300, np.nan, np.nan, np.nan], rtol=1e-9)
    assert known_offsets_kms(pd.DataFrame(rows[3:], columns=columns)).isna().all()
    assert known_offsets_kms(pd.DataFrame(rows, columns=columns)[["plateifu", "status"]]).isna().all()


def test_maps_lie_beside_the_catalog_by_name(store: WindowStore, shards: Sequence[Path], tmp_path: Path) -> None:
    path = attribution_path(tmp_path / "catalog.parquet")
    write_attribution(path, shards, store.line_names, store.coordinate("train", "velocity_kms"), store.identity)
    scores = ShardScores.load(shards[-1])
    found = read_attribution(path, str(scores.plateifu[-1]))
    for name, values in found.items():
        np.testing.assert_array_equal(values, getattr(scores.means.scores, name)[-1].astype(np.float32))
    names, by_line = read_by_line(path)
    assert names.tolist() == [str(name) for shard in shards for name in ShardScores.load(shard).plateifu]
    np.testing.assert_array_equal(by_line[-1], found["by_line"])
    read_attribution(path, names[0], "2026-11-29T10:00:00+00:00")  # of an earlier version, which did not say
    with pytest.raises(KeyError, match="no-such-galaxy"):
        read_attribution(path, "no-such-galaxy")
    with pytest.raises(FileNotFoundError, match="cubescout score"):
        read_attribution(tmp_path / "none.zarr", "1-1")


def test_maps_of_another_catalog_are_refused(store: WindowStore, shards: Sequence[Path], tmp_path: Path) -> None:
    path, made, other = tmp_path / "maps.zarr", "2026-11-29T10:00:00+00:00", "2026-11-29T11:00:00+00:00"
    velocity_kms = store.coordinate("train", "velocity_kms")
    write_attribution(path, shards, store.line_names, velocity_kms, store.identity, made)
    names, _ = read_by_line(path, made)
    assert read_attribution(path, names[0], made).keys() == read_attribution(path, names[0]).keys()
    for read in (read_by_line, partial(read_attribution, plateifu=names[0])):
        with pytest.raises(OtherScoringError, match=f"made at {re.escape(made)}, expected those of"):
            read(path, created_utc=other)


def test_maps_open_in_xarray(store: WindowStore, shards: Sequence[Path], tmp_path: Path) -> None:
    import xarray as xr

    path = tmp_path / "maps.zarr"
    write_attribution(path, shards, store.line_names, store.coordinate("train", "velocity_kms"), store.identity)
    opened = xr.open_zarr(path, consolidated=False)
    assert opened["by_place"].dims == ("galaxy", "line", "y", "x")


@pytest.mark.parametrize(("num", "out"), [(2, 1), (5, 2), (7, 3)])
def test_a_galaxy_is_scored_by_the_models_whose_training_left_it_out(num: int, out: int) -> None:
    names = [f"1-{i}" for i in range(40)]
    networks: Any = (None,) * (1 + num)
    counts = ModelEnsemble("w.zarr", networks, out).counts(names)
    assert not counts[0].any(), "the main model has seen them all"
    for fold in range(num):
        unseen = left_out_of(TrainingJob(store="w.zarr", train=TrainConfig(folds=num, left_out=out), fold=fold))
        assert unseen is not None
        assert counts[1 + fold].tolist() == [unseen(name) for name in names]


def test_folds_left_out_cover_all_alike() -> None:
    for num, out in ((2, 1), (5, 2), (7, 3)):
        seen = [fold for model in range(num) for fold in left_out(model, num, out)]
        assert sorted(seen) == sorted(list(range(num)) * out)


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_on_ray_the_scores_are_the_same(ensemble: ModelEnsemble, shards: Sequence[Path], tmp_path: Path) -> None:
    from modeling.scoring.ray_score import run_with_ray

    here = loaded(shards)
    there = loaded(score_store(ensemble, tmp_path, run_tasks=run_with_ray(2)))
    assert here.keys() == there.keys()
    for name, scores in here.items():
        np.testing.assert_allclose(there[name].means.combined, scores.means.combined, rtol=1e-4, atol=1e-4)
