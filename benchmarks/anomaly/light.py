"""Building blocks of injected light: gas with one velocity and width, line ratios, positions in a galaxy."""

from dataclasses import dataclass

import numpy as np

from benchmarks.anomaly.families import Added
from benchmarks.anomaly.scene import Host
from cubeprep.lines import LINES_BY_NAME, SPEED_OF_LIGHT_KMS

INSTRUMENT_SIGMA_KMS = 70.0


@dataclass(frozen=True)
class Component:
    """Gas with one velocity and one width.

    Attributes:
        fluxes: relative flux of each line, by name.
        velocity_kms: velocity relative to the galaxy's redshift.
        sigma_kms: velocity dispersion without the instrument.
        image: [y, x] fraction of the light in each spaxel.
    """

    fluxes: dict[str, float]
    velocity_kms: float
    sigma_kms: float
    image: np.ndarray

    def light(self, z: float, wave: np.ndarray) -> np.ndarray:
        """Light [plane, y, x] of strength 1 at observed wavelengths [plane], Angstrom."""
        spectrum = np.zeros(len(wave))
        sigma_kms = float(np.hypot(self.sigma_kms, INSTRUMENT_SIGMA_KMS))
        for name, flux in self.fluxes.items():
            centre = LINES_BY_NAME[name].rest_wave * (1 + z) * (1 + self.velocity_kms / SPEED_OF_LIGHT_KMS)
            spectrum += flux * gaussian(wave, centre, centre * sigma_kms / SPEED_OF_LIGHT_KMS)
        return spectrum[:, None, None] * self.image


def added(host: Host, *components: Component) -> Added:
    """Sum of the light of gas components."""
    z = host.source.z
    return Added(lambda wave, scene: sum((part.light(z, wave) for part in components), np.zeros(scene.shape)))


def gaussian(wave: np.ndarray, centre: float, sigma: float) -> np.ndarray:
    """Gaussian line profile of flux 1, per Angstrom; sigma in Angstrom."""
    return np.exp(-0.5 * ((wave - centre) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))


def spot(host: Host, y: float, x: float, sigma: float) -> np.ndarray:
    """Gaussian image [y, x] of sum 1, centred at an offset from the middle; lengths in spaxels."""
    dy, dx = host.offsets
    image = np.exp(-0.5 * ((dy - y) ** 2 + (dx - x) ** 2) / sigma**2)
    return np.asarray(image / image.sum())


def somewhere(host: Host, rng: np.random.Generator, inner: float = 0.0, outer: float = 1.0) -> tuple[float, float]:
    """Offset (y, x) of a random covered spaxel, `inner` to `outer` of the way from the middle to the edge; spaxels."""
    dy, dx = host.offsets
    radius = np.hypot(dy, dx)
    reach = radius[host.covered].max(initial=1.0)
    chosen = np.argwhere(host.covered & (radius >= inner * reach) & (radius <= outer * reach))
    y, x = chosen[rng.integers(len(chosen))] if len(chosen) else np.array(host.covered.shape) // 2
    return float(dy[y, x]), float(dx[y, x])


# Balmer lines relative to Hbeta: case B with little dust.
BALMER = {"Hb-4862": 1.0, "Ha-6564": 3.0, "Hgam-4341": 0.47, "Hdel-4102": 0.26}


def gas(oiii: float, nii: float, sii: float, oi: float, **others: float) -> dict[str, float]:
    """Line fluxes of gas, relative to Hbeta; doublets from a common upper level have their fixed ratios.

    Args:
        oiii: [O III] 5008 / Hbeta.
        nii: [N II] 6585 / Halpha.
        sii: [S II] 6718 + 6732 / Halpha.
        oi: [O I] 6302 / Halpha.
        others: further lines relative to Hbeta, by name with `_` for `-`.
    """
    halpha = BALMER["Ha-6564"]
    forbidden = {
        "OIII-5008": oiii,
        "OIII-4960": 0.340 * oiii,
        "NII-6585": nii * halpha,
        "NII-6549": 0.327 * nii * halpha,
        "SII-6718": 0.55 * sii * halpha,
        "SII-6732": 0.45 * sii * halpha,
        "OI-6302": oi * halpha,
        "OI-6365": 0.328 * oi * halpha,
    }
    return BALMER | forbidden | {name.replace("_", "-"): value for name, value in others.items()}


def own_gas(host: Host) -> dict[str, float]:
    """Relative noise-free line fluxes in the centre of the galaxy; those of a composite if it has no lines there."""
    size = host.scene.flux.shape[-1]
    middle = slice(size // 2 - max(size // 8, 1), size // 2 + max(size // 8, 1))
    sums = np.nansum(host.scene.flux[:, :, middle, middle], axis=(1, 2, 3))
    fluxes = {name: float(max(flux, 0)) for name, flux in zip(host.config.line_names, sums, strict=True)}
    total = sum(fluxes.values())
    return {name: flux / total for name, flux in fluxes.items()} if total > 0 else gas(1.0, 0.5, 0.4, 0.06)
