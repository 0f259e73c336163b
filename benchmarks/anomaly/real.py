"""Injections into real cubes, to test whether models trained on the simulated survey detect them.

There are too few real cubes to measure false-positive rates. The measure is therefore paired: how often an injected
copy scores higher than its own clean twin, which has the same galaxy, noise and mask. Our network is fine-tuned on the
other real galaxies first. Repeat observations take no injections; networks are fine-tuned on them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from benchmarks.anomaly.all_families import load_families
from benchmarks.anomaly.rows import injected, measured
from benchmarks.anomaly.scene import CubeArm, Host, Source, binned
from benchmarks.anomaly.tiers import DataConfig
from cubeprep.cube import Arm, Target
from cubeprep.masks import WINDOW_MASK_BITS
from cubeprep.store import Windows
from cubeprep.survey import SurveyConfig, make_reader

# Redshift of the brightest cluster galaxy in the MUSE cube, and the seeing of the two surveys.
MUSE_TABLE = "name,z\nmpdaf_minicube_Abell478,0.0860\n"
SEEING_ARCSEC = {"sami": 2.1, "muse": 0.8}
FWHM_PER_SIGMA = 2.3548
NUM_DRAWS = 2


def real_sources(root: Path, scratch: Path, size: int, factor: int) -> Iterator[Source]:
    """Yields the real SAMI and MUSE cubes below `root`, repeat observations last.

    Args:
        root: folder with `sami/cubes`, `muse` and, if there are any, `sami/repeats`.
        scratch: folder for the table that the MUSE reader needs.
        size: side of the square kept about the middle, in spaxels after binning.
        factor: side of the blocks of spaxels that are summed into one.
    """
    table = scratch / "muse.csv"
    table.write_text(MUSE_TABLE)
    surveys = [
        SurveyConfig(reader="sami", root=str(root / "sami" / "cubes"), z_max=0.2),
        SurveyConfig(reader="muse", root=str(root / "muse"), table=str(table), z_max=0.2),
    ]
    repeats = root / "sami" / "repeats"
    if repeats.is_dir():
        surveys.append(SurveyConfig(reader="sami", root=str(repeats), z_max=0.2))
    for survey in surveys:
        reader = make_reader(survey)
        for target in reader.find_targets():
            yield _source(target, reader.open(target), SEEING_ARCSEC[survey.reader], size, factor)


def _source(target: Target, arms: Sequence[Arm], seeing_arcsec: float, size: int, factor: int) -> Source:
    observed = []
    for arm in arms:
        planes = arm.read(np.arange(len(arm.wave)), None)
        whole = CubeArm(arm.wave, planes.flux, planes.ivar, planes.mask != 0, planes.spaxel_arcsec)
        observed.append(binned(whole, size, factor))
    sigma = seeing_arcsec / FWHM_PER_SIGMA / observed[0].spaxel_arcsec
    scene = tuple(smoothed(arm) for arm in observed)
    return Source(target.plateifu, target.mangaid, target.z, target.re_arcsec, tuple(observed), scene, sigma, factor)


def smoothed(arm: CubeArm) -> CubeArm:
    """Estimate of the noise-free scene: ivar-weighted flux smoothed by a Gaussian of one plane and one spaxel."""
    weight = np.where(arm.bad, 0, arm.ivar).astype(np.float32)
    sums = [gaussian_filter(values, 1.0) for values in (arm.flux * weight, weight)]
    flux = np.divide(sums[0], sums[1], out=np.zeros_like(sums[0]), where=sums[1] > 0)
    return CubeArm(arm.wave, flux, arm.ivar, arm.bad, arm.spaxel_arcsec)


def real_rows(data: DataConfig, root: Path, scratch: Path) -> tuple[Windows, pd.DataFrame]:
    """Windows of clean twins and of copies with every family A and amplitude, and their rows as in `Data.rows`.

    Repeat observations of a galaxy have no copies. `psf_fwhm_spaxels` is that of the survey.
    """
    config = data.model_copy(update={"windows": data.windows.model_copy(update={"min_lines": 1})})
    families, rows, windows, objects = load_families(), [], [], set()
    for source in real_sources(root, scratch, data.windows.size, data.bin_factor):
        host = Host(source, config.windows)
        twin, *copies = _plan(source, data)
        for row in [twin] if source.mangaid in objects else [twin, *copies]:
            found = injected(host, row, families, data.seed)
            rows.append(measured(host, found) | row)
            windows.append(found.windows)
        objects.add(source.mangaid)
    flux, ivar, mask = (np.stack([getattr(part, name) for part in windows]) for name in ("flux", "ivar", "mask"))
    mask[~np.isfinite(flux) & (mask == 0)] = WINDOW_MASK_BITS["NONFINITE"]
    names = np.array([row["name"] for row in rows])
    return Windows(flux, ivar, mask, names, np.zeros(len(names), dtype=int)), pd.DataFrame(rows)


def _plan(source: Source, data: DataConfig) -> list[dict[str, Any]]:
    psf_fwhm = source.psf_sigma * FWHM_PER_SIGMA
    same = {"twin": source.plateifu, "mangaid": source.mangaid, "z": source.z, "psf_fwhm_spaxels": psf_fwhm}
    rows = [{"name": source.plateifu, "family": "", "kind": "", "level": -1, "wanted": np.nan, **same}]
    for family in load_families().values():
        for level, amplitude in enumerate(data.amplitudes):
            for draw in range(NUM_DRAWS if family.kind == "A" else 0):
                name = f"{source.plateifu}+{family.name}-{level}-{draw}"
                row = {"name": name, "family": family.name, "kind": family.kind, "level": level, "draw": draw}
                rows.append(row | {"wanted": amplitude} | same)
    return rows


def wins(score: np.ndarray, rows: pd.DataFrame) -> pd.Series:
    """Fraction of the copies that score higher than their clean twin, by intended amplitude."""
    by_name = pd.Series(score, index=rows["name"])
    copies = rows[rows["kind"] == "A"]
    higher = by_name[copies["name"]].to_numpy() > by_name[copies["twin"]].to_numpy()
    return pd.Series(higher, index=copies["wanted"].to_numpy()).groupby(level=0).mean()
