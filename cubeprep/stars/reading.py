"""Planes of a galaxy's arms with the starlight in them, from our own fit or from a survey's model cube."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from cubeprep.cube import Arm, Planes
from cubeprep.stars.blocks import BlockSums, read_summed
from cubeprep.stars.starlight import FITTED_RANGE, ModelStars, Starlight, StarlightSummary, fit_starlight
from cubeprep.windows import WindowConfig

# Reads planes of the first arm's model: sorted indices of the planes, and the side of the square, spaxels.
ModelCube = Callable[[np.ndarray, int | None], ModelStars]


class StarsFound(NamedTuple):
    """Quantities of the stars of a galaxy besides their light; see `FittedStars`, whose `known` is `fitted` here."""

    fitted: np.ndarray
    summary: StarlightSummary = StarlightSummary()
    remarks: tuple[str, ...] = ()
    error: Callable[[np.ndarray], np.ndarray] | None = None


def read_arms(
    arms: Sequence[Arm], indices: Sequence[np.ndarray], z: float, config: WindowConfig, model: ModelCube | None
) -> tuple[dict[int, tuple[Planes, Starlight | None]], StarsFound]:
    """Planes and starlight by number of the arm, and quantities of the stars.

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
            starlight[0], found = _from_model(model(indices[0], size), indices[0])
        return dict(zip(used, zip(planes, starlight, strict=True), strict=True)), found
    lines = config.line_list
    low = min(FITTED_RANGE[0], *(line.blueside[0] for line in lines))
    high = max(FITTED_RANGE[1], *(line.redside[1] for line in lines))
    sums = [BlockSums(_between(arms[number].wave, low, high, z), arms[number].wave) for number in used]
    planes = [read_summed(arms[n], indices[n], size, total) for n, total in zip(used, sums, strict=True)]
    waves = [arms[number].wave[indices[number]] for number in used]
    blocks = [
        replace(total.spectra(), lsf_sigma_kms=_resolution(arms[number], total.planes))
        for number, total in zip(used, sums, strict=True)
    ]
    fitted = fit_starlight(blocks, list(zip(waves, planes, strict=True)), z, (low, high))
    found = StarsFound(fitted.known, fitted.summary, fitted.remarks, fitted.error)
    return dict(zip(used, zip(planes, fitted.arms, strict=True), strict=True)), found


def _resolution(arm: Arm, planes: np.ndarray) -> np.ndarray | None:
    """Resolution (sigma) of an arm in some planes, km/s; None if its reader does not know it."""
    sigma = getattr(arm, "lsf_sigma_kms", None)
    return None if sigma is None else sigma[planes]


def _from_model(model: ModelStars, index: np.ndarray) -> tuple[Starlight, StarsFound]:
    """Starlight of a survey's model, and the spaxels that have it in most planes.

    Within a run of planes, which holds whole windows, a spaxel must have a model throughout or not at all: samples
    without one among others with one would keep their stars, and are lost.
    """
    lost = np.zeros(model.fitted.shape, dtype=bool)
    for run in np.split(np.arange(len(index)), np.flatnonzero(np.diff(index) > 1) + 1):
        fitted = model.fitted[run]
        lost[run] = ~fitted & fitted.any(axis=0)
    known = model.fitted.mean(axis=0) > 0.5
    share = float(known.sum() / max(int(model.fitted.any(axis=0).sum()), 1))
    return Starlight(model.flux, np.zeros_like(model.flux), lost), StarsFound(known, StarlightSummary(share=share))


def _between(wave: np.ndarray, low: float, high: float, z: float) -> np.ndarray:
    """Indices of the planes between two rest wavelengths, Angstrom."""
    return np.flatnonzero((wave >= low * (1 + z)) & (wave <= high * (1 + z)))
