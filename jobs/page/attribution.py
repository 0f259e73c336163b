"""The attribution maps beside a catalog, where scoring made them."""

from pathlib import Path

import numpy as np
import zarr

MAPS = ("by_place", "by_spaxel")


def read_maps(catalog_path: Path, plateifu: str) -> dict[str, np.ndarray]:
    """The maps of one galaxy in sigma: `by_place` [line, y, x], `by_spaxel` [y, x]; empty where there are none."""
    path = catalog_path.with_name(f"{catalog_path.stem}.attribution.zarr")
    if not path.is_dir():
        return {}
    arrays = dict(zarr.open_group(path, mode="r").arrays())
    names = np.asarray(arrays["plateifu"][:]).tolist()
    if plateifu not in names:
        return {}
    row = names.index(plateifu)
    return {name: np.asarray(arrays[name][row], dtype=np.float32) for name in MAPS if name in arrays}
