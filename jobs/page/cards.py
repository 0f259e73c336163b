"""What the page says of each galaxy: numbers and pictures, made from the catalog and the store, no HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cubeprep.masks import good_samples
from cubeprep.store import Windows
from jobs.page.figures import (
    CHI2_COLOURS,
    FLUX_COLOURS,
    SIGMA_COLOURS,
    band_path,
    flux_limits,
    line_maps,
    map_image,
    map_png,
    spectrum_limits,
    step_path,
    summed_spectra,
    upper_limit,
)
from modeling.catalog import SHARE_PREFIX
from modeling.scoring.artefacts import CODES

NUM_TOP_LINES = 6
REASONS = ("reason_1", "reason_2", "reason_3")


@dataclass(frozen=True)
class LinePanel:
    """One emission line of one galaxy: four maps and a spectrum.

    Attributes:
        name: such as `Ha-6564`.
        rest_wave: vacuum Angstrom.
        is_key: whether it shows at once.
        is_covered: whether any sample of it is good.
        images: data URIs by row: `observed`, `model`, `sigma`, `chi2`.
        flux_low, flux_high: ends of the scale of the first two.
        share: of the residual, 0 to 1.
        observed, model, band: SVG paths of the spectrum, of the model, and of +- 1 sigma.
        axis_low, axis_high: ends of the spectrum's flux axis.
        zero: height of zero flux in the spectrum's box, 0 (top) to 1; outside if it is not on the axis.
    """

    name: str
    rest_wave: float
    is_key: bool
    is_covered: bool
    images: Mapping[str, str]
    flux_low: float
    flux_high: float
    share: float
    observed: str
    model: str
    band: str
    axis_low: float
    axis_high: float
    zero: float


@dataclass(frozen=True)
class Share:
    """The share of one line in the residual, against what is usual in the survey; both 0 to 1."""

    name: str
    share: float
    usual: float


@dataclass(frozen=True)
class Neighbour:
    """A galaxy alike: `rank` in the catalog, and whether it is the same object observed again."""

    plateifu: str
    rank: int
    distance: float
    same_object: bool
    thumbnail: str


@dataclass(frozen=True)
class Card:
    """A galaxy on the page.

    Attributes:
        row: its row of the catalog.
        thumbnail: data URI.
        lines: all lines, in order of wavelength.
        top: the lines with the largest shares, largest first.
        neighbours: nearest first.
        sigma_limit, chi2_limit: ends of the colour scales of the residual maps, common to all lines.
        reasons: what is unusual, in words.
        triage: what its reason code means; empty for a code that is not known.
        unusual: data URI of the map of how unusual each spaxel is; empty where scoring made none.
        unusual_limit: end of its scale, sigma.
    """

    row: Mapping[str, Any]
    thumbnail: str
    lines: Sequence[LinePanel]
    top: Sequence[Share]
    neighbours: Sequence[Neighbour]
    sigma_limit: float
    chi2_limit: float
    reasons: Sequence[str] = ()
    triage: str = ""
    unusual: str = ""
    unusual_limit: float = 0.0


def make_card(
    row: Mapping[str, Any],
    windows: Windows,
    reconstruction: np.ndarray,
    *,
    lines: Mapping[str, float],
    key_lines: Sequence[str],
    usual_shares: Mapping[str, float],
    neighbours: Sequence[Neighbour],
    thumbnail: str,
    unusual: np.ndarray | None = None,
) -> Card:
    """The card of one galaxy.

    Args:
        row: of the catalog.
        windows: of the galaxy, one row.
        reconstruction: [1, line, sample, y, x] flux units.
        lines: rest wavelength (vacuum Angstrom) by name, in the order of the store.
        key_lines: shown at once, together with the line of the largest share.
        usual_shares: median share of each line over the survey.
        neighbours: nearest first.
        thumbnail: data URI.
        unusual: [y, x] how unusual each spaxel is, sigma, if scoring said so.
    """
    arrays = windows.flux[0], windows.ivar[0], windows.mask[0], reconstruction[0]
    maps, spectra = line_maps(*arrays), summed_spectra(*arrays)
    sigma_limit = upper_limit(maps.sigma, least=3.0, percentile=98)
    chi2_limit = upper_limit(maps.chi2, least=2.0)
    shown = {*key_lines, row["top_line"]} if set(key_lines) & set(lines) else set(lines)
    panels = []
    for i, (name, rest_wave) in enumerate(lines.items()):
        low, high = flux_limits(maps.flux[i])
        images = {
            "observed": map_image(maps.flux[i], low, high, FLUX_COLOURS, asinh=True),
            "model": map_image(maps.model[i], low, high, FLUX_COLOURS, asinh=True),
            "sigma": map_image(maps.sigma[i], -sigma_limit, sigma_limit, SIGMA_COLOURS),
            "chi2": map_image(maps.chi2[i], 0, chi2_limit, CHI2_COLOURS, asinh=True),
        }
        bottom, top = spectrum_limits(spectra, i)
        panels.append(
            LinePanel(
                name=name,
                rest_wave=rest_wave,
                is_key=name in shown,
                is_covered=bool(np.isfinite(maps.flux[i]).any()),
                images=images,
                flux_low=low,
                flux_high=high,
                share=_finite(row[SHARE_PREFIX + name]),
                observed=step_path(spectra.flux[i], bottom, top),
                model=step_path(spectra.model[i], bottom, top),
                band=band_path(spectra.flux[i], spectra.error[i], bottom, top),
                axis_low=bottom,
                axis_high=top,
                zero=top / (top - bottom),
            )
        )
    if unusual is not None:
        unusual = np.where(good_samples(*arrays[:3]).any((0, 1)), unusual, np.nan)
    limit = 0.0 if unusual is None else upper_limit(unusual, least=3.0)
    return Card(
        row=row,
        thumbnail=thumbnail,
        lines=panels,
        top=top_shares(row, usual_shares),
        neighbours=neighbours,
        sigma_limit=sigma_limit,
        chi2_limit=chi2_limit,
        reasons=[str(row[name]) for name in REASONS if row.get(name)],
        triage=CODES.get(row.get("triage", ""), ""),
        unusual="" if unusual is None else map_image(unusual, 0, limit, CHI2_COLOURS, asinh=True),
        unusual_limit=limit,
    )


def thumbnail_of(windows: Windows, line: int) -> bytes:
    """A small map of one line as PNG: mean over the good samples, one row of windows."""
    good = good_samples(windows.flux[0, line], windows.ivar[0, line], windows.mask[0, line])
    count = good.sum(0)
    total = np.where(good, windows.flux[0, line], 0).sum(0, dtype=np.float64)
    flux = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return map_png(flux, *flux_limits(flux), FLUX_COLOURS, asinh=True)


def usual_shares(table: pd.DataFrame, line_names: Sequence[str]) -> dict[str, float]:
    """Median share of each line in the residual, over all galaxies of a catalog; 0 where none has any."""
    return {name: _finite(table[SHARE_PREFIX + name].median()) for name in line_names}


def top_shares(row: Mapping[str, Any], usual: Mapping[str, float]) -> list[Share]:
    """The lines with the largest shares in the residual of one galaxy, largest first."""
    shares = [Share(name, _finite(row[SHARE_PREFIX + name]), usual[name]) for name in usual]
    return sorted(shares, key=lambda share: -share.share)[:NUM_TOP_LINES]


def _finite(value: float) -> float:
    return float(value) if np.isfinite(value) else 0.0
