"""The parameters of a galaxy, drawn together so that mass, size, rotation, metals, dust and gas agree."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from cubeprep.lines import SPEED_OF_LIGHT_KMS
from cubeprep.simulate.config import GalaxyClass
from cubeprep.simulate.footprint import SPAXEL_ARCSEC, hexagon_radius_pixels
from cubeprep.simulate.ratios import OH_RANGE, Bpt

Unusual = Literal["", "broad_line", "offnuclear_agn", "blueberry"]

# The class a galaxy must have to carry each oddity.
UNUSUAL_KINDS: dict[Unusual, GalaxyClass] = {
    "broad_line": "seyfert",
    "offnuclear_agn": "star_forming",
    "blueberry": "star_forming",
}

HUBBLE_KMS_MPC = 70.0


@dataclass(frozen=True)
class _ClassTraits:
    """Typical values of a class: mean and scatter of log mass, bulge share, young share, log EW(Ha), rotation."""

    log_mass: tuple[float, float]
    bulge: float
    young: float
    log_ew: tuple[float, float]
    rotation: float


_TRAITS: dict[GalaxyClass, _ClassTraits] = {
    "star_forming": _ClassTraits((9.9, 0.5), 0.10, 0.50, (1.45, 0.22), 1.0),
    "composite": _ClassTraits((10.5, 0.3), 0.25, 0.30, (1.10, 0.2), 1.0),
    "seyfert": _ClassTraits((10.6, 0.3), 0.30, 0.25, (1.00, 0.2), 0.95),
    "liner": _ClassTraits((10.8, 0.3), 0.50, 0.06, (0.50, 0.12), 0.6),
    "passive": _ClassTraits((10.8, 0.4), 0.60, 0.02, (-0.5, 0.15), 0.5),
}


@dataclass(frozen=True)
class Galaxy:
    """One galaxy.

    Attributes:
        galaxy_class: the class of its nucleus.
        unusual: what is odd about it; empty for nearly all.
        num_fibres: of the bundle that observes it.
        z: redshift.
        log_mass: log10 of the stellar mass, solar masses.
        re_arcsec: half-light radius along the major axis.
        axis_ratio: minor over major axis, as seen.
        inclination_deg: 0 is face-on.
        pa_deg: of the receding side, from north (up) through east (left).
        v_max_kms: asymptotic rotation speed.
        turnover_re: radius at which the rotation curve turns over, in half-light radii.
        sigma_gas_kms, sigma_star_kms: velocity dispersion.
        bulge_fraction: of the light at 5500 Angstrom.
        young_fraction: of the disc's light at 5500 Angstrom.
        surface_brightness: of the disc at re, face-on, 1e-17 erg/s/cm^2/Angstrom/spaxel at 5500 Angstrom.
        ha_ew: equivalent width of Halpha in the disc, Angstrom.
        oh: 12 + log(O/H) at re.
        oh_gradient: dex per half-light radius.
        oiii_scatter: offset from the mean star-forming sequence, dex.
        ebv: reddening of the gas at the centre, magnitudes.
        ebv_galactic: reddening by the Milky Way, magnitudes.
        num_clumps: HII regions.
        pitch_deg: of the spiral arms.
        agn_nii_ha, agn_oiii_hb, agn_sii_ha: log ratios of the gas that the nucleus ionises.
        nlr_arcsec: Gaussian size of the narrow-line region.
        broad_fwhm_kms: of broad Balmer lines; 0 for none.
        ra_deg, dec_deg: position.
    """

    galaxy_class: GalaxyClass
    unusual: Unusual
    num_fibres: int
    z: float
    log_mass: float
    re_arcsec: float
    axis_ratio: float
    inclination_deg: float
    pa_deg: float
    v_max_kms: float
    turnover_re: float
    sigma_gas_kms: float
    sigma_star_kms: float
    bulge_fraction: float
    young_fraction: float
    surface_brightness: float
    ha_ew: float
    oh: float
    oh_gradient: float
    oiii_scatter: float
    ebv: float
    ebv_galactic: float
    num_clumps: int
    pitch_deg: float
    agn_nii_ha: float
    agn_oiii_hb: float
    agn_sii_ha: float
    nlr_arcsec: float
    broad_fwhm_kms: float
    ra_deg: float
    dec_deg: float

    @property
    def agn_bpt(self) -> Bpt:
        """Where the gas that the nucleus ionises lies in the BPT diagrams."""
        return Bpt(self.agn_nii_ha, self.agn_oiii_hb, self.agn_sii_ha, self.agn_sii_ha - 0.5)


def draw_galaxy(
    galaxy_class: GalaxyClass,
    unusual: Unusual,
    num_fibres: int,
    redshift_range: tuple[float, float],
    rng: np.random.Generator,
) -> Galaxy:
    """Draws a galaxy of a class that suits a bundle."""
    log_mass, re_kpc, z = _draw_mass_size_redshift(galaxy_class, unusual, num_fibres, redshift_range, rng)
    return Galaxy(
        galaxy_class=galaxy_class,
        unusual=unusual,
        num_fibres=num_fibres,
        z=z,
        log_mass=log_mass,
        re_arcsec=re_kpc / float(kpc_per_arcsec(z)),
        **_draw_orientation(rng),
        **_draw_kinematics(galaxy_class, log_mass, rng),
        **_draw_stars(galaxy_class, unusual, log_mass, rng),
        **_draw_gas(galaxy_class, unusual, log_mass, rng),
        num_clumps=int(rng.integers(30, 90)),
        **_draw_nucleus(galaxy_class, unusual, rng),
    )


def kpc_per_arcsec(z: np.ndarray | float) -> np.ndarray:
    """Transverse scale in a flat universe of Omega_m = 0.3, good to 0.1% below z = 0.15 (Hogg, astro-ph/9905116)."""
    z = np.asarray(z, dtype=np.float64)
    distance_mpc = SPEED_OF_LIGHT_KMS * (z - 0.225 * z**2) / HUBBLE_KMS_MPC / (1 + z)
    return distance_mpc * 1e3 * np.pi / 180 / 3600


def _draw_mass_size_redshift(
    galaxy_class: GalaxyClass,
    unusual: Unusual,
    num_fibres: int,
    redshift_range: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[float, float, float]:
    """Mass, half-light radius in kpc and redshift: MaNGA chose galaxies that its bundles reach to 1.5 or 2.5 radii."""
    bundle_arcsec = hexagon_radius_pixels(num_fibres) * SPAXEL_ARCSEC
    grid_z = np.linspace(*redshift_range, 200)
    for _ in range(30):
        log_mass = (
            8.9 if unusual == "blueberry" else float(np.clip(rng.normal(*_TRAITS[galaxy_class].log_mass), 8.8, 11.7))
        )
        # Slopes of Shen+2003 (doi:10.1046/j.1365-8711.2003.06740.x) for late and early types.
        late = galaxy_class in ("star_forming", "composite", "seyfert")
        log_re = 0.60 + 0.22 * (log_mass - 10) if late else 0.55 + 0.50 * (log_mass - 10.7)
        re_kpc = (0.35 if unusual == "blueberry" else 1.0) * 10 ** (log_re + rng.normal(0, 0.12))
        wanted = re_kpc * rng.uniform(1.6, 2.9) / bundle_arcsec
        if kpc_per_arcsec(grid_z[0]) <= wanted <= kpc_per_arcsec(grid_z[-1]):
            return log_mass, float(re_kpc), float(np.interp(wanted, kpc_per_arcsec(grid_z), grid_z))
    # Nothing suits this bundle: the galaxy is smaller or larger in it than MaNGA would have chosen.
    return log_mass, float(re_kpc), float(rng.uniform(*redshift_range))


def _draw_orientation(rng: np.random.Generator) -> dict[str, float]:
    """How the galaxy lies in space, and where."""
    inclination = float(np.arccos(rng.uniform(0.25, 0.97)))
    return {
        "inclination_deg": float(np.degrees(inclination)),
        # A disc a fifth as thick as wide.
        "axis_ratio": float(np.hypot(np.cos(inclination), 0.2 * np.sin(inclination))),
        "pa_deg": float(rng.uniform(0, 360)),
        "pitch_deg": float(rng.uniform(12, 30)),
        "ra_deg": float(rng.uniform(110, 260)),
        "dec_deg": float(np.degrees(np.arcsin(rng.uniform(-0.05, 0.85)))),
        "ebv_galactic": float(0.01 + rng.gamma(2.0, 0.012)),
    }


def _draw_kinematics(galaxy_class: GalaxyClass, log_mass: float, rng: np.random.Generator) -> dict[str, float]:
    """Rotation after Tully-Fisher and dispersion after Faber-Jackson."""
    traits = _TRAITS[galaxy_class]
    # Source of the slope: Reyes+2011 (doi:10.1111/j.1365-2966.2011.19415.x).
    v_max = traits.rotation * 10 ** (2.14 + 0.28 * (log_mass - 10) + rng.normal(0, 0.05))
    return {
        "v_max_kms": float(v_max),
        "turnover_re": float(rng.uniform(0.2, 0.5)),
        "sigma_gas_kms": float(rng.uniform(22, 42) if traits.young > 0.1 else rng.uniform(60, 140)),
        "sigma_star_kms": float(10 ** (2.15 + 0.25 * (log_mass - 10.7) + rng.normal(0, 0.06))),
    }


def _draw_stars(
    galaxy_class: GalaxyClass, unusual: Unusual, log_mass: float, rng: np.random.Generator
) -> dict[str, float]:
    """Bulge and disc, old and young."""
    traits = _TRAITS[galaxy_class]
    bulge = traits.bulge + 0.12 * (log_mass - 10.3) + rng.normal(0, 0.06)
    young = 0.95 if unusual == "blueberry" else traits.young + rng.normal(0, 0.08)
    # About 22 magnitudes/arcsec^2 in r at the half-light radius of a disc of 10^10 solar masses.
    brightness = 0.13 * 10 ** (0.30 * (min(log_mass, 10.5) - 10) + rng.normal(0, 0.2))
    return {
        "bulge_fraction": float(np.clip(bulge, 0.02, 0.85)),
        "young_fraction": float(np.clip(young, 0, 1)),
        "surface_brightness": float(brightness),
    }


def _draw_gas(
    galaxy_class: GalaxyClass, unusual: Unusual, log_mass: float, rng: np.random.Generator
) -> dict[str, float]:
    """How much gas shines, its metals and its dust."""
    if unusual == "blueberry":
        ew, ebv = 10 ** rng.uniform(2.6, 2.95), 0.05
    else:
        ew = 10 ** rng.normal(*_TRAITS[galaxy_class].log_ew)
        ebv = 0.32 + 0.12 * (log_mass - 10) + rng.normal(0, 0.1)
    return {
        "ha_ew": float(ew),
        "ebv": float(np.clip(ebv, 0, 0.7)),
        "oh": _draw_metallicity(log_mass, unusual, rng),
        # Sanchez+2014 (doi:10.1051/0004-6361/201322343).
        "oh_gradient": float(rng.normal(-0.10, 0.03)),
        "oiii_scatter": float(np.clip(rng.normal(0, 0.05), -0.1, 0.06)),
    }


def _draw_metallicity(log_mass: float, unusual: Unusual, rng: np.random.Generator) -> float:
    """12 + log(O/H) at the half-light radius, from the mass: after Sanchez+2017 (doi:10.1093/mnras/stx808)."""
    if unusual == "blueberry":
        return OH_RANGE[0] + 0.02
    x = log_mass - 8 - 3.5
    return float(np.clip(8.50 + 0.008 * x * np.exp(-x) + rng.normal(0, 0.05), OH_RANGE[0] + 0.08, OH_RANGE[1]))


def _draw_nucleus(galaxy_class: GalaxyClass, unusual: Unusual, rng: np.random.Generator) -> dict[str, float]:
    """The gas that something other than young stars ionises."""
    liner_like = galaxy_class in ("liner", "passive")
    means = (0.08, 0.30, 0.00) if liner_like else (-0.03, 0.95, -0.32)
    nii_ha, oiii_hb, sii_ha = rng.normal(means, (0.06, 0.06, 0.05))
    return {
        "agn_nii_ha": float(nii_ha),
        "agn_oiii_hb": float(oiii_hb),
        "agn_sii_ha": float(sii_ha),
        "nlr_arcsec": float(rng.uniform(0.8, 1.8)),
        "broad_fwhm_kms": float(rng.uniform(2000, 5000)) if unusual == "broad_line" else 0.0,
    }
