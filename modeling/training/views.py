"""Augmented views made by the loader, with the same values that `prepare` would have written to the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cubeprep.augment import AugmentConfig
    from cubeprep.store import WindowStore


@dataclass(frozen=True)
class Views:
    """Views of each galaxy that a store leaves to its reader.

    Attributes:
        count: views of a galaxy, the observed one included; 1 where the store holds all rows itself.
        seed: of the store.
        config: of the augmentation.
    """

    count: int
    seed: int
    config: AugmentConfig

    @classmethod
    def of(cls, store: WindowStore, split: str) -> Views:
        """Views by the configuration that the store was prepared with; none but the observed one outside training."""
        from cubeprep.augment import AugmentConfig

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
            view: number of the view, from 1.
            flux: [line, sample, y, x] as observed, flux units; any value where not good.
            ivar: the same shape, inverse variance of `flux`.
            good: the same shape, bool.

        Returns:
            flux, ivar and mask of the view; 0 is good in the mask.
        """
        from cubeprep.augment import augment, view_rng

        # The draws depend on seed, galaxy and view alone: any worker makes the same view, in any order.
        rng = view_rng(self.seed, plateifu, view)
        return augment(flux, ivar, (~good).astype(np.uint8), self.config, rng)
