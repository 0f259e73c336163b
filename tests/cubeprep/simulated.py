"""Small simulated galaxies for tests."""

from dataclasses import replace

import numpy as np

from cubeprep.simulate.cube import Cube, observe
from cubeprep.simulate.defects import Defects
from cubeprep.simulate.galaxy import Galaxy, draw_galaxy
from cubeprep.simulate.maps import GalaxyMaps, galaxy_maps

# What is known of the galaxy of the real MAPS 7815-3702: from its header, and from its central line ratios.
LIKE_7815_3702 = {
    "z": 0.02938, "re_arcsec": 3.775, "axis_ratio": 0.889, "inclination_deg": 28.0, "log_mass": 10.7, "ebv": 0.45,
    "ebv_galactic": 0.101, "oh": 8.55, "oh_gradient": -0.03, "oiii_scatter": 0.0, "ha_ew": 36.0,
    "surface_brightness": 0.40, "bulge_fraction": 0.08, "young_fraction": 0.4, "v_max_kms": 180.0,
    "sigma_gas_kms": 38.0, "sigma_star_kms": 110.0, "sigma_disc_kms": 65.0, "diffuse_fraction": 0.42,
    "sf_extent_re": 0.9,
}  # fmt: skip


def make_galaxy(galaxy_class="star_forming", unusual="", seed=1, num_fibres=19, **changes) -> Galaxy:
    galaxy = draw_galaxy(galaxy_class, unusual, num_fibres, (0.015, 0.075), np.random.default_rng(seed))
    return replace(galaxy, **changes)


def make_maps(galaxy: Galaxy, seed=2) -> GalaxyMaps:
    return galaxy_maps(galaxy, 2.5, np.random.default_rng(seed))


def make_cube(galaxy: Galaxy, seed: int, depth=1.0, defects: Defects | None = None, bits=10) -> Cube:
    return observe(galaxy, make_maps(galaxy), depth, bits, np.random.default_rng(seed), defects)
