"""Message of one galaxy for the page: cubes, maps, spectra and metadata."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cubeprep.masks import good_samples
from cubeprep.store import Windows
from jobs.page.attribution import SIGMA_MAPS
from jobs.page.columns import json_row
from jobs.page.figures import flux_limits, line_maps, summed_spectra, upper_limit
from jobs.page.pack import pack
from modeling.catalog import SHARE_PREFIX


def galaxy_message(
    row: Mapping[Any, Any],
    windows: Windows,
    reconstruction: np.ndarray,
    *,
    lines: Mapping[str, float],
    usual_shares: Mapping[str, float | None],
    attribution: Mapping[str, np.ndarray],
) -> bytes:
    """Message of one galaxy, in the format of `pack`.

    Args:
        row: row of the catalog.
        windows: windows of the galaxy, one row.
        reconstruction: [1, line, sample, y, x] reconstruction, in the store's flux unit.
        lines: rest wavelengths (vacuum, Angstrom) by name, in the order of the store.
        usual_shares: median share of each line in the residual over the survey; None if no galaxy has it.
        attribution: maps from `attribution.read_maps`.

    Returns:
        Metadata: row, lines, neighbours and limits of the colour scales. Arrays, float32, NaN where masked: `flux`,
        `reconstruction` and `error`, [line, sample, y, x]; `map_NAME` for each field of `LineMaps`, [line, y, x];
        `sum_NAME` for each field of `Spectra`, [line, sample]; `misfit`, [y, x], chi2 per sample over all lines; and
        the maps of `attribution`.
    """
    flux, ivar, mask = windows.flux[0], windows.ivar[0], windows.mask[0]
    maps = line_maps(flux, ivar, mask, reconstruction[0])
    sums = summed_spectra(flux, ivar, mask, reconstruction[0])
    good = good_samples(flux, ivar, mask)
    error = np.divide(1.0, np.sqrt(np.where(good, ivar, 1)), out=np.full(flux.shape, np.nan), where=good)
    arrays: dict[str, np.ndarray] = {"flux": np.where(good, flux, np.nan), "reconstruction": reconstruction[0]}
    arrays |= {"error": error}
    arrays |= {f"map_{name}": values for name, values in vars(maps).items()}
    arrays |= {f"sum_{name}": values for name, values in vars(sums).items()}
    arrays |= {"misfit": misfit(flux, reconstruction[0], ivar, good)}
    attribution = {name: _where_good(values, good) for name, values in attribution.items()}
    arrays |= attribution
    meta = {
        "row": json_row(row),
        "lines": [
            {
                "name": name,
                "rest_wave": rest_wave,
                "share": json_row(row).get(SHARE_PREFIX + name),
                "usual": usual_shares.get(name),
                "flux_limits": flux_limits(maps.flux[i]),
            }
            for i, (name, rest_wave) in enumerate(lines.items())
        ],
        "limits": {
            "residual_sigma": upper_limit(maps.residual_sigma, least=5.0),
            "chi2": upper_limit(maps.chi2, least=5.0),
            **{name: upper_limit(attribution[name], least=3.0) for name in SIGMA_MAPS if name in attribution},
        },
        "neighbours": neighbours_of(row),
    }
    return pack(meta, {name: np.asarray(values, np.float32) for name, values in arrays.items()})


def misfit(flux: np.ndarray, reconstruction: np.ndarray, ivar: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Mean of residual^2 ivar over the good samples of all lines, [y, x]; NaN where there are none.

    Args:
        flux, reconstruction, ivar, good: [line, sample, y, x]; `good` is bool.
    """
    residual = np.where(good, flux, 0).astype(np.float64) - np.where(good, reconstruction, 0)
    count = good.sum((0, 1))
    total = (residual**2 * np.where(good, ivar, 0)).sum((0, 1))
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _where_good(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Attribution, [line, y, x] or [y, x], with NaN where no sample of the line, or of any line, is good."""
    return np.where(good.any(1) if values.ndim == good.ndim - 1 else good.any((0, 1)), values, np.nan)


def neighbours_of(row: Mapping[Any, Any]) -> list[dict[str, Any]]:
    """Neighbours in a row of the catalog as JSON values, nearest first."""
    columns: Sequence[Any] = [row.get(f"neighbour{name}", ()) for name in ("s", "_distances", "_same_object")]
    return [
        {"plateifu": str(name), "distance": float(distance), "same_object": bool(same)}
        for name, distance, same in zip(*columns, strict=True)
    ]
