"""The parameters of a galaxy, drawn together so that mass, size, rotation, metals, dust and gas agree."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from cubeprep.lines import SPEED_OF_LIGHT_KMS
from cubeprep.simulate.config import GalaxyClass
from cubeprep.simulate.footprint import hexagon_radius_arcsec
from cubeprep.simulate.ratios import OH_RANGE, Bpt, bpt_class, kewley2001

Unusual = Literal["", "broad_line", "offnuclear_agn", "blueberry"]

# The class a galaxy must have to carry each oddity.
UNUSUAL_KINDS: dict[Unusual, GalaxyClass] = {
    "broad_line": "seyfert",
    "offnuclear_agn": "star_forming",
    "blueberry": "star_forming",
}

HUBBLE_KMS_MPC = 70.0
SOLAR_OH = 8.50  # of a giant galaxy's gas on the scale of Marino+2013

# MaNGA saw galaxies of a mass at a redshift, so that a bundle reaches 1.5 (primary sample) or 2.5 half-light radii
# (secondary). Log masses, and redshifts that leave 30% and 84% of MaNGA's galaxies of that mass below: shared/data.
_MASS_GRID = [8.7, 9.0, 9.5, 10.0, 10.5, 11.0, 11.25, 11.5, 11.8]
_PRIMARY_Z = [0.014, 0.0155, 0.020, 0.025, 0.0285, 0.040, 0.058, 0.085, 0.12]
_SECONDARY_Z = [0.019, 0.0215, 0.0275, 0.0400, 0.0480, 0.0700, 0.098, 0.133, 0.15]
_SECONDARY_SHARE = 0.37
_NUM_CANDIDATES = 400


@dataclass(frozen=True)
class _ClassTraits:
    """Typical values of a class: mean and scatter of log mass and log EW(Ha), bulge share, young share, rotation."""

    log_mass: tuple[float, float]
    bulge: float
    young: float
    log_ew: tuple[float, float]
    rotation: float


_TRAITS: dict[GalaxyClass, _ClassTraits] = {
    "star_forming": _ClassTraits((10.1, 0.55), 0.10, 0.50, (1.46, 0.24), 1.0),
    "composite": _ClassTraits((10.6, 0.35), 0.25, 0.30, (1.08, 0.22), 1.0),
    "seyfert": _ClassTraits((10.7, 0.3), 0.30, 0.22, (0.95, 0.22), 0.95),
    "liner": _ClassTraits((11.0, 0.35), 0.50, 0.05, (0.12, 0.18), 0.6),
    "passive": _ClassTraits((11.0, 0.45), 0.60, 0.01, (-0.57, 0.18), 0.4),
}


@dataclass(frozen=True)
class Galaxy:
    """One galaxy.

    Attributes:
        galaxy_class: the class of its nucleus.
        unusual: what is odd about it; empty for nearly all.
        num_fibres: of the bundle that observes it.
        z: redshift.
        secondary: whether it belongs to the sample that is seen to 2.5 half-light radii.
        log_mass: log10 of the stellar mass, solar masses.
        re_arcsec: half-light radius along the major axis.
        axis_ratio: minor over major axis, as seen.
        inclination_deg: 0 is face-on.
        pa_deg: of the receding side, from north (up) through east (left).
        v_max_kms: asymptotic rotation speed.
        turnover_re: radius at which the rotation curve turns over, in half-light radii.
        sigma_gas_kms: velocity dispersion of the gas in H II regions.
        sigma_star_kms, sigma_disc_kms: of the stars of bulge and disc.
        bulge_fraction: of the light at 5500 Angstrom.
        young_fraction: of the disc's light at 5500 Angstrom, at the half-light radius.
        log_star_metals: log10 of the stellar metallicity in solar units at the centre.
        surface_brightness: at re, face-on, if all light were in the disc, 1e-17 erg/s/cm^2/Angstrom/spaxel at 5500
            Angstrom.
        ha_ew: equivalent width of Halpha at the half-light radius, Angstrom.
        diffuse_fraction: of the disc's Halpha at the half-light radius.
        sf_extent_re: how far star formation reaches, in half-light radii.
        oh: 12 + log(O/H) at re.
        oh_gradient: dex per half-light radius.
        oiii_scatter: offset from the mean star-forming sequence, dex.
        ebv: reddening of the gas at the centre, magnitudes.
        ebv_galactic: reddening by the Milky Way, magnitudes.
        num_clumps: HII regions.
        num_arms, pitch_deg: of the spiral.
        agn_nii_ha, agn_oiii_hb, agn_sii_ha, agn_oi_ha: log ratios of the gas that the nucleus ionises.
        agn_heii_hb: its He II 4687 / Hbeta.
        agn_sigma_kms: its velocity dispersion.
        agn_mixing: where a composite or Seyfert nucleus lies between the limits of its class, 0 to 1.
        nlr_arcsec: Gaussian size of the narrow-line region.
        broad_fwhm_kms: of broad Balmer lines; 0 for none.
        ra_deg, dec_deg: position.
    """

    galaxy_class: GalaxyClass
    unusual: Unusual
    num_fibres: int
    z: float
    secondary: bool
    log_mass: float
    re_arcsec: float
    axis_ratio: float
    inclination_deg: float
    pa_deg: float
    v_max_kms: float
    turnover_re: float
    sigma_gas_kms: float
    sigma_star_kms: float
    sigma_disc_kms: float
    bulge_fraction: float
    young_fraction: float
    log_star_metals: float
    surface_brightness: float
    ha_ew: float
    diffuse_fraction: float
    sf_extent_re: float
    oh: float
    oh_gradient: float
    oiii_scatter: float
    ebv: float
    ebv_galactic: float
    num_clumps: int
    num_arms: int
    pitch_deg: float
    agn_nii_ha: float
    agn_oiii_hb: float
    agn_sii_ha: float
    agn_oi_ha: float
    agn_heii_hb: float
    agn_sigma_kms: float
    agn_mixing: float
    nlr_arcsec: float
    broad_fwhm_kms: float
    ra_deg: float
    dec_deg: float

    @property
    def agn_bpt(self) -> Bpt:
        """Where the gas that the nucleus ionises lies in the BPT diagrams."""
        return Bpt(self.agn_nii_ha, self.agn_oiii_hb, self.agn_sii_ha, self.agn_oi_ha)


def draw_galaxy(
    galaxy_class: GalaxyClass,
    unusual: Unusual,
    num_fibres: int,
    redshift_range: tuple[float, float],
    rng: np.random.Generator,
) -> Galaxy:
    """Draws a galaxy of a class that suits a bundle."""
    target = _draw_target(galaxy_class, unusual, num_fibres, redshift_range, rng)
    log_mass = target["log_mass"]
    return Galaxy(
        galaxy_class=galaxy_class,
        unusual=unusual,
        num_fibres=num_fibres,
        secondary=bool(target.pop("secondary")),
        **target,
        **_draw_orientation(rng),
        **_draw_kinematics(galaxy_class, log_mass, rng),
        **_draw_stars(galaxy_class, unusual, log_mass, rng),
        **_draw_gas(galaxy_class, unusual, log_mass, rng),
        num_clumps=int(rng.integers(30, 90)),
        num_arms=int(rng.choice([2, 3, 4], p=[0.6, 0.15, 0.25])),
        **_draw_nucleus(galaxy_class, unusual, log_mass, rng),
    )


def kpc_per_arcsec(z: np.ndarray | float) -> np.ndarray:
    """Transverse scale in a flat universe of Omega_m = 0.3, good to 0.1% below z = 0.15 (Hogg, astro-ph/9905116)."""
    z = np.asarray(z, dtype=np.float64)
    distance_mpc = SPEED_OF_LIGHT_KMS * (z - 0.225 * z**2) / HUBBLE_KMS_MPC / (1 + z)
    return distance_mpc * 1e3 * np.pi / 180 / 3600


def _draw_target(
    galaxy_class: GalaxyClass,
    unusual: Unusual,
    num_fibres: int,
    redshift_range: tuple[float, float],
    rng: np.random.Generator,
) -> dict[str, float]:
    """Mass, redshift, size and sample: of many candidates, one that the bundle covers as MaNGA wanted."""
    late = galaxy_class in ("star_forming", "composite", "seyfert")
    log_mass = np.clip(rng.normal(*_TRAITS[galaxy_class].log_mass, _NUM_CANDIDATES), 8.8, 11.8)
    log_mass = np.full_like(log_mass, 8.9) if unusual == "blueberry" else log_mass
    secondary = rng.random(_NUM_CANDIDATES) < _SECONDARY_SHARE
    z = np.where(secondary, *(np.interp(log_mass, _MASS_GRID, grid) for grid in (_SECONDARY_Z, _PRIMARY_Z)))
    z = z * rng.lognormal(0, 0.13, _NUM_CANDIDATES)
    # Slopes of Shen+2003 (doi:10.1046/j.1365-8711.2003.06740.x) for late and early types.
    log_re = 0.60 + np.where(log_mass < 10, 0.28, 0.22) * (log_mass - 10) if late else 0.55 + 0.50 * (log_mass - 10.7)
    re_kpc = (0.35 if unusual == "blueberry" else 1.0) * 10 ** (log_re + rng.normal(0, 0.13, _NUM_CANDIDATES))
    re_arcsec = re_kpc / kpc_per_arcsec(z)
    reach = hexagon_radius_arcsec(num_fibres) / re_arcsec / np.where(secondary, 2.5, 1.6)
    # Even where no candidate fits well, the best of them is as likely as a good one.
    misfit = (np.log10(reach) / 0.08) ** 2 + 1e6 * ((z < redshift_range[0]) | (z > redshift_range[1]))
    if unusual == "blueberry":
        misfit = 1e6 * ((z < redshift_range[0]) | (z > redshift_range[1]))
    weight = np.exp(-0.5 * (misfit - misfit.min()))
    chosen = int(rng.choice(_NUM_CANDIDATES, p=weight / weight.sum()))
    # With a narrow range no candidate may lie in it.
    z_chosen = float(np.clip(z[chosen], *redshift_range))
    return {
        "log_mass": float(log_mass[chosen]),
        "z": z_chosen,
        "re_arcsec": float(re_kpc[chosen] / kpc_per_arcsec(z_chosen)),
        "secondary": float(secondary[chosen]),
    }


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
    bulge = 10 ** (2.20 + 0.25 * (log_mass - 10.7) + rng.normal(0, 0.06))
    return {
        "v_max_kms": float(v_max),
        "turnover_re": float(rng.uniform(0.2, 0.5)),
        "sigma_gas_kms": float(rng.uniform(22, 40) if traits.young > 0.1 else rng.uniform(60, 140)),
        "sigma_star_kms": float(bulge),
        "sigma_disc_kms": float(bulge * (rng.uniform(0.40, 0.60) if traits.rotation > 0.8 else rng.uniform(0.65, 0.9))),
    }


def _draw_stars(
    galaxy_class: GalaxyClass, unusual: Unusual, log_mass: float, rng: np.random.Generator
) -> dict[str, float]:
    """Bulge and disc, old and young."""
    traits = _TRAITS[galaxy_class]
    bulge = traits.bulge + 0.12 * (log_mass - 10.3) + rng.normal(0, 0.06)
    young = 0.95 if unusual == "blueberry" else traits.young - 0.08 * (log_mass - 10.3) + rng.normal(0, 0.08)
    # Gallazzi+2005 (doi:10.1111/j.1365-2966.2005.09321.x).
    metals = 0.08 - 0.55 * np.clip(10.9 - log_mass, 0, 1.6) ** 1.3 + rng.normal(0, 0.08)
    # About 22 magnitudes/arcsec^2 in r at the half-light radius of a disc of 10^10 solar masses.
    brightness = 0.13 * 10 ** (0.30 * (min(log_mass, 10.5) - 10) + rng.normal(0, 0.2))
    return {
        "bulge_fraction": float(np.clip(bulge, 0.02, 0.85)),
        "young_fraction": float(np.clip(young, 0, 1)),
        "log_star_metals": float(np.clip(metals, -0.7, 0.35)),
        "surface_brightness": float(brightness),
    }


def _draw_gas(
    galaxy_class: GalaxyClass, unusual: Unusual, log_mass: float, rng: np.random.Generator
) -> dict[str, float]:
    """How much gas shines, its metals and its dust."""
    mean, scatter = _TRAITS[galaxy_class].log_ew
    log_ew = rng.normal(mean - (0.25 * (log_mass - 10.1) if galaxy_class == "star_forming" else 0), scatter)
    ebv = 0.30 + 0.14 * (log_mass - 10) + rng.normal(0, 0.1)
    if unusual == "blueberry":
        log_ew, ebv = rng.uniform(2.6, 2.95), 0.05
    return {
        "ha_ew": float(10**log_ew),
        "diffuse_fraction": float(np.clip(rng.normal(0.42, 0.1), 0.15, 0.65)),
        "sf_extent_re": float(np.clip(2.0 * rng.lognormal(0, 0.3), 1.0, 4.0)),
        "ebv": float(np.clip(ebv, 0, 0.7)),
        "oh": _draw_metallicity(log_mass, unusual, rng),
        # Sanchez+2014 (doi:10.1051/0004-6361/201322343).
        "oh_gradient": float(rng.normal(-0.08, 0.03)),
        "oiii_scatter": float(np.clip(rng.normal(0, 0.08), -0.16, 0.16)),
    }


def _draw_metallicity(log_mass: float, unusual: Unusual, rng: np.random.Generator) -> float:
    """12 + log(O/H) at the half-light radius, from the mass: after Sanchez+2017 (doi:10.1093/mnras/stx808)."""
    if unusual == "blueberry":
        return OH_RANGE[0] + 0.07
    x = log_mass - 8 - 3.5
    return float(np.clip(SOLAR_OH + 0.010 * x * np.exp(-x) + rng.normal(0, 0.05), OH_RANGE[0] + 0.08, OH_RANGE[1]))


def _draw_nucleus(
    galaxy_class: GalaxyClass, unusual: Unusual, log_mass: float, rng: np.random.Generator
) -> dict[str, float]:
    """The gas that something other than young stars ionises: drawn until it lies where its class does."""
    wanted: GalaxyClass = "liner" if galaxy_class in ("liner", "passive") else "seyfert"
    # Medians and scatter of the nuclei in shared/data/catalogs; Seyferts are corrected for their star formation.
    means, scatter = (
        ((0.05, 0.38, 0.00), (0.13, 0.18, 0.10)) if wanted == "liner" else ((0.0, 0.90, -0.22), (0.12,) * 3)
    )
    nii_ha, oiii_hb, sii_ha = rng.normal(means, scatter)
    while bpt_class(nii_ha, oiii_hb, sii_ha) != wanted or oiii_hb - kewley2001(nii_ha) < 0.08:
        nii_ha, oiii_hb, sii_ha = rng.normal(means, scatter)
    return {
        "agn_nii_ha": float(nii_ha),
        "agn_oiii_hb": float(oiii_hb),
        "agn_sii_ha": float(sii_ha),
        "agn_oi_ha": float(sii_ha - 0.55 + rng.normal(0, 0.10)),
        "agn_heii_hb": float((0.05 if wanted == "liner" else 0.22) * rng.lognormal(0, 0.25)),
        # The gas moves in the bulge's potential (Greene & Ho 2005, doi:10.1086/430590), and flows.
        "agn_sigma_kms": float(10 ** (2.12 + 0.25 * (log_mass - 10.7) + rng.normal(0, 0.12))),
        "agn_mixing": float(rng.uniform(0.12, 0.88)),
        "nlr_arcsec": float(rng.uniform(0.8, 1.8)),
        "broad_fwhm_kms": float(rng.uniform(2000, 5000)) if unusual == "broad_line" else 0.0,
    }
