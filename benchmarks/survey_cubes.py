"""Writes the cubes of `benchmarks.survey`: simulated galaxies, summed in blocks of 4 x 4 spaxels, as small LOGCUBEs.

A real LOGCUBE of the smallest bundle (34 x 34 spaxels) takes 16 MB, 10,000 of them 160 GB. Summed to 8 x 8 spaxels of
2 arcsec with all 4,563 planes, each takes 0.4 MB; the galaxies, their noise and masks are the simulator's.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np

from benchmarks.anomaly.pool import run_all
from benchmarks.anomaly.scene import CubeArm
from benchmarks.anomaly.simulated import observed_arm, plan
from cubeprep.masks import DRP3PIXMASK, bits_value
from cubeprep.simulate.config import SimulateConfig
from cubeprep.simulate.cube import keep_bits
from cubeprep.simulate.drp import _cube_wcs
from cubeprep.simulate.drpall import write_drpall
from cubeprep.simulate.fitsfile import whole_gzip, write_image, write_primary
from cubeprep.simulate.footprint import SPAXEL_ARCSEC as SIMULATED_ARCSEC
from cubeprep.simulate.galaxy import Galaxy
from cubeprep.simulate.survey import IDENTITY_FILE, Plan
from cubeprep.simulate.target import Target, common_cards
from cubeprep.store import FLUX_UNIT

SIZE, FACTOR, SEED = 8, 4, 20261126
SPAXEL_ARCSEC = FACTOR * SIMULATED_ARCSEC
BAD = bits_value(("NOCOV", "DONOTUSE"), DRP3PIXMASK)
MANTISSA_BITS = 8  # an error of 0.2%, far below the noise, for files that are a quarter smaller
GALAXIES_PER_TASK = 20


def survey_config(num_galaxies: int) -> SimulateConfig:
    """A survey of the smallest bundle, with repeat observations and without MAPS."""
    return SimulateConfig(num_galaxies=num_galaxies, bundle_shares={19: 1}, maps=())


@lru_cache(maxsize=1)
def planned(num_galaxies: int) -> Plan:
    """The observations of a survey, planned once per process."""
    return plan(survey_config(num_galaxies), SEED)


def write_cubes(root: Path, num_galaxies: int, num_workers: int) -> None:
    """Writes the LOGCUBEs, of which existing ones are kept, and `drpall.fits`."""
    root.mkdir(parents=True, exist_ok=True)
    (root / IDENTITY_FILE).write_text(survey_config(num_galaxies).model_dump_json())
    tasks = [(root, num_galaxies, start) for start in range(0, num_galaxies, GALAXIES_PER_TASK)]
    for _ in run_all(write_some, tasks, num_workers):
        pass
    targets, galaxies = zip(*((item.target, item.galaxy) for item in planned(num_galaxies)), strict=True)
    write_drpall(root / "drpall.fits", targets, galaxies)


def write_some(task: tuple[Path, int, int]) -> None:
    """Writes the cubes of one task: root, size of the survey and first observation."""
    root, num_galaxies, start = task
    for item in planned(num_galaxies)[start : start + GALAXIES_PER_TASK]:
        path = root / item.target.cube_path
        if not path.exists():
            arm, *_ = observed_arm(item, survey_config(num_galaxies), SEED, SIZE, FACTOR)
            write_cube(path, item.target, item.galaxy, arm)


def write_cube(path: Path, target: Target, galaxy: Galaxy, arm: CubeArm) -> None:
    """Writes one cube with the HDUs that `prepare` reads."""
    wcs = _cube_wcs(galaxy, SIZE) | {"CD1_1": -SPAXEL_ARCSEC / 3600, "CD2_2": SPAXEL_ARCSEC / 3600}
    mask = np.where(arm.bad, BAD, 0).astype(np.int32)
    with whole_gzip(path) as file:
        write_primary(file, [*common_cards(target, galaxy), ("BUNIT", FLUX_UNIT, "Unit of the flux")])
        for name, values in (("FLUX", arm.flux), ("IVAR", arm.ivar)):
            keep_bits(values, MANTISSA_BITS)
            write_image(file, name, values, wcs | ({"BUNIT": FLUX_UNIT} if name == "FLUX" else {}))
        write_image(file, "MASK", mask, wcs)
