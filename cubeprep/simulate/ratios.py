"""Emission-line ratios from metallicity, or from the position of an active nucleus in the BPT diagrams."""

from dataclasses import dataclass

import numpy as np

from cubeprep.line_ratios import kauffmann2003, kewley2001
from cubeprep.lines import DAP_DR17_LINES
from cubeprep.simulate.config import GalaxyClass

# Vacuum wavelengths, Angstrom, of lines in real spectra that the DAP does not fit.
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

# Hydrogen lines relative to Hbeta for case B recombination at 10^4 K (Osterbrock & Ferland 2006), including the Paschen
# lines in range.
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

# Range of oxygen abundances, 12 + log(O/H), in which the calibration of Marino+2013 is used.
OH_RANGE = (8.00, 8.58)


@dataclass(frozen=True)
class Bpt:
    """Position in the BPT diagrams: log10 line ratios, each a number or a map [y, x].

    Attributes:
        nii_ha: [N II] 6585 / Halpha.
        oiii_hb: [O III] 5008 / Hbeta.
        sii_ha: [S II] 6718 + 6732 / Halpha.
        oi_ha: [O I] 6302 / Halpha.
    """

    nii_ha: np.ndarray | float
    oiii_hb: np.ndarray | float
    sii_ha: np.ndarray | float
    oi_ha: np.ndarray | float


def star_forming_bpt(oh: np.ndarray, scatter_dex: float = 0.0) -> Bpt:
    """Line ratios of H II regions.

    Source: the N2 calibration of Marino+2013 (doi:10.1051/0004-6361/201321956), inverted; for [O III]/Hbeta a hyperbola
    like that of Kewley+2013 (doi:10.1088/2041-8205/774/1/L10), shifted to the medians of the 2,400 star-forming nuclei
    in shared/data/catalogs; for [S II] and [O I] the centre of the real MAPS 7815-3702.

    Args:
        oh: 12 + log(O/H), any shape.
        scatter_dex: offset of log([O III]/Hbeta) in this galaxy, dex.
    """
    oh = np.clip(oh, *OH_RANGE)
    nii_ha = (oh - 8.743) / 0.462
    # The hyperbola diverges at high metallicity, where the real nuclei level off.
    oiii_hb = np.maximum(0.61 / (nii_ha + 0.02) + 0.80, -0.80) + scatter_dex
    sii_ha = -0.67 - 0.35 * (oh - 8.5)
    return Bpt(nii_ha, oiii_hb, sii_ha, sii_ha - 1.36 - 0.5 * (oh - 8.5))


def diffuse_bpt(oh: np.ndarray, scatter_dex: float = 0.0) -> Bpt:
    """Line ratios of diffuse ionised gas, in which low-ionisation lines are stronger than in H II regions.

    Source: Zhang+2017 (doi:10.1093/mnras/stw3308); the enhancement is that in the outer parts of the real MAPS
    7815-3702. Arguments as for `star_forming_bpt`.
    """
    regions = star_forming_bpt(oh, scatter_dex)
    return Bpt(regions.nii_ha + 0.10, regions.oiii_hb + 0.15, regions.sii_ha + 0.46, regions.oi_ha + 0.60)


def line_ratios(bpt: Bpt, *, heii_hb: float = 0.0006, sii_ratio: float = 1.35) -> np.ndarray:
    """Intrinsic fluxes relative to Hbeta, [line, ...] in the order of `LINE_NAMES`.

    Args:
        bpt: position of the gas in the BPT diagrams.
        heii_hb: He II 4687 / Hbeta.
        sii_ratio: [S II] 6718 / 6732, a density diagnostic: 1.44 in the low-density limit, 1.1 in a nucleus.
    """
    nii, sii, oi = (BALMER["Ha-6564"] * 10 ** np.asarray(log) for log in (bpt.nii_ha, bpt.sii_ha, bpt.oi_ha))
    oiii = 10 ** np.asarray(bpt.oiii_hb)
    oii, siii = 1.9 * sii + 0.35, 0.25 + 0.05 * oiii
    # The ratio of lines from a common upper level is fixed by their transition probabilities.
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


def bpt_class(nii_ha: float, oiii_hb: float, sii_ha: float) -> GalaxyClass:
    """Class of gas with these log10 line ratios.

    Source: curves of Kauffmann+2003 and Kewley+2001; Seyferts and LINERs are separated in the [S II] diagram as in
    Kewley+2006 (doi:10.1111/j.1365-2966.2006.10859.x).
    """
    if oiii_hb < kauffmann2003(nii_ha):
        return "star_forming"
    if oiii_hb < kewley2001(nii_ha):
        return "composite"
    return "seyfert" if oiii_hb > 1.89 * sii_ha + 0.76 else "liner"


def mixing_fractions(stars: Bpt, agn: Bpt) -> tuple[float, float]:
    """Fractions of Halpha from the nucleus at which a mixture crosses the Kauffmann and the Kewley curve.

    Args:
        stars: line ratios of the gas ionised by stars.
        agn: line ratios of the gas ionised by the nucleus.
    """
    share = np.linspace(0.0, 1.0, 1001)
    nii, oiii = (
        np.log10((1 - share) * 10 ** float(a) + share * 10 ** float(b))
        for a, b in ((stars.nii_ha, agn.nii_ha), (stars.oiii_hb, agn.oiii_hb))
    )
    first = [float(share[np.argmax(oiii > curve(nii))]) for curve in (kauffmann2003, kewley2001)]
    return first[0], first[1]
