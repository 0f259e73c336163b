"""Attribution maps beside a catalog, which `cubescout score` can write."""

from pathlib import Path

import numpy as np

from modeling.scoring.attribution import attribution_path, read_attribution

MAPS = ("by_place", "by_spaxel")


def read_maps(catalog_path: Path, plateifu: str) -> dict[str, np.ndarray]:
    """Attribution maps of one galaxy in sigma: `by_place` [line, y, x], `by_spaxel` [y, x]; empty if there are none."""
    try:
        found = read_attribution(attribution_path(catalog_path), plateifu)
    except (FileNotFoundError, KeyError):
        return {}
    return {name: found[name] for name in MAPS if name in found}
