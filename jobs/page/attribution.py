"""Attribution maps beside a catalog, which `cubescout score` can write."""

import logging
from pathlib import Path

import numpy as np

from modeling.scoring.attribution import OtherScoringError, attribution_path, read_attribution

logger = logging.getLogger(__name__)

SIGMA_MAPS = ("by_place", "by_spaxel")
MAPS = (*SIGMA_MAPS, "triaged")


def read_maps(catalog_path: Path, plateifu: str, created_utc: str) -> dict[str, np.ndarray]:
    """Attribution maps of one galaxy: `by_place` and `by_spaxel` in sigma, and `triaged`, [line, y, x] or [y, x].

    Empty if there are none of the catalog made at `created_utc`; without `triaged` if an earlier version made them.
    """
    try:
        found = read_attribution(attribution_path(catalog_path), plateifu, created_utc)
    except (FileNotFoundError, KeyError):
        return {}
    except OtherScoringError as error:
        logger.warning("%s", error)
        return {}
    return {name: found[name] for name in MAPS if name in found}
