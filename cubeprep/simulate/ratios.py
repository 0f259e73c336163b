"""Emission-line ratios: from metallicity, or from the place of an active nucleus in the BPT diagrams."""

from dataclasses import dataclass

import numpy as np

from cubeprep.lines import DAP_DR17_LINES
from cubeprep.simulate.config import GalaxyClass

# Lines of real spectra beyond those that the DAP fits: vacuum wavelengths, Angstrom.
_OTHER_LINES = {
    "H14-3723": 3723.0035,
    "H13-3735": 3735.4365,
    "OIII-4364": 4364.436,
    "HeI-4472": 4472.734,
    "HeI-5017": 5017.077,
    "HeI-6680": 6679.9956,
    "OII-7321": 7321.5,
    "OII-7332": 7332.2,
}
LINE_WAVES = {**{line.name: line.rest_wave for line in DAP_DR17_LINES}, **_OTHER_LINES}
LINE_NAMES = tuple(LINE_WAVES)

# Case B at 10^4 K, relative to Hbeta (Osterbrock & Ferland 2006); Paschen lines with it.
BALMER = {
    "Ha-6564": 2.86,
    "Hb-4862": 1.0,
    "Hgam-4341": 0.468,
    "Hdel-4102": 0.259,
    "Heps-3971": 0.159,
    "Hzet-3890": 0.105,
    "Heta-3836": 0.073,
    "Hthe-3798": 0.053,
    "H11-3771": 0.040,
    "H12-3751": 0.030,
    "H13-3735": 0.024,
    "H14-3723": 0.019,
    "Peps-9548": 0.036,
    "Pzet-9231": 0.025,
    "Peta-9017": 0.018,
}

# Oxygen abundances, 12 + log(O/H), over which Marino+2013 calibrated.
OH_RANGE = (8.00, 8.58)


@dataclass(frozen=True)
class Bpt:
    """Logarithms of line ratios, each a number or a map: where gas lies in the BPT diagrams."""

    nii_ha: np.ndarray | float
    oiii_hb: np.ndarray | float
    sii_ha: np.ndarray | float
    oi_ha: np.ndarray | float


def star_forming_bpt(oh: np.ndarray, scatter_dex: float = 0.0) -> Bpt:
    """Ratios of H II regions.

    Args:
        oh: 12 + log(O/H), any shape.
        scatter_dex: offset of log([O III]/Hbeta) of this galaxy.

    Source: the N2 calibration of Marino+2013 (doi:10.1051/0004-6361/201321956), inverted; [O III]/Hbeta is a hyperbola
    like that of Kewley+2013 (doi:10.1088/2041-8205/774/1/L10), moved to the medians of the 2,400 star-forming nuclei in
    shared/data/catalogs; [S II] and [O I] after the centres of the real MAPS 7815-3702.
    """
    oh = np.clip(oh, *OH_RANGE)
    nii_ha = (oh - 8.743) / 0.462
    # The hyperbola falls for ever; the real nuclei of most metals do not.
    oiii_hb = np.maximum(0.61 / (nii_ha + 0.02) + 0.80, -0.80) + scatter_dex
    sii_ha = -0.67 - 0.35 * (oh - 8.5)
    return Bpt(nii_ha, oiii_hb, sii_ha, sii_ha - 1.36 - 0.5 * (oh - 8.5))


def diffuse_bpt(oh: np.ndarray, scatter_dex: float = 0.0) -> Bpt:
    """Ratios of diffuse gas: low-ionisation lines are stronger than in H II regions (Zhang+2017,
    doi:10.1093/mnras/stw3308), here by what the outer parts of the real MAPS 7815-3702 show."""
    regions = star_forming_bpt(oh, scatter_dex)
    return Bpt(regions.nii_ha + 0.10, regions.oiii_hb + 0.15, regions.sii_ha + 0.46, regions.oi_ha + 0.60)


def line_ratios(bpt: Bpt, *, heii_hb: float = 0.0006, sii_ratio: float = 1.35) -> np.ndarray:
    """Intrinsic fluxes relative to Hbeta, [lines, ...] in the order of `LINE_NAMES`.

    Args:
        bpt: where the gas lies.
        heii_hb: He II 4687 / Hbeta.
        sii_ratio: [S II] 6718 / 6732, a measure of density: 1.44 in thin gas, 1.1 in a nucleus.
    """
    nii, sii, oi = (BALMER["Ha-6564"] * 10 ** np.asarray(log) for log in (bpt.nii_ha, bpt.sii_ha, bpt.oi_ha))
    oiii = 10 ** np.asarray(bpt.oiii_hb)
    oii, siii = 1.9 * sii + 0.35, 0.25 + 0.05 * oiii
    # Doublets from one upper level have the ratio of their transition probabilities.
    flux = {
        **BALMER,
        "NeIII-3869": 0.09 * oiii,
        "NeIII-3968": 0.301 * 0.09 * oiii,
        "HeII-4687": heii_hb,
        "OIII-5008": oiii,
        "OIII-4960": 0.340 * oiii,
        "OIII-4364": 0.006 * oiii,
        "HeI-5877": 0.12,
        "HeI-3889": 0.09,
        "HeI-4472": 0.04,
        "HeI-5017": 0.025,
        "HeI-6680": 0.034,
        "HeI-7067": 0.025,
        "OI-6302": oi,
        "OI-6365": 0.328 * oi,
        "NI-5199": 0.12 * oi,
        "NI-5201": 0.10 * oi,
        "NII-6585": nii,
        "NII-6549": 0.327 * nii,
        "SII-6718": sii * sii_ratio / (1 + sii_ratio),
        "SII-6732": sii / (1 + sii_ratio),
        "OII-3727": oii / (1 + sii_ratio),
        "OII-3729": oii * sii_ratio / (1 + sii_ratio),
        "OII-7321": 0.012 * oii,
        "OII-7332": 0.010 * oii,
        "ArIII-7137": 0.06 + 0.03 * oiii,
        "ArIII-7753": 0.24 * (0.06 + 0.03 * oiii),
        "SIII-9071": 0.407 * siii * 2.47,
        "SIII-9533": siii * 2.47,
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
