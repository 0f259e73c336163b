"""A catalog with latents, as `score` writes it, made in no time."""

from pathlib import Path

import numpy as np
import pandas as pd

from cubeprep.store import FLUX_UNIT
from modeling.catalog import build_table, describe_columns, latents_path, write_catalog, write_latents
from modeling.latents.neighbours import nearest_neighbours, standardise
from modeling.latents.umap_map import embed
from modeling.scoring.residual_sums import line_sums, median_snr, scores_from_sums

LINES = ["Hb-4862", "OIII-5008", "Ha-6564"]
PROVENANCE = {"store": {"identity": "abc", "path": "windows.zarr"}, "model": {"reference": "models:/m/1"}}


def write_synthetic_catalog(
    path: Path, num_galaxies: int = 60, seed: int = 0, names: list[str] | None = None
) -> pd.DataFrame:
    """Writes a catalog and its latents: three clusters of galaxies, every tenth galaxy observed twice."""
    names = names or [f"{8000 + i // 20}-{1901 + i % 20}" for i in range(num_galaxies)]
    num_galaxies = len(names)
    rng = np.random.default_rng(seed)
    cluster = np.arange(num_galaxies) % 3
    latent = rng.normal(size=(3, 8))[cluster] * 4 + rng.normal(size=(num_galaxies, 8))
    flux = rng.normal(1, 1, (num_galaxies, 3, 4, 5, 5)) + rng.normal(size=(num_galaxies, 1, 1, 1, 1))
    ivar, mask = np.ones_like(flux), np.zeros(flux.shape, np.uint8)
    mask[::7, 0] = 1  # a line that was not observed
    scores = scores_from_sums(line_sums(flux, ivar, mask, np.ones_like(flux)), median_snr(flux, ivar, mask))
    galaxies = pd.DataFrame(
        {
            "plateifu": names,
            "mangaid": [f"1-{i - (i % 10 == 9)}" for i in range(num_galaxies)],
            "z": rng.uniform(0.02, 0.07, num_galaxies),
            "ra_deg": rng.uniform(0, 360, num_galaxies),
            "dec_deg": rng.uniform(-10, 60, num_galaxies),
            "split": "train",
        }
    )
    standard = standardise(latent)
    few = standard[:4]  # too few for UMAP, which is slow to load
    maps = tuple(embed(few, dimensions, nearest_neighbours(few, np.arange(len(few)), 3)) for dimensions in (2, 3))
    maps = tuple(type(m)(np.resize(m.coordinates, (num_galaxies, m.coordinates.shape[1])), "pca") for m in maps)
    neighbours = nearest_neighbours(standard, galaxies["mangaid"].to_numpy(), 5)
    table = build_table(galaxies, scores, LINES, maps=maps, neighbours=neighbours)
    write_catalog(path, table, describe_columns(LINES, FLUX_UNIT, "unexplained"), PROVENANCE)
    write_latents(latents_path(path), galaxies["plateifu"].tolist(), latent, PROVENANCE)
    return table
