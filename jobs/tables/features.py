"""Latents, scores and reasons of a catalog's galaxies, for commands that learn from labels."""

from pathlib import Path

import numpy as np
import pandas as pd

from modeling.catalog import latents_path, read_latents
from modeling.scoring.attribution import attribution_path, read_by_line


def latents_of(table: pd.DataFrame, catalog_path: Path) -> np.ndarray:
    """Latents [galaxy, dimension] in the order of a table, as the encoder gives them."""
    names, latent = read_latents(latents_path(catalog_path))
    return latent[pd.Series(np.arange(len(names)), names)[table["plateifu"]].to_numpy()]


def score_names(table: pd.DataFrame) -> list[str]:
    """Names of all scores of a catalog."""
    return [str(name) for name in table if str(name).startswith("score")]


def scores_of(table: pd.DataFrame) -> np.ndarray:
    """[galaxy, score] all scores of a catalog."""
    return table[score_names(table)].to_numpy(dtype=float)


def by_line_of(table: pd.DataFrame, catalog_path: Path, created_utc: str) -> np.ndarray | None:
    """Excess of each line [galaxy, line] in the order of a table, 0 where it is not known; None without maps.

    Raises:
        OtherScoringError: the maps are not of the catalog made at `created_utc`.
    """
    path = attribution_path(catalog_path)
    if not path.exists():
        return None
    names, values = read_by_line(path, created_utc)
    return pd.DataFrame(values, names).reindex(table["plateifu"]).fillna(0).to_numpy()
