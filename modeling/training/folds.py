"""Cross-fitting: models that each left some galaxies out, so that every galaxy is scored by one that never saw it.

The object decides the fold of a galaxy: repeat observations and views stay together. The models are in the folder
`folds` of the main model, by number.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modeling.network.checkpoint import CheckpointError, load_model, write_json
from modeling.network.normalisation import WindowNetwork
from modeling.training.config import MOST_FOLDS, TrainingJob

FOLDER = "folds"


@dataclass(frozen=True)
class Folds:
    """Models of cross-fitting.

    Attributes:
        models: model `k` has not seen the folds `left_out(k, num, left_out)`; empty where there are none.
        num: number of folds.
        left_out: number of folds that each model has not seen.
    """

    models: tuple[WindowNetwork, ...] = ()
    num: int = 0
    left_out: int = 1


def fold_of(mangaid: str, num_folds: int) -> int:
    """Fold of an object, 0 to `num_folds` - 1."""
    # From a digest of the name alone: it does not change when other galaxies join or leave a survey.
    number = hashlib.sha256(f"fold/{mangaid}".encode()).digest()[:8]
    return int.from_bytes(number, "big") % num_folds


def left_out(fold: int, num_folds: int, num_left_out: int) -> frozenset[int]:
    """Folds that a model has not seen; with two, each galaxy has two models, whose spread is an uncertainty."""
    return frozenset((fold + i) % num_folds for i in range(num_left_out))


def left_out_of(job: TrainingJob) -> Callable[[str], bool] | None:
    """Predicate of mangaid for galaxies that a training leaves out; None for one that leaves none out."""
    if job.fold is None:
        return None
    num, unseen = job.train.folds, left_out(job.fold, job.train.folds, job.train.left_out)
    return lambda mangaid: fold_of(mangaid, num) in unseen


def mark_folds(directory: Path, num: int, num_left_out: int) -> None:
    """Records in a main model how many folds belong to it.

    This is done before they are trained: a missing one is then an error, and not a model without folds.
    """
    path = directory / "model.json"
    description = json.loads(path.read_text())
    description["metadata"]["folds"] = {"num": num, "left_out": num_left_out}
    write_json(path, description)


def load_folds(directory: Path) -> Folds:
    """Models of folds beside a main model.

    Raises:
        CheckpointError: the directory holds no model, a fold is missing, or one is built otherwise than the main model.
    """
    main, metadata = load_model(directory)
    folder = directory / FOLDER
    recorded = metadata.get("folds")
    if recorded is None:
        return Folds()
    try:
        num, num_left_out = int(recorded["num"]), int(recorded["left_out"])
        if not 1 <= num_left_out < num <= MOST_FOLDS:
            raise ValueError(num)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        found = f"folds is {recorded!r:.60}, expected num, at most {MOST_FOLDS}, and left_out, below it"
        raise CheckpointError(f"{directory}/model.json: {found}") from error
    missing = [str(fold) for fold in range(num) if not (folder / str(fold) / "model.json").is_file()]
    if missing:
        raise CheckpointError(
            f"{folder}: of {num} folds, the models of {', '.join(missing)} are missing; run `cubescout train` again"
        )
    models = tuple(load_model(folder / str(fold))[0] for fold in range(num))
    differing = [str(fold) for fold, model in enumerate(models) if model.arguments != main.arguments]
    if differing:
        raise CheckpointError(f"{folder}: the models of {', '.join(differing)} are built otherwise than the main one")
    return Folds(models, num, num_left_out)
