"""Integrals over wavelength bands: summed (non-parametric) line fluxes and absorption indices."""

from copy import copy

import numpy as np

from cubeprep.lines import air_to_vacuum
from cubeprep.simulate.instrument import LOG_STEP, WAVE, pixel_of

# Width of each pixel, Angstrom.
_WIDTH = WAVE * np.log(10) * LOG_STEP

# Name, main band, blue band, red band (Angstrom, in air unless marked `vac`), unit. Source: the DAP's database EXTINDX,
# after Trager+1998 (doi:10.1086/313099), Worthey & Ottaviani 1997, Serven+2005, Cenarro+2001, Conroy & van Dokkum 2012
# and La Barbera+2013.
_ABSORPTION = """
CN1 4142.125 4177.125 4080.125 4117.625 4244.125 4284.125 mag
CN2 4142.125 4177.125 4083.875 4096.375 4244.125 4284.125 mag
Ca4227 4222.250 4234.750 4211.000 4219.750 4241.000 4251.000 ang
G4300 4281.375 4316.375 4266.375 4282.625 4318.875 4335.125 ang
Fe4383 4369.125 4420.375 4359.125 4370.375 4442.875 4455.375 ang
Ca4455 4452.125 4474.625 4445.875 4454.625 4477.125 4492.125 ang
Fe4531 4514.250 4559.250 4504.250 4514.250 4560.500 4579.250 ang
C24668 4634.000 4720.250 4611.500 4630.250 4742.750 4756.500 ang
Hb 4847.875 4876.625 4827.875 4847.875 4876.625 4891.625 ang
Fe5015 4977.750 5054.000 4946.500 4977.750 5054.000 5065.250 ang
Mg1 5069.125 5134.125 4895.125 4957.625 5301.125 5366.125 mag
Mg2 5154.125 5196.625 4895.125 4957.625 5301.125 5366.125 mag
Mgb 5160.125 5192.625 5142.625 5161.375 5191.375 5206.375 ang
Fe5270 5245.650 5285.650 5233.150 5248.150 5285.650 5318.150 ang
Fe5335 5312.125 5352.125 5304.625 5315.875 5353.375 5363.375 ang
Fe5406 5387.500 5415.000 5376.250 5387.500 5415.000 5425.000 ang
Fe5709 5696.625 5720.375 5672.875 5696.625 5722.875 5736.625 ang
Fe5782 5776.625 5796.625 5765.375 5775.375 5797.875 5811.625 ang
NaD 5876.875 5909.375 5860.625 5875.625 5922.125 5948.125 ang
TiO1 5936.625 5994.125 5816.625 5849.125 6038.625 6103.625 mag
TiO2 6189.625 6272.125 6066.625 6141.625 6372.625 6415.125 mag
HDeltaA 4083.500 4122.250 4041.600 4079.750 4128.500 4161.000 ang
HGammaA 4319.750 4363.500 4283.500 4319.750 4367.250 4419.750 ang
HDeltaF 4091.000 4112.250 4057.250 4088.500 4114.750 4137.250 ang
HGammaF 4331.250 4352.250 4283.500 4319.750 4354.750 4384.750 ang
CaHK 3899.5 4003.5 3806.5 3833.8 4020.7 4052.4 ang
CaII1 8484.0 8513.0 8474.0 8484.0 8563.0 8577.0 ang
CaII2 8522.0 8562.0 8474.0 8484.0 8563.0 8577.0 ang
CaII3 8642.0 8682.0 8619.0 8642.0 8700.0 8725.0 ang
Pa17 8461.0 8474.0 8474.0 8484.0 8563.0 8577.0 ang
Pa14 8577.0 8619.0 8563.0 8577.0 8619.0 8642.0 ang
Pa12 8730.0 8772.0 8700.0 8725.0 8776.0 8792.0 ang
MgICvD 5165.0 5220.0 5125.0 5165.0 5220.0 5260.0 ang vac
NaICvD 8177.0 8205.0 8170.0 8177.0 8205.0 8215.0 ang vac
MgIIR 8801.9 8816.9 8777.4 8789.4 8847.4 8857.4 ang vac
FeHCvD 9905.0 9935.0 9855.0 9880.0 9940.0 9970.0 ang vac
NaI 8168.500 8234.125 8150.000 8168.400 8235.250 8250.000 ang
bTiO 4758.500 4800.000 4742.750 4756.500 4827.875 4847.875 mag
aTiO 5445.000 5600.000 5420.000 5442.000 5630.000 5655.000 mag
CaH1 6357.500 6401.750 6342.125 6356.500 6408.500 6429.750 mag
CaH2 6775.000 6900.000 6510.000 6539.250 7017.000 7064.000 mag
NaISDSS 8180.0 8200.0 8143.0 8153.0 8233.0 8244.0 ang
TiO2SDSS 6189.625 6272.125 6066.625 6141.625 6422.0 6455.0 mag
"""
# Ratios of the mean flux densities in two bands, first over second: per unit frequency for D4000 and Dn4000, per unit
# wavelength for TiO.
_RATIOS = """
D4000 4050.0 4250.0 3750.0 3950.0
Dn4000 4000.0 4100.0 3850.0 3950.0
TiOCvD 8835.0 8855.0 8870.0 8890.0 vac
"""

INDEX_UNITS = {
    **{row.split()[0]: row.split()[7] for row in _ABSORPTION.strip().splitlines()},
    **{row.split()[0]: "" for row in _RATIOS.strip().splitlines()},
}


