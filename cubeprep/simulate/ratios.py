"""Emission-line ratios: from metallicity, or from the place of an active nucleus in the BPT diagrams."""

from dataclasses import dataclass

import numpy as np

from cubeprep.lines import PAPER_LINES
from cubeprep.simulate.config import GalaxyClass

# Lines of real spectra beyond those that the pipeline cuts out; He I 3889 blends with Hzeta.
_OTHER_LINES = {
    "OII-3727": 3727.092,
    "OII-3729": 3729.875,
    "HeI-3889": 3889.749,
    "ArIII-7137": 7137.76,
    "SIII-9071": 9071.1,
    "SIII-9533": 9533.2,
}
LINE_WAVES = {**{line.name: line.rest_wave for line in PAPER_LINES}, **_OTHER_LINES}
LINE_NAMES = tuple(LINE_WAVES)

# Case B at 10^4 K, relative to Hbeta.
BALMER = {
    "Ha-6564": 2.86,
    "Hb-4862": 1.0,
    "Hgam-4341": 0.468,
    "Hdel-4102": 0.259,
    "Heps-3971": 0.159,
    "Hzet-3890": 0.105,
    "Heta-3836": 0.073,
}

# Oxygen abundances, 12 + log(O/H), over which Marino+2013 calibrated.
OH_RANGE = (8.05, 8.58)


@dataclass(frozen=True)
class Bpt:
    """Logarithms of line ratios, each a number or a map: where gas lies in the BPT diagrams."""

    nii_ha: np.ndarray | float
    oiii_hb: np.ndarray | float
    sii_ha: np.ndarray | float
    oi_ha: np.ndarray | float


def star_forming_bpt(oh: np.ndarray, diffuse: np.ndarray, scatter_dex: float = 0.0) -> Bpt:
    """Ratios of gas ionised by young stars.

    Args:
        oh: 12 + log(O/H), any shape.
        diffuse: share of diffuse gas, 0 to 1, same shape: it raises the low-ionisation lines.
        scatter_dex: offset of log([O III]/Hbeta) of this galaxy.

    Source: N2 and O3N2 calibrations of Marino+2013 (doi:10.1051/0004-6361/201321956), inverted.
    """
    oh = np.clip(oh, *OH_RANGE)
    nii_ha = (oh - 8.743) / 0.462
    oiii_hb = (8.533 - oh) / 0.214 + nii_ha + scatter_dex
    sii_ha = -0.62 - 0.25 * (oh - 8.5) + 0.25 * diffuse
    return Bpt(nii_ha + 0.05 * diffuse, oiii_hb + 0.05 * diffuse, sii_ha, sii_ha - 0.95 + 0.1 * diffuse)


def line_ratios(bpt: Bpt, heii_hb: float = 0.003) -> np.ndarray:
    """Intrinsic fluxes relative to Hbeta, [lines, ...] in the order of `LINE_NAMES`; doublets tied as in the DAP."""
    nii, sii, oi = (BALMER["Ha-6564"] * 10 ** np.asarray(log) for log in (bpt.nii_ha, bpt.sii_ha, bpt.oi_ha))
    oiii = 10 ** np.asarray(bpt.oiii_hb)
    # NeIII follows OIII; the OII doublet and SIII bracket the usual O32 and S32 of HII regions.
    flux = {
        **BALMER,
        "NeIII-3869": 0.09 * oiii,
        "NeIII-3968": 0.09 * 0.301 * oiii,
        "HeII-4687": heii_hb,
        "OIII-5008": oiii,
        "OIII-4960": 0.340 * oiii,
        "HeI-5877": 0.12,
        "HeI-3889": 0.09,
        "OI-6302": oi,
        "OI-6365": 0.328 * oi,
        "NII-6585": nii,
        "NII-6549": 0.327 * nii,
        "SII-6718": sii * 1.35 / 2.35,
        "SII-6732": sii / 2.35,
        "OII-3727": 1.9 * sii * 0.42,
        "OII-3729": 1.9 * sii * 0.58,
        "ArIII-7137": 0.06 + 0.03 * oiii,
        "SIII-9071": 0.25 + 0.05 * oiii,
        "SIII-9533": 2.47 * (0.25 + 0.05 * oiii),
    }
    return np.stack(np.broadcast_arrays(*(np.asarray(flux[name], dtype=np.float64) for name in LINE_NAMES)))


def kauffmann2003(nii_ha: np.ndarray | float) -> np.ndarray:
    """log([O III]/Hbeta) above which gas is not purely star forming (doi:10.1111/j.1365-2966.2003.07154.x)."""
    nii_ha = np.asarray(nii_ha, dtype=np.float64)
    return np.where(nii_ha < 0.0, 0.61 / np.minimum(nii_ha - 0.05, -1e-3) + 1.3, -np.inf)


def kewley2001(nii_ha: np.ndarray | float) -> np.ndarray:
    """log([O III]/Hbeta) above which stars cannot ionise gas (doi:10.1086/321545)."""
    nii_ha = np.asarray(nii_ha, dtype=np.float64)
    return np.where(nii_ha < 0.4, 0.61 / np.minimum(nii_ha - 0.47, -1e-3) + 1.19, -np.inf)


def bpt_class(nii_ha: float, oiii_hb: float, sii_ha: float) -> GalaxyClass:
    """The class of gas of these logarithmic ratios; Seyferts and LINERs are parted by [S II] as in Kewley+2006."""
    if oiii_hb < kauffmann2003(nii_ha):
        return "star_forming"
    if oiii_hb < kewley2001(nii_ha):
        return "composite"
    return "seyfert" if oiii_hb > 1.89 * sii_ha + 0.76 else "liner"


def mixing_fractions(stars: Bpt, agn: Bpt) -> tuple[float, float]:
    """Shares of Halpha from the nucleus at which a mixture crosses the Kauffmann and then the Kewley curve."""
    share = np.linspace(0.0, 1.0, 1001)
    nii, oiii = (
        np.log10((1 - share) * 10 ** float(a) + share * 10 ** float(b))
        for a, b in ((stars.nii_ha, agn.nii_ha), (stars.oiii_hb, agn.oiii_hb))
    )
    first = [float(share[np.argmax(oiii > curve(nii))]) for curve in (kauffmann2003, kewley2001)]
    return first[0], first[1]
