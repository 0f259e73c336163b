"""Assigns galaxies to train, validation and test by object, so that repeat observations and views stay together."""

import hashlib
from collections.abc import Sequence

from pydantic import Field, model_validator

from cubeprep.config import Config


class SplitConfig(Config):
    """Fractions of the objects in each split; observations of the same object (mangaid) share its split."""

    validation: float = Field(0.15, ge=0, lt=1, description="Fraction of the objects in the validation split")
    test: float = Field(
        0.15, ge=0, lt=1, description="Fraction of the objects in the test split; the rest is for training"
    )

    @model_validator(mode="after")
    def _leaves_some_to_train(self) -> "SplitConfig":
        if self.validation + self.test >= 1:
            raise ValueError(
                f"validation + test = {self.validation + self.test:g} leaves no galaxies for training; expected below 1"
            )
        return self


def assign_splits(mangaids: Sequence[str], config: SplitConfig, seed: int) -> dict[str, str]:
    """Split of each object, by mangaid.

    Objects are ordered by a digest of seed and mangaid, a random order that does not depend on the order of the input,
    and divided according to the configured fractions. At least one object is left for training.
    """
    objects = sorted(set(mangaids), key=lambda mangaid: hashlib.sha256(f"{seed}/{mangaid}".encode()).digest())
    num_validation = round(config.validation * len(objects))
    num_test = min(round(config.test * len(objects)), len(objects) - num_validation - 1)
    names = ["validation"] * num_validation + ["test"] * max(num_test, 0)
    names += ["train"] * (len(objects) - len(names))
    return dict(zip(objects, names, strict=True))
