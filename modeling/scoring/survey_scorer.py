"""Scores a whole store, shard by shard: each galaxy by the models that never saw it, where there are any.

Every shard is a task of its own, whose result is kept in a file until the catalog is written: an interrupted run
resumes with the shards that have none. A `RunTasks` decides where tasks run; `ray_score` has one for a cluster.
"""

import json
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cubeprep.files import replacing
from cubeprep.lines import SPEED_OF_LIGHT_KMS
from cubeprep.store import Windows, WindowStore
from modeling.network.normalisation import WindowNetwork
from modeling.scoring.artefacts import point_fall
from modeling.scoring.calibration import MIN_REGRESSION
from modeling.scoring.ensemble import EnsembleMean, average
from modeling.scoring.galaxy_scorer import (
    MIN_CALIBRATION,
    Arrays,
    Calibration,
    GalaxyScorer,
    GalaxyScores,
    calibrate,
)
from modeling.scoring.hypotheses.shard import Hypotheses, hypotheses, survey_of
from modeling.scoring.residual_sums import LineSums
from modeling.training.folds import fold_of, left_out

# With fewer rows in validation and test, the main model is calibrated on its training galaxies too.
MIN_HELD_OUT = 30
# Windows that were extracted at the corrected redshift are displaced by rounding alone.
NO_DISPLACEMENT_KMS = 1.0


class Task(NamedTuple):
    """One shard to score."""

    split: str
    shard: int


@dataclass(frozen=True)
class ModelEnsemble:
    """Models that score a store, with their calibration.

    Attributes:
        store: path of the store.
        networks: the main model, then those of the folds if there are any.
        num_left_out: folds that each model of a fold has not seen.
        scorers: `GalaxyScorer.to_json` of each network, once they are calibrated.
        device: such as `cpu`.
        psf_fwhm_spaxels: FWHM of the survey's PSF.
        spaxel_arcsec: side of a spaxel, if it is known.
        north_up: whether north is up and east left in the survey's arrays.
    """

    store: str
    networks: tuple[WindowNetwork, ...]
    num_left_out: int = 1
    scorers: tuple[dict[str, Any], ...] = ()
    device: str = "cpu"
    psf_fwhm_spaxels: float = 5.0
    spaxel_arcsec: float | None = None
    north_up: bool = False

    def counts(self, mangaid: Sequence[str]) -> np.ndarray:
        """Which models score a galaxy, [network, galaxy] bool: those that left its fold out, or the main model."""
        counting = np.zeros((len(self.networks), len(mangaid)), dtype=bool)
        num_folds = len(self.networks) - 1
        if not num_folds:
            counting[0] = True
            return counting
        for i, name in enumerate(mangaid):
            fold = fold_of(name, num_folds)
            for model in range(num_folds):
                counting[1 + model, i] = fold in left_out(model, num_folds, self.num_left_out)
        return counting

    def score(self, arrays: Arrays, mangaid: Sequence[str], known_offset_kms: np.ndarray) -> EnsembleMean:
        """Mean scores of galaxies over the models that count for each.

        Args:
            arrays: flux, ivar and mask, [N, L, S, Y, X].
            mangaid: [N] object of each galaxy, which decides its fold.
            known_offset_kms: [N], see `GalaxyScorer.score`.
        """
        scorers = [GalaxyScorer.from_json(*pair, self.device) for pair in zip(self.networks, self.scorers, strict=True)]
        counts = self.counts(mangaid)
        main = scorers[0].score(*arrays, known_offset_kms)  # of all galaxies: its latents and reason codes are kept
        scores = [main]
        for scorer, rows in zip(scorers[1:], counts[1:], strict=True):
            chosen = (values[rows] for values in (*arrays, known_offset_kms))
            scores.append(main.with_others_zero(scorer.score(*chosen) if rows.any() else main, rows))
        return average(scorers, scores, counts)


