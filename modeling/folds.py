"""Cross-fitting: models that each left some galaxies out, so that every galaxy can be judged by one that never saw it.

A galaxy's fold is decided by its object: repeat observations and views stay together. The models lie in the folder
`folds` of the main model, by their numbers.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from modeling.autoencoder import ConvLSTMAutoencoder
from modeling.checkpoint import CheckpointError, load_model

FOLDER = "folds"


@dataclass(frozen=True)
class Folds:
    """Models of cross-fitting.

    Attributes:
        models: model `k` has not seen the folds `left_out(k, num, left_out)`; empty where there are none.
        num: how many.
        left_out: folds that each has not seen.
    """

    models: tuple[ConvLSTMAutoencoder, ...] = ()
    num: int = 0
    left_out: int = 1


def fold_of(mangaid: str, num_folds: int) -> int:
    """The fold of an object, whatever else a survey holds."""
    number = hashlib.sha256(f"fold/{mangaid}".encode()).digest()[:8]
    return int.from_bytes(number, "big") % num_folds


def left_out(fold: int, num_folds: int, num_left_out: int) -> frozenset[int]:
    """The folds that a model has not seen: with two, each galaxy has two models, whose spread is an uncertainty."""
    return frozenset((fold + i) % num_folds for i in range(num_left_out))


def load_folds(directory: Path) -> Folds:
    """The models of folds beside a main model.

    Raises:
        CheckpointError: some are missing.
    """
    _, metadata = load_model(directory)
    told = metadata.get("folds") or {"num": 0, "left_out": 1}
    folders = [directory / FOLDER / str(fold) for fold in range(told["num"])]
    missing = [folder.name for folder in folders if not folder.is_dir()]
    if missing:
        raise CheckpointError(f"{directory}: of {told['num']} folds, the models of {', '.join(missing)} are missing")
    return Folds(tuple(load_model(folder)[0] for folder in folders), told["num"], told["left_out"])
