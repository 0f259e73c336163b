"""Statistics of simulated and real data, for the tests and plots that compare them."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.spatial import cKDTree

from cubeprep.masks import DAPPIXMASK
from cubeprep.simulate.config import SimulateConfig
from cubeprep.simulate.maps import aperture, galaxy_maps, nuclear_bpt
from cubeprep.simulate.ratios import LINE_NAMES
from cubeprep.simulate.survey import plan_survey

REAL_MAPS = "manga/manga-7815-3702-MAPS-HYB10-GAU-MILESHC.fits.gz"
_DONOTUSE = 1 << DAPPIXMASK["DONOTUSE"]

# Logarithmic ratios by name: lines over lines, as here and as in the grids (whose names are of air wavelengths).
_RATIOS = {
    "nii_ha": (("NII-6585",), "Ha-6564"),
    "oiii_hb": (("OIII-5008",), "Hb-4862"),
    "sii_ha": (("SII-6718", "SII-6732"), "Ha-6564"),
    "oi_ha": (("OI-6302",), "Ha-6564"),
    "oii_hb": (("OII-3727", "OII-3729"), "Hb-4862"),
    "neiii_hb": (("NeIII-3869",), "Hb-4862"),
    "siii_ha": (("SIII-9533",), "Ha-6564"),
    "heii_hb": (("HeII-4687",), "Hb-4862"),
    "ha_hb": (("Ha-6564",), "Hb-4862"),
}
_GRID_NAMES = {
    "NII-6585": "NII6583", "Ha-6564": "Halpha", "OIII-5008": "OIII5007", "Hb-4862": "Hbeta", "SII-6718": "SII6716",
    "SII-6732": "SII6731", "OI-6302": "OI6300", "OII-3727": "OII3726", "OII-3729": "OII3729",
    "NeIII-3869": "NeIII3869", "SIII-9533": "SIII9531", "HeII-4687": "HeII4686",
}  # fmt: skip


@dataclass(frozen=True)
class FluxStatistics:
    """Figures of a MAPS file.

    Attributes:
        flux, ivar, mask: [line, y, x] of the Gaussian fits.
        names: of the lines.
        sums, sums_mask: summed fluxes.
        sigma, sigma_mask: widths as observed, km/s.
        radius: [y, x] in half-light radii.
        continuum, continuum_ivar: g band.
    """

    flux: np.ndarray
    ivar: np.ndarray
    mask: np.ndarray
    names: list[str]
    sums: np.ndarray
    sums_mask: np.ndarray
    sigma: np.ndarray
    sigma_mask: np.ndarray
    radius: np.ndarray
    continuum: np.ndarray
    continuum_ivar: np.ndarray

    @classmethod
    def of(cls, path: Path) -> "FluxStatistics":
        """Reads a file."""
        with fits.open(path) as hdus:
            header = hdus["EMLINE_GFLUX"].header
            names = [header[f"C{n:02d}"] for n in range(1, header["NAXIS3"] + 1)]
            data = {hdu.name: np.array(hdu.data) for hdu in hdus[1:]}
        g = "EMLINE_GFLUX"
        return cls(
            data[g], data[f"{g}_IVAR"], data[f"{g}_MASK"], names, data["EMLINE_SFLUX"], data["EMLINE_SFLUX_MASK"],
            data["EMLINE_GSIGMA"], data["EMLINE_GSIGMA_MASK"], data["SPX_ELLCOO"][1], data["SPX_MFLUX"],
            data["SPX_MFLUX_IVAR"],
        )  # fmt: skip

    @cached_property
    def good(self) -> np.ndarray:
        """[line, y, x] usable fluxes."""
        return self.mask & _DONOTUSE == 0

    @property
    def unused(self) -> float:
        """Fraction of all values that are masked."""
        return float(1 - self.good.mean())

    @property
    def uncovered(self) -> float:
        """Share of spaxels outside the bundle."""
        return float((self.mask & 1 > 0).mean())

    @property
    def unused_in_coverage(self) -> float:
        """Fraction of Halpha that is masked inside the bundle."""
        inside = self.mask[0] & 1 == 0
        return float(1 - self.good[self.names.index("Ha-6564")][inside].mean())

    @property
    def share_of_zeros(self) -> float:
        """Fraction of usable Gaussian fluxes that are 0."""
        return float((self.flux[self.good] == 0).mean())

    @property
    def share_of_negative_sums(self) -> float:
        """Fraction of usable summed fluxes below 0."""
        return float((self.sums[self.sums_mask & _DONOTUSE == 0] < 0).mean())

    @property
    def reach(self) -> float:
        """Largest radius of a usable spaxel, half-light radii."""
        return float(self.radius[self.good[self.names.index("Ha-6564")]].max())

    def values(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Usable fluxes of a line, and their noise."""
        index = self.names.index(name)
        good = self.good[index] & (self.ivar[index] > 0)
        return self.flux[index][good], self.ivar[index][good] ** -0.5

    def zeros(self, name: str) -> float:
        """Share of usable fluxes of a line that are zero."""
        index = self.names.index(name)
        return float((self.flux[index][self.good[index]] == 0).mean())

    def percentiles(self, name: str, percents: tuple[float, ...]) -> np.ndarray:
        """Percentiles of the usable fluxes of a line."""
        return np.percentile(self.values(name)[0], percents)

    def median_snr(self, name: str) -> float:
        """Median S/N of a line."""
        flux, noise = self.values(name)
        return float(np.median(flux / noise))

    def median_sigma(self, name: str) -> float:
        """Median of the usable widths of a line, km/s."""
        index = self.names.index(name)
        return float(np.median(self.sigma[index][self.sigma_mask[index] & _DONOTUSE == 0]))

    def line_noise(self, name: str, flux: float) -> float:
        """Median noise of a line at about a flux."""
        values, noise = self.values(name)
        return float(np.median(noise[np.abs(np.log10(np.maximum(values, 1e-6) / flux)) < 0.2]))

    def noise_flux_correlation(self, name: str) -> float:
        """Correlation of the logarithms of noise and flux of a line."""
        flux, noise = self.values(name)
        return float(np.corrcoef(np.log10(flux[flux > 0]), np.log10(noise[flux > 0]))[0, 1])

    def continuum_noise(self, flux: float) -> float:
        """Median noise per pixel in the g band at about a flux density."""
        good = self.good[0] & (self.continuum_ivar > 0)
        near = np.abs(np.log10(np.maximum(self.continuum[good], 1e-6) / flux)) < 0.12
        return float(np.median(self.continuum_ivar[good][near] ** -0.5))

    def ratio(self, name: str, low: float, high: float) -> float:
        """Logarithm of a ratio of summed-up lines between two radii."""
        inside = (self.radius >= low) & (self.radius < high) & self.good[self.names.index("Ha-6564")]
        over, under = _RATIOS[name]
        total = [sum(self.flux[self.names.index(n)][inside].sum() for n in lines) for lines in (over, (under,))]
        return float(np.log10(total[0] / total[1]))

    def gradient(self, name: str) -> float:
        """Change of a line ratio from within 0.5 to 1.5-2 half-light radii, dex."""
        return self.ratio(name, 1.5, 2.0) - self.ratio(name, 0.0, 0.5)