@dataclass(frozen=True)
class ShardScores:
    """Scores of one shard's N galaxies, kept in a file until the catalog is written.

    Attributes:
        plateifu: [N].
        means: over the models that count for each galaxy.
        hypotheses: for the most significant region of each galaxy.
    """

    plateifu: np.ndarray
    means: EnsembleMean
    hypotheses: Hypotheses

    def save(self, path: Path) -> None:
        """Writes the file, whole or not at all."""
        arrays = {"plateifu": self.plateifu.astype(str)}
        arrays |= {f"sums.{name}": getattr(self.means.scores.sums, name) for name in _names(LineSums)}
        arrays |= {
            f"scores.{name}": getattr(self.means.scores, name) for name in _names(GalaxyScores) if name != "sums"
        }
        arrays |= {name: getattr(self.means, name) for name in _names(EnsembleMean) if name != "scores"}
        arrays |= {f"hypotheses.{name}": getattr(self.hypotheses, name) for name in _names(Hypotheses)}
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> "ShardScores":
        """Scores from a file that `save` wrote.

        Raises:
            ValueError: the file is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls._of_arrays(file)
        except (ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path}: damaged ({error}). Delete it and run `cubescout score` again.") from error

    @classmethod
    def _of_arrays(cls, file: Mapping[str, np.ndarray]) -> "ShardScores":
        sums = LineSums(**{name: file[f"sums.{name}"] for name in _names(LineSums)})
        scores = GalaxyScores(sums=sums, **{n: file[f"scores.{n}"] for n in _names(GalaxyScores) if n != "sums"})
        means = EnsembleMean(scores=scores, **{name: file[name] for name in _names(EnsembleMean) if name != "scores"})
        hypotheses = Hypotheses(**{name: file[f"hypotheses.{name}"] for name in _names(Hypotheses)})
        return cls(file["plateifu"], means, hypotheses)


# Runs a function of (ensemble, task) on tasks, anywhere and in any order; yields task and result as they are ready.
RunTasks = Callable[
    [Callable[[ModelEnsemble, Task], ShardScores], ModelEnsemble, Sequence[Task]], Iterable[tuple[Task, ShardScores]]
]


def run_here(
    function: Callable[[ModelEnsemble, Task], ShardScores], ensemble: ModelEnsemble, tasks: Sequence[Task]
) -> Iterator[tuple[Task, ShardScores]]:
    """Results of tasks run in this process, one after the other."""
    for task in tasks:
        yield task, function(ensemble, task)


def score_store(
    ensemble: ModelEnsemble,
    folder: Path,
    *,
    run_tasks: RunTasks = run_here,
    tell: Callable[[int, int, str], None] = lambda done, total, text: None,
) -> list[Path]:
    """Scores every galaxy of a store; shards that have a file are not scored again.

    Args:
        ensemble: with scorers.
        folder: of the shards' files.
        run_tasks: runs the tasks, here or on a cluster.
        tell: called after each shard with the number of shards done, of all shards, and the shard's name.

    Returns:
        The shards' files, in the order of the store.
    """
    store = WindowStore.open(ensemble.store)
    tasks = [Task(split, shard) for split in store.splits for shard in range(store.num_shards(split))]
    paths = {task: folder / f"{task.split}-{task.shard:06d}.npz" for task in tasks}
    missing = [task for task in tasks if not paths[task].exists()]
    for done, (task, scores) in enumerate(
        run_tasks(score_shard, ensemble, missing), start=1 + len(tasks) - len(missing)
    ):
        scores.save(paths[task])
        tell(done, len(tasks), f"{task.split} {task.shard}")
    return [paths[task] for task in tasks]


def score_shard(ensemble: ModelEnsemble, task: Task) -> ShardScores:
    """Scores of one shard's galaxies, as observed, by the models that count for them."""
    store = _open(ensemble.store)
    windows = store.read_shard(task.split, task.shard).observed
    names = windows.plateifu.astype(str)
    mangaid = [_mangaids(ensemble.store)[name] for name in names]
    known_offset_kms = _known_offsets(ensemble.store)[names].to_numpy()
    arrays = (windows.flux, windows.ivar, windows.mask)
    means = ensemble.score(arrays, mangaid, known_offset_kms)
    survey = survey_of(store, ensemble.psf_fwhm_spaxels, ensemble.spaxel_arcsec, north_up=ensemble.north_up)
    z = _redshifts(ensemble.store)[names].to_numpy(dtype=float)
    return ShardScores(names, means, hypotheses(survey, arrays, means.scores.by_spaxel, z, known_offset_kms))


def known_offsets_kms(galaxies: pd.DataFrame) -> pd.Series:
    """Displacement of the lines of accepted galaxies in km/s, by plateifu; NaN unless `prepare` flagged the redshift.

    Args:
        galaxies: rows of `WindowStore.galaxies`, with the offsets that `prepare` measured in wider windows.
    """
    rows = galaxies[galaxies["status"] == "accepted"].set_index("plateifu")
    if "z_flag" not in rows:
        return pd.Series(np.nan, index=rows.index)
    # Where no galaxy has an offset, the column has no values and no numeric type.
    z, offset_kms, z_used = (rows[name].astype(float) for name in ("z", "z_offset_kms", "z_used"))
    # Redshifts multiply: (1 + z_true) = (1 + z)(1 + offset / c), seen from windows at z_used.
    velocity = ((1 + z) * (1 + offset_kms / SPEED_OF_LIGHT_KMS) / (1 + z_used) - 1) * SPEED_OF_LIGHT_KMS
    wrong = rows["z_flag"].eq(True) & (np.abs(velocity) > NO_DISPLACEMENT_KMS)
    return pd.Series(np.where(wrong, velocity, np.nan), index=rows.index)


