"""Parameters of a galaxy, drawn jointly so that mass, size, rotation, metallicity, dust and gas are consistent."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from cubeprep.line_ratios import kewley2001
from cubeprep.lines import SPEED_OF_LIGHT_KMS
from cubeprep.simulate.config import GalaxyClass
from cubeprep.simulate.footprint import hexagon_radius_arcsec
from cubeprep.simulate.ratios import OH_RANGE, Bpt, bpt_class

Unusual = Literal["", "broad_line", "offnuclear_agn", "blueberry"]

# Class that a galaxy must have to carry each unusual feature.
UNUSUAL_KINDS: dict[Unusual, GalaxyClass] = {
    "broad_line": "seyfert",
    "offnuclear_agn": "star_forming",
    "blueberry": "star_forming",
}

HUBBLE_KMS_MPC = 70.0
SOLAR_OH = 8.50  # 12 + log(O/H) of a massive galaxy's gas on the scale of Marino+2013

# MaNGA observed galaxies of a given mass at the redshift at which a bundle reaches 1.5 (primary sample) or 2.5
# half-light radii (secondary sample). Log masses, and the 30th and 84th percentile of the redshifts of MaNGA's galaxies
# of that mass, from shared/data.
_MASS_GRID = [8.7, 9.0, 9.5, 10.0, 10.5, 11.0, 11.25, 11.5, 11.8]
_PRIMARY_Z = [0.014, 0.0155, 0.020, 0.025, 0.0285, 0.040, 0.058, 0.085, 0.12]
_SECONDARY_Z = [0.019, 0.0215, 0.0275, 0.0400, 0.0480, 0.0700, 0.098, 0.133, 0.15]
_SECONDARY_SHARE = 0.37
_NUM_CANDIDATES = 400


@dataclass(frozen=True)
class _ClassTraits:
    """Typical values of a class of galaxies.

    Attributes:
        log_mass: mean and scatter of log10 of the stellar mass, solar masses.
        bulge: fraction of the light in the bulge.
        young: fraction of the disc's light from young stars.
        log_ew: mean and scatter of log10 of EW(Halpha), Angstrom.
        rotation: rotation speed relative to the Tully-Fisher relation.
    """

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
    """Parameters of one galaxy.

    Attributes:
        galaxy_class: class of its nucleus.
        unusual: kind of unusual feature; empty for most galaxies.
        num_fibres: fibres of the bundle that observes it.
        z: redshift.
        secondary: whether it belongs to the secondary sample, which is observed to 2.5 half-light radii.
        log_mass: log10 of the stellar mass, solar masses.
        re_arcsec: half-light radius along the major axis, arcsec.
        axis_ratio: apparent minor over major axis.
        inclination_deg: inclination, degrees; 0 is face-on.
        pa_deg: position angle of the receding side, degrees from north (up) through east (left).
        v_max_kms: asymptotic rotation speed, km/s.
        turnover_re: turnover radius of the rotation curve, half-light radii.
        sigma_gas_kms: velocity dispersion of the gas in H II regions, km/s.
        sigma_star_kms, sigma_disc_kms: velocity dispersion of the stars in bulge and disc, km/s.
        bulge_fraction: fraction of the light at 5500 Angstrom in the bulge.
        young_fraction: fraction of the disc's light at 5500 Angstrom from young stars, at the half-light radius.
        log_star_metals: log10 of the stellar metallicity at the centre, solar units.
        surface_brightness: flux density at 5500 Angstrom at the half-light radius, 1e-17 erg/s/cm^2/Angstrom/spaxel, if
            the galaxy were face-on and all light in the disc.
        ha_ew: equivalent width of Halpha at the half-light radius, Angstrom.
        diffuse_fraction: fraction of the disc's Halpha from diffuse gas, at the half-light radius.
        sf_extent_re: scale of the decline of star formation outwards, half-light radii.
        oh: 12 + log(O/H) at the half-light radius.
        oh_gradient: its gradient, dex per half-light radius.
        oiii_scatter: offset in log([O III]/Hbeta) from the mean star-forming sequence, dex.
        ebv: E(B-V) of the gas at the centre, magnitudes.
        ebv_galactic: E(B-V) of the Milky Way, magnitudes.
        num_clumps: number of H II regions.
        num_arms, pitch_deg: number of spiral arms, and their pitch angle in degrees.
        agn_nii_ha, agn_oiii_hb, agn_sii_ha, agn_oi_ha: log10 line ratios of the gas that the nucleus ionises.
        agn_heii_hb: He II 4687 / Hbeta of that gas.
        agn_sigma_kms: velocity dispersion of that gas, km/s.
        agn_mixing: position of a composite or Seyfert nucleus between the limits of its class, 0 to 1.
        nlr_arcsec: Gaussian sigma of the narrow-line region, arcsec.
        broad_fwhm_kms: FWHM of broad Balmer lines, km/s; 0 for none.
        ra_deg, dec_deg: position, degrees.
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
        """Position in the BPT diagrams of the gas that the nucleus ionises."""
        return Bpt(self.agn_nii_ha, self.agn_oiii_hb, self.agn_sii_ha, self.agn_oi_ha)


