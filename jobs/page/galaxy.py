"""All that the page shows of one galaxy, in one message: arrays in, bytes out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cubeprep.masks import good_samples
from cubeprep.store import Windows
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
    usual_shares: Mapping[str, float],
    attribution: Mapping[str, np.ndarray],
) -> bytes:
    """The message of one galaxy, as `pack` makes it.

    Args:
        row: of the catalog.
        windows: of the galaxy, one row.
        reconstruction: [1, line, sample, y, x] flux units.
        lines: rest wavelength (vacuum Angstrom) by name, in the order of the store.
        usual_shares: median share of each line over the survey.
        attribution: maps in sigma, of `attribution.read_maps`.

    Returns:
        Metadata: the row, lines, neighbours, ends of colour scales. Arrays, float32, NaN where masked: `flux`, `model`,
        `error` [line, sample, y, x]; `map_flux`, `map_model`, `map_sigma`, `map_chi2` [line, y, x]; `sum_flux`,
        `sum_model`, `sum_error` [line, sample]; `misfit` [y, x], chi2 a sample over all lines; those of `attribution`.
    """
    flux, ivar, mask, model = windows.flux[0], windows.ivar[0], windows.mask[0], reconstruction[0]
    maps, sums = line_maps(flux, ivar, mask, model), summed_spectra(flux, ivar, mask, model)
    good = good_samples(flux, ivar, mask)
    error = np.divide(1.0, np.sqrt(np.where(good, ivar, 1)), out=np.full(flux.shape, np.nan), where=good)
    arrays: dict[str, np.ndarray] = {"flux": np.where(good, flux, np.nan), "model": model, "error": error}
    arrays |= {f"map_{name}": getattr(maps, name) for name in ("flux", "model", "sigma", "chi2")}
    arrays |= {f"sum_{name}": getattr(sums, name) for name in ("flux", "model", "error")}
    arrays |= {"misfit": misfit(flux, model, ivar, good), **attribution}
    meta = {
        "row": json_row(row),
        "lines": [
            {
                "name": name,
                "rest_wave": rest_wave,
                "share": json_row(row).get(SHARE_PREFIX + name),
                "usual": usual_shares.get(name, 0.0),
                "flux_limits": flux_limits(maps.flux[i]),
            }
            for i, (name, rest_wave) in enumerate(lines.items())
        ],
        "limits": {
            "sigma": upper_limit(maps.sigma, least=5.0),
            "chi2": upper_limit(maps.chi2, least=5.0),
            **{name: upper_limit(values, least=3.0) for name, values in attribution.items()},
        },
        "neighbours": neighbours_of(row),
    }
    return pack(meta, {name: np.asarray(values, np.float32) for name, values in arrays.items()})


def misfit(flux: np.ndarray, model: np.ndarray, ivar: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Mean residual^2 ivar over the good samples of all lines, [y, x]; NaN where there is none."""
    residual = np.where(good, flux, 0).astype(np.float64) - np.where(good, model, 0)
    count = good.sum((0, 1))
    total = (residual**2 * np.where(good, ivar, 0)).sum((0, 1))
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def neighbours_of(row: Mapping[Any, Any]) -> list[dict[str, Any]]:
    """The neighbours that a catalog names, nearest first."""
    columns: Sequence[Any] = [row.get(f"neighbour{name}", ()) for name in ("s", "_distances", "_same_object")]
    return [
        {"plateifu": str(name), "distance": float(distance), "same_object": bool(same)}
        for name, distance, same in zip(*columns, strict=True)
    ]