def calibrate_ensemble(
    ensemble: ModelEnsemble,
    path: Path,
    *,
    num_galaxies: int,
    given: Mapping[str, Any] | None = None,
    tell: Callable[[int, int], None] = lambda *_: None,
) -> ModelEnsemble:
    """Ensemble with its scorers, each calibrated on galaxies that its model has not seen.

    The scorers are read from `path` if it exists. The main model has seen all training galaxies; where validation and
    test hold too few, it is calibrated on all splits. So is the model of a fold, where a small store, such as one of
    another survey, holds too few of its fold.

    Args:
        ensemble: without scorers.
        path: JSON file of the scorers.
        num_galaxies: most galaxies to calibrate on; the last shard is used whole.
        given: `GalaxyScorer.to_json` of the one model, calibrated on other galaxies, in place of a calibration here.
        tell: called after each model with the number calibrated and their total.
    """
    if not path.exists():
        store = WindowStore.open(ensemble.store)
        velocity_kms = store.coordinate(store.splits[0], "velocity_kms")
        psf, num_networks = ensemble.psf_fwhm_spaxels, len(ensemble.networks)
        if given is not None:
            # The survey's PSF limits how sharp a real peak can be.
            scorers = [dict(given) | {"fall": point_fall(psf)}]
            tell(1, 1)
        else:
            found: list[Calibration] = []
            galaxies = [_CalibrationGalaxies(ensemble, index, num_galaxies) for index in range(num_networks)]
            for network, own in zip(ensemble.networks, galaxies, strict=True):
                found.append(calibrate(network, own, velocity_kms, psf_fwhm_spaxels=psf, device=ensemble.device))
                tell(len(found), num_networks)
            scorers = _regressed(found, galaxies)
        with replacing(path) as partial:
            partial.write_text(json.dumps(scorers))
    # Read back in any case, so that a rerun scores with exactly the numbers of the run that it resumes.
    try:
        calibrated = tuple(json.loads(path.read_text()))
        for pair in zip(ensemble.networks, calibrated, strict=True):
            GalaxyScorer.from_json(*pair, ensemble.device)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged ({error!r}). Delete it and run `cubescout score` again.") from error
    return replace(ensemble, scorers=calibrated)


def _regressed(found: Sequence[Calibration], galaxies: "Sequence[_CalibrationGalaxies]") -> list[dict[str, Any]]:
    """`GalaxyScorer.to_json` of each network, with regressions from its own galaxies.

    Where a fold has too few, the regressions of all folds are from the galaxies of all: scores of different folds are
    compared, and must be on one scale.
    """
    parts: list[list[Calibration]] = [[] for _ in found]
    own = [each for each, mine in zip(found[1:], galaxies[1:], strict=True) if not mine.takes_all]
    if own and (len(own) < len(found) - 1 or min(len(each.nuisances) for each in own) < MIN_REGRESSION):
        parts[1:] = [own] * (len(found) - 1)
    return [each.regressed(part).to_json() for each, part in zip(found, parts, strict=True)]


def clear(folder: Path) -> None:
    """Removes the files of a run whose catalog is written."""
    shutil.rmtree(folder, ignore_errors=True)


class _CalibrationGalaxies:
    """Galaxies that one network of an ensemble is calibrated on, a shard at a time."""

    def __init__(self, ensemble: ModelEnsemble, network: int, num_galaxies: int) -> None:
        self._ensemble, self._network, self._limit = ensemble, network, num_galaxies
        self._store = _open(ensemble.store)
        num_own = ensemble.counts(list(_mangaids(ensemble.store).values()))[network].sum()
        self.takes_all = network == 0 or num_own < MIN_CALIBRATION
        held_out = [split for split in self._store.splits if split != "train"]
        enough = sum(self._store.num_rows(split) for split in held_out) >= MIN_HELD_OUT
        self._splits = held_out if network == 0 and enough else self._store.splits

    def __call__(self) -> Iterator[Arrays]:
        left = self._limit
        for split in self._splits:
            for shard in range(self._store.num_shards(split)):
                if left <= 0:
                    return
                windows = self._store.read_shard(split, shard).observed
                chosen = self._chosen(windows)
                if chosen.any():
                    left -= int(chosen.sum())
                    windows = windows.select(chosen)
                    yield windows.flux, windows.ivar, windows.mask

    def _chosen(self, windows: Windows) -> np.ndarray:
        if self.takes_all:
            return np.ones(len(windows), dtype=bool)
        mangaids = _mangaids(self._ensemble.store)
        return self._ensemble.counts([mangaids[name] for name in windows.plateifu.astype(str)])[self._network]


# Cached for each worker process, which scores many shards of one store.
@lru_cache(maxsize=2)
def _open(path: str) -> WindowStore:
    return WindowStore.open(path)


@lru_cache(maxsize=2)
def _known_offsets(path: str) -> pd.Series:
    return known_offsets_kms(_open(path).galaxies())


@lru_cache(maxsize=2)
def _redshifts(path: str) -> pd.Series:
    """Redshift of the windows by plateifu."""
    rows = _open(path).galaxies().query("status == 'accepted'").set_index("plateifu")
    return rows["z_used"] if "z_used" in rows else rows["z"]


@lru_cache(maxsize=2)
def _mangaids(path: str) -> dict[str, str]:
    """Object of each accepted galaxy, by plateifu."""
    rows = _open(path).galaxies().query("status == 'accepted'")
    return dict(zip(rows["plateifu"].astype(str), rows["mangaid"].astype(str), strict=True))


def _names(cls: Any) -> list[str]:
    return [field.name for field in fields(cls)]