def draw_galaxy(
    galaxy_class: GalaxyClass,
    unusual: Unusual,
    num_fibres: int,
    redshift_range: tuple[float, float],
    rng: np.random.Generator,
) -> Galaxy:
    """Random galaxy of a class, of a size that suits a bundle.

    Args:
        galaxy_class: class of the nucleus.
        unusual: kind of unusual feature, or empty.
        num_fibres: fibres of the bundle.
        redshift_range: lowest and highest redshift.
        rng: source of all random numbers.
    """
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
    """Transverse scale, kpc per arcsec, in a flat universe with Omega_m = 0.3 and H0 = 70 km/s/Mpc.

    Source: series expansion of the angular-diameter distance (Hogg, arXiv:astro-ph/9905116) with q0 = -0.55; accurate
    to 0.1% below z = 0.15.
    """
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
    """Mass, redshift, size and sample of a galaxy that the bundle covers as MaNGA's target selection requires.

    Many candidates are drawn from the scaling relations, and one is chosen with a probability that falls with the
    mismatch between its size and the bundle.
    """
    late = galaxy_class in ("star_forming", "composite", "seyfert")
    log_mass = np.clip(rng.normal(*_TRAITS[galaxy_class].log_mass, _NUM_CANDIDATES), 8.8, 11.8)
    log_mass = np.full_like(log_mass, 8.9) if unusual == "blueberry" else log_mass
    secondary = rng.random(_NUM_CANDIDATES) < _SECONDARY_SHARE
    z = np.where(secondary, *(np.interp(log_mass, _MASS_GRID, grid) for grid in (_SECONDARY_Z, _PRIMARY_Z)))
    z = z * rng.lognormal(0, 0.13, _NUM_CANDIDATES)
    # Slopes of the size-mass relation of Shen+2003 (doi:10.1046/j.1365-8711.2003.06740.x) for late and early types.
    log_re = 0.60 + np.where(log_mass < 10, 0.28, 0.22) * (log_mass - 10) if late else 0.55 + 0.50 * (log_mass - 10.7)
    re_kpc = (0.35 if unusual == "blueberry" else 1.0) * 10 ** (log_re + rng.normal(0, 0.13, _NUM_CANDIDATES))
    re_arcsec = re_kpc / kpc_per_arcsec(z)
    reach = hexagon_radius_arcsec(num_fibres) / re_arcsec / np.where(secondary, 2.5, 1.6)
    # Probabilities are relative to the best candidate, so that one is chosen even if none fits well.
    misfit = (np.log10(reach) / 0.08) ** 2 + 1e6 * ((z < redshift_range[0]) | (z > redshift_range[1]))
    if unusual == "blueberry":
        misfit = 1e6 * ((z < redshift_range[0]) | (z > redshift_range[1]))
    weight = np.exp(-0.5 * (misfit - misfit.min()))
    chosen = int(rng.choice(_NUM_CANDIDATES, p=weight / weight.sum()))
    # If the redshift range is narrow, no candidate may lie in it.
    z_chosen = float(np.clip(z[chosen], *redshift_range))
    return {
        "log_mass": float(log_mass[chosen]),
        "z": z_chosen,
        "re_arcsec": float(re_kpc[chosen] / kpc_per_arcsec(z_chosen)),
        "secondary": float(secondary[chosen]),
    }


