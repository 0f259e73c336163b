"""Augmented views that a loader makes: the numbers that `prepare` would have written to the store."""

from dataclasses import dataclass

import numpy as np

from cubeprep.augment import AugmentConfig, augment, view_rng
from cubeprep.store import WindowStore


@dataclass(frozen=True)
class Views:
    """The views of each galaxy that a store leaves to whoever reads it.

    Attributes:
        count: views of a galaxy, the one as observed included; 1 where the store holds all rows itself.
        seed: the store's.
        config: how views are made.
    """

    count: int
    seed: int
    config: AugmentConfig

    @classmethod
    def of(cls, store: WindowStore, split: str) -> "Views":
        """As the configuration of the store's `prepare` has it, for training alone."""
        resolved = store.attrs["config"]
        config = AugmentConfig.model_validate(resolved.get("prepare", {}).get("augment", {}))
        left = config.num_views // config.stored_views if split == "train" else 1
        return cls(left, resolved.get("seed", 0), config)

    def make(
        self, plateifu: str, view: int, flux: np.ndarray, ivar: np.ndarray, good: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One view of a galaxy.

        Args:
            plateifu: the galaxy.
            view: which, from 1 on.
            flux: [line, sample, y, x] as observed; any value where not good.
            ivar: the same shape.
            good: the same shape, bool.

        Returns:
            flux, ivar and mask of the view; 0 is good in the mask.
        """
        rng = view_rng(self.seed, plateifu, view)
        return augment(flux, ivar, (~good).astype(np.uint8), self.config, rng)