class BandSums:
    """Integrals of spectra over bands whose edges fall inside pixels, from cumulative sums.

    Every spaxel has its own redshift and therefore its own band edges; differences of interpolated cumulative sums give
    all of them at once.
    """

    def __init__(self, flux: np.ndarray, variance: np.ndarray, redshift: np.ndarray) -> None:
        """Prepares the cumulative sums.

        Args:
            flux: [spaxel, wavelength] flux density per Angstrom.
            variance: [spaxel, wavelength] its variance; infinite where a pixel cannot be used.
            redshift: [spaxel] redshift of the bands.
        """
        self.redshift = redshift
        self._seen = np.isfinite(variance)
        # Unusable pixels contribute nothing; `_width` records how much of a band was usable.
        self._variance = _cumulative(np.where(self._seen, variance, 0) * _WIDTH**2)
        self._width = _cumulative(self._seen * _WIDTH)
        self._flux = _cumulative(np.where(self._seen, flux, 0) * _WIDTH)

    def of(self, flux: np.ndarray, redshift: np.ndarray | None = None) -> "BandSums":
        """Band sums of another flux with the same variance, optionally at another redshift."""
        other = copy(self)
        other._flux = _cumulative(np.where(self._seen, flux, 0) * _WIDTH)
        other.redshift = self.redshift if redshift is None else redshift
        return other

    def integrate(self, low: float, high: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Flux, variance and usable fraction [spaxel] of a band.

        Args:
            low: lower edge, vacuum rest wavelength, Angstrom.
            high: upper edge.
        """
        edges = [pixel_of(edge * (1 + self.redshift)) + 0.5 for edge in (low, high)]
        flux, variance, width = (
            _at(total, edges[1]) - _at(total, edges[0]) for total in (self._flux, self._variance, self._width)
        )
        return flux, variance, width / ((high - low) * (1 + self.redshift))

    def mean(self, low: float, high: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean flux density, its variance, and usable fraction [spaxel] of a band; arguments as for `integrate`."""
        flux, variance, share = self.integrate(low, high)
        width = np.maximum(share, 1e-6) * (high - low) * (1 + self.redshift)
        return flux / width, variance / width**2, share


def absorption_indices(sums: BandSums) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, variances and usable fractions, each [index, spaxel], of the DAP's 46 indices (`INDEX_UNITS`)."""
    rows = [_absorption_index(sums, row.split()) for row in _ABSORPTION.strip().splitlines()]
    rows += [_band_ratio(sums, row.split()) for row in _RATIOS.strip().splitlines()]
    values, variances, shares = (np.stack(part) for part in zip(*rows, strict=True))
    return values, variances, shares


def _absorption_index(sums: BandSums, row: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    main, blue, red = (tuple(edges) for edges in _vacuum(row[1:7], row).reshape(3, 2))
    flux, variance, share = sums.integrate(*main)
    (blue_mean, _, blue_share), (red_mean, _, red_share) = sums.mean(*blue), sums.mean(*red)
    place = (np.mean(main) - np.mean(blue)) / (np.mean(red) - np.mean(blue))
    continuum = (1 - place) * blue_mean + place * red_mean
    continuum = np.where(np.abs(continuum) > 1e-6, continuum, 1e-6)
    width = main[1] - main[0]
    # Observed bands are wider by 1 + z, so the ratio is normalised by the observed width; the equivalent width is
    # then given at rest.
    stretch = 1 + sums.redshift
    ratio = flux / continuum / (width * stretch)
    error2 = variance / (continuum * width * stretch) ** 2
    seen = np.minimum(share, np.minimum(blue_share, red_share))
    if row[7] == "mag":
        safe = np.maximum(ratio, 1e-3)
        return -2.5 * np.log10(safe), (2.5 / np.log(10) / safe) ** 2 * error2, seen
    return width * (1 - ratio), width**2 * error2, seen


def _band_ratio(sums: BandSums, row: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    over, under = (tuple(edges) for edges in _vacuum(row[1:5], row).reshape(2, 2))
    (a, a_variance, a_share), (b, b_variance, b_share) = sums.mean(*over), sums.mean(*under)
    b = np.where(np.abs(b) > 1e-6, b, 1e-6)
    # F_nu is proportional to lambda^2 F_lambda.
    scale = 1.0 if row[0].startswith("TiO") else (np.mean(over) / np.mean(under)) ** 2
    ratio = scale * a / b
    return ratio, (scale / b) ** 2 * (a_variance + (a / b) ** 2 * b_variance), np.minimum(a_share, b_share)


def _vacuum(edges: list[str], row: list[str]) -> np.ndarray:
    values = np.array(edges, dtype=np.float64)
    return values if row[-1] == "vac" else air_to_vacuum(values)


def _cumulative(values: np.ndarray) -> np.ndarray:
    """Sums [spaxel, wavelength + 1] up to the left edge of each pixel."""
    total = np.zeros((values.shape[0], values.shape[1] + 1))
    np.cumsum(values, axis=1, out=total[:, 1:])
    return total


def _at(total: np.ndarray, edge: np.ndarray) -> np.ndarray:
    """Cumulative sums [spaxel], linearly interpolated at fractional pixel edges [spaxel]."""
    edge = np.clip(edge, 0, total.shape[1] - 1.001)
    whole = edge.astype(int)
    rows = np.arange(len(edge))
    return np.asarray(total[rows, whole] + (edge - whole) * (total[rows, whole + 1] - total[rows, whole]))