def nuclear_measurements(real_data: Path) -> dict[str, np.ndarray]:
    """[N II]/Halpha, [O III]/Hbeta (logarithms) and EW(Halpha) of the nuclei of 4,918 MaNGA galaxies."""
    names = ("ENLR_AGNs-2019-04-26.dat", "ENLR_AGNs-exclude-2019-04-26.dat")
    lines = [line for name in names for line in (real_data / "catalogs" / name).read_text().splitlines()]
    rows = np.array([line.split()[6:9] for line in lines if line and line[0].isdigit()], dtype=np.float64)
    rows = rows[np.isfinite(rows).all(axis=1)]
    return dict(zip(("nii_ha", "oiii_hb", "ha_ew"), rows.T, strict=True))


def simulated_nuclei(num_galaxies: int, seed: int) -> dict[str, np.ndarray]:
    """Nuclear measurements of simulated galaxies, in a circle of 1.5 arcsec, with their class."""
    config = SimulateConfig(
        num_galaxies=num_galaxies, repeat_fraction=0, unusual_fraction=0, bundle_shares={19: 1, 37: 2}
    )
    rows = []
    for item in plan_survey(config, seed):
        maps = galaxy_maps(item.galaxy, 2.5, np.random.default_rng([seed, item.index]))
        bpt, inside = nuclear_bpt(item.galaxy, maps), aperture(item.galaxy.num_fibres, 1.5)
        halpha = maps.line_flux[LINE_NAMES.index("Ha-6564")][inside].sum()
        # Starlight at Halpha's wavelength is about as bright as at 5500 Angstrom, where the maps give it.
        ew = halpha / maps.starlight[inside].sum()
        rows.append((float(bpt.nii_ha), float(bpt.oiii_hb), ew, item.galaxy.galaxy_class))
    columns = list(zip(*rows, strict=True))
    return {
        "nii_ha": np.array(columns[0]), "oiii_hb": np.array(columns[1]), "ha_ew": np.array(columns[2]),
        "class": np.array(columns[3]),
    }  # fmt: skip


def spaxel_ratios(num_galaxies: int, seed: int) -> dict[str, np.ndarray]:
    """Logarithmic line ratios before dust, of the brighter half of spaxels of simulated galaxies."""
    config = SimulateConfig(num_galaxies=num_galaxies, repeat_fraction=0, unusual_fraction=0, bundle_shares={19: 1})
    spaxels = []
    for item in plan_survey(config, seed):
        dustless = replace(item.galaxy, ebv=0.0)
        flux = galaxy_maps(dustless, 2.5, np.random.default_rng([seed, item.index])).line_flux
        halpha = flux[LINE_NAMES.index("Ha-6564")]
        spaxels.append(flux[:, (halpha > np.median(halpha[halpha > 0])) & (flux > 0).all(axis=0)][:, ::7])
    return _log_ratios(dict(zip(LINE_NAMES, np.concatenate(spaxels, axis=1), strict=True)))


def grid_ratios(real_data: Path) -> dict[str, np.ndarray]:
    """The ratios of the photoionisation models of H II regions and narrow-line regions."""
    parts = []
    for name in ("NB_HII_grid.fits.gz", "NB_NLR_grid.fits.gz"):
        table = fits.getdata(real_data / "grids" / name, 1)
        flux = {key: np.fmax(np.array(table[theirs], np.float64), 1e-9) for key, theirs in _GRID_NAMES.items()}
        parts.append(_log_ratios(flux))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _log_ratios(flux: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    names = [name for name in _RATIOS if name != "ha_hb"]
    return {name: np.log10(sum(flux[line] for line in _RATIOS[name][0]) / flux[_RATIOS[name][1]]) for name in names}


def in_grids(ratios: dict[str, np.ndarray], grids: dict[str, np.ndarray], x: str, y: str, reach: float = 0.15) -> float:
    """Fraction of points in a plane of line ratios with a model within `reach` dex."""
    tree = cKDTree(np.stack([grids[x], grids[y]], axis=1))
    distance, _ = tree.query(np.stack([ratios[x], ratios[y]], axis=1))
    return float(np.mean(distance < reach))