def _draw_orientation(rng: np.random.Generator) -> dict[str, float]:
    """Orientation, position on the sky, and the Milky Way's reddening there."""
    inclination = float(np.arccos(rng.uniform(0.25, 0.97)))
    return {
        "inclination_deg": float(np.degrees(inclination)),
        # A disc with an intrinsic axis ratio of 0.2.
        "axis_ratio": float(np.hypot(np.cos(inclination), 0.2 * np.sin(inclination))),
        "pa_deg": float(rng.uniform(0, 360)),
        "pitch_deg": float(rng.uniform(12, 30)),
        "ra_deg": float(rng.uniform(110, 260)),
        "dec_deg": float(np.degrees(np.arcsin(rng.uniform(-0.05, 0.85)))),
        "ebv_galactic": float(0.01 + rng.gamma(2.0, 0.012)),
    }


def _draw_kinematics(galaxy_class: GalaxyClass, log_mass: float, rng: np.random.Generator) -> dict[str, float]:
    """Rotation speed from the Tully-Fisher relation and dispersions from the Faber-Jackson relation."""
    traits = _TRAITS[galaxy_class]
    # Slope of Reyes+2011 (doi:10.1111/j.1365-2966.2011.19415.x).
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
    """Fractions of bulge and young stars, metallicity and surface brightness."""
    traits = _TRAITS[galaxy_class]
    bulge = traits.bulge + 0.12 * (log_mass - 10.3) + rng.normal(0, 0.06)
    young = 0.95 if unusual == "blueberry" else traits.young - 0.08 * (log_mass - 10.3) + rng.normal(0, 0.08)
    # Mass-metallicity relation of the stars after Gallazzi+2005 (doi:10.1111/j.1365-2966.2005.09321.x).
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
    """Equivalent width, extent, dust and metallicity of the gas."""
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
        # Common gradient of Sanchez+2014 (doi:10.1051/0004-6361/201322343).
        "oh_gradient": float(rng.normal(-0.08, 0.03)),
        "oiii_scatter": float(np.clip(rng.normal(0, 0.08), -0.16, 0.16)),
    }


def _draw_metallicity(log_mass: float, unusual: Unusual, rng: np.random.Generator) -> float:
    """12 + log(O/H) at the half-light radius.

    Source: mass-metallicity relation after Sanchez+2017 (doi:10.1093/mnras/stx808).
    """
    if unusual == "blueberry":
        return OH_RANGE[0] + 0.07
    x = log_mass - 8 - 3.5
    return float(np.clip(SOLAR_OH + 0.010 * x * np.exp(-x) + rng.normal(0, 0.05), OH_RANGE[0] + 0.08, OH_RANGE[1]))


def _draw_nucleus(
    galaxy_class: GalaxyClass, unusual: Unusual, log_mass: float, rng: np.random.Generator
) -> dict[str, float]:
    """Properties of gas not ionised by young stars, redrawn until its line ratios are those of its class."""
    wanted: GalaxyClass = "liner" if galaxy_class in ("liner", "passive") else "seyfert"
    # Medians and scatter of the nuclei in shared/data/catalogs, those of Seyferts corrected for star formation.
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
        # Narrow-line gas follows the potential of the bulge, with additional scatter from outflows (Greene & Ho 2005,
        # doi:10.1086/430590).
        "agn_sigma_kms": float(10 ** (2.12 + 0.25 * (log_mass - 10.7) + rng.normal(0, 0.12))),
        "agn_mixing": float(rng.uniform(0.12, 0.88)),
        "nlr_arcsec": float(rng.uniform(0.8, 1.8)),
        "broad_fwhm_kms": float(rng.uniform(2000, 5000)) if unusual == "broad_line" else 0.0,
    }
