"""Planes of a galaxy's arms with the starlight in them, from our own fit or from a survey's model cube."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from cubeprep.cube import Arm, Planes
from cubeprep.stars.blocks import BlockSums, read_summed
from cubeprep.stars.starlight import FITTED_RANGE, Starlight, StarlightSummary, fit_starlight
from cubeprep.windows import WindowConfig

# Reads the model's stars in planes of the first arm: its wavelengths, the planes' indices, and the side in spaxels.
ModelCube = Callable[[np.ndarray, np.ndarray, int | None], tuple[Starlight, np.ndarray]]


class StarsFound(NamedTuple):
    """Spaxels [y, x] whose starlight is known, and the stars of the galaxy."""

    fitted: np.ndarray
    summary: StarlightSummary = StarlightSummary()


def read_arms(
    arms: Sequence[Arm], indices: Sequence[np.ndarray], z: float, config: WindowConfig, model: ModelCube | None
) -> tuple[dict[int, tuple[Planes, Starlight | None]], StarsFound]:
    """Planes and starlight by number of the arm, and what is known of the stars.

    Args:
        arms: spectra of the galaxy.
        indices: sorted indices of the planes to read from each arm; none for an arm that is not needed.
        z: redshift.
        config: window parameters.
        model: reader of the survey's model of the stars; needed for `continuum: dap`.

    Raises:
        Rejected: a file cannot be read.
    """
    size, used = config.read_size, [number for number, index in enumerate(indices) if index.size]
    if config.continuum != "stars":
        planes = [arms[number].read(indices[number], size) for number in used]
        starlight: list[Starlight | None] = [None] * len(used)
        found = StarsFound(np.zeros(planes[0].flux.shape[1:], dtype=bool))
        if config.continuum == "dap":
            assert model is not None
            starlight[0], fitted = model(arms[0].wave, indices[0], size)
            found = StarsFound(fitted)
        return dict(zip(used, zip(planes, starlight, strict=True), strict=True)), found
    lines = config.line_list
    low = min(FITTED_RANGE[0], *(line.blueside[0] for line in lines))
    high = max(FITTED_RANGE[1], *(line.redside[1] for line in lines))
    sums = [BlockSums(_between(arms[number].wave, low, high, z), arms[number].wave) for number in used]
    planes = [read_summed(arms[n], indices[n], size, total) for n, total in zip(used, sums, strict=True)]
    waves = [arms[number].wave[indices[number]] for number in used]
    fitted = fit_starlight([total.spectra() for total in sums], list(zip(waves, planes, strict=True)), z, (low, high))
    return dict(zip(used, zip(planes, fitted.arms, strict=True), strict=True)), StarsFound(fitted.known, fitted.summary)


def _between(wave: np.ndarray, low: float, high: float, z: float) -> np.ndarray:
    """Indices of the planes between two rest wavelengths, Angstrom."""
    return np.flatnonzero((wave >= low * (1 + z)) & (wave <= high * (1 + z)))
