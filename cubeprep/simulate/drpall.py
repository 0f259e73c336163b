"""Writes drpall, the table of all observations, with the most used columns under their real names and types."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cubeprep.simulate.fitsfile import whole_file, write_primary, write_table
from cubeprep.simulate.galaxy import HUBBLE_KMS_MPC, Galaxy
from cubeprep.simulate.target import DRP_VERSION, EXPOSURE_SECONDS, NUM_EXPOSURES, Target, target_bits


def write_drpall(path: Path, targets: Sequence[Target], galaxies: Sequence[Galaxy]) -> None:
    """Writes drpall with one row per observation, in HDU `MANGA`.

    Args:
        path: of the file.
        targets: [observation].
        galaxies: [observation] the galaxy observed.

    Raises:
        OSError: the file cannot be written.
    """
    with whole_file(path) as file:
        write_primary(file, [("VERSDRP3", DRP_VERSION, "MaNGA DRP version (3d processing)")])
        write_table(file, "MANGA", _columns(list(zip(targets, galaxies, strict=True))))


def _columns(rows: list[tuple[Target, Galaxy]]) -> dict[str, tuple[str, str, Any]]:
    """FITS format, unit and values of each column, by name."""
    from_target: dict[str, tuple[str, str, Any]] = {
        "plate": ("J", "", lambda t: t.plate),
        "ifudsgn": ("5A", "", lambda t: t.ifudsgn),
        "plateifu": ("11A", "", lambda t: t.plateifu),
        "mangaid": ("10A", "", lambda t: t.mangaid),
        "versdrp2": ("8A", "", lambda _: DRP_VERSION),
        "versdrp3": ("8A", "", lambda _: DRP_VERSION),
        "srvymode": ("12A", "", lambda _: "MaNGA dither"),
        "drp3qual": ("J", "", lambda t: t.defects.quality),
        "nexp": ("J", "", lambda _: NUM_EXPOSURES),
        "exptime": ("E", "s", lambda _: NUM_EXPOSURES * EXPOSURE_SECONDS),
        "mjdmed": ("J", "", lambda t: t.mjd),
        **{f"{band}fwhm": ("E", "arcsec", lambda t: t.psf_fwhm_arcsec) for band in "griz"},
    }
    return {
        **{name: (form, unit, [get(t) for t, _ in rows]) for name, (form, unit, get) in from_target.items()},
        **{name: (form, unit, [get(g) for _, g in rows]) for name, (form, unit, get) in _FROM_GALAXY.items()},
    }


# Solar masses in units of h^-2 solar masses, which the NASA-Sloan Atlas uses.
_MASS_UNIT = (HUBBLE_KMS_MPC / 100) ** 2

_FROM_GALAXY: dict[str, tuple[str, str, Any]] = {
    "mngtarg1": ("J", "", target_bits),
    "mngtarg2": ("J", "", lambda _: 0),
    "mngtarg3": ("J", "", lambda _: 0),
    "objra": ("D", "deg", lambda g: g.ra_deg),
    "objdec": ("D", "deg", lambda g: g.dec_deg),
    "ifura": ("D", "deg", lambda g: g.ra_deg),
    "ifudec": ("D", "deg", lambda g: g.dec_deg),
    "ebvgal": ("E", "mag", lambda g: g.ebv_galactic),
    "ifudesignsize": ("J", "", lambda g: g.num_fibres),
    "ifutargetsize": ("J", "", lambda g: g.num_fibres),
    "z": ("D", "", lambda g: g.z),
    "nsa_z": ("D", "", lambda g: g.z),
    "nsa_zdist": ("D", "", lambda g: g.z),
    "nsa_elpetro_ba": ("E", "", lambda g: g.axis_ratio),
    "nsa_elpetro_phi": ("E", "deg", lambda g: g.pa_deg % 180),
    "nsa_elpetro_th50_r": ("E", "arcsec", lambda g: g.re_arcsec),
    "nsa_sersic_ba": ("E", "", lambda g: g.axis_ratio),
    "nsa_sersic_phi": ("E", "deg", lambda g: g.pa_deg % 180),
    "nsa_sersic_th50": ("E", "arcsec", lambda g: g.re_arcsec),
    "nsa_elpetro_mass": ("E", "h^-2 Msun", lambda g: 10**g.log_mass * _MASS_UNIT),
    "nsa_sersic_mass": ("E", "h^-2 Msun", lambda g: 10**g.log_mass * _MASS_UNIT),
}
