"""Train, validation and test: by object, so that repeat observations and views stay together."""

import hashlib
from collections.abc import Sequence

from pydantic import Field, model_validator

from cubeprep.config import Config


class SplitConfig(Config):
    """Shares of the galaxies; a galaxy's repeat observations (same mangaid) share its split."""

    validation: float = Field(0.15, ge=0, lt=1)
    test: float = Field(0.15, ge=0, lt=1)

    @model_validator(mode="after")
    def _leaves_some_to_train(self) -> "SplitConfig":
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together leave nothing to train on")
        return self


def assign_splits(mangaids: Sequence[str], config: SplitConfig, seed: int) -> dict[str, str]:
    """The split of each object: objects are ordered by a digest of seed and mangaid and cut by share."""
    objects = sorted(set(mangaids), key=lambda mangaid: hashlib.sha256(f"{seed}/{mangaid}".encode()).digest())
    num_validation = round(config.validation * len(objects))
    num_test = min(round(config.test * len(objects)), len(objects) - num_validation - 1)
    names = ["validation"] * num_validation + ["test"] * max(num_test, 0)
    names += ["train"] * (len(objects) - len(names))
    return dict(zip(objects, names, strict=True))
