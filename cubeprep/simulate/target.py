"""Identifiers of an observation, and the header cards that all its files share."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cubeprep.simulate.defects import Defects
from cubeprep.simulate.galaxy import Galaxy

DRP_VERSION = "v3_1_1"

# Bits of MANGA_TARGET1 for the primary and the secondary sample.
PRIMARY_SAMPLE, SECONDARY_SAMPLE = 1 << 10, 1 << 11

NUM_EXPOSURES = 9
EXPOSURE_SECONDS = 900.1
_FIRST_MJD = 56740


@dataclass(frozen=True)
class Target:
    """Identifiers and quality of an observation.

    Attributes:
        plate: number of the plug plate.
        ifudsgn: size of the bundle and its number on the plate, such as `12705`.
        mangaid: identifier of the galaxy, shared by repeat observations.
        psf_fwhm_arcsec: FWHM of the PSF of the gridded cube, arcsec.
        defects: defects of the observation.
    """

    plate: int
    ifudsgn: str
    mangaid: str
    psf_fwhm_arcsec: float
    defects: Defects = field(default_factory=Defects)

    @property
    def plateifu(self) -> str:
        """Identifier of the observation."""
        return f"{self.plate}-{self.ifudsgn}"

    @property
    def mjd(self) -> int:
        """Modified Julian Date of the observation; one plate every three days."""
        return _FIRST_MJD + 3 * (self.plate - 8001)

    @property
    def cube_path(self) -> Path:
        """Path of the LOGCUBE below the survey's root, as on the Science Archive Server."""
        return Path(str(self.plate)) / "stack" / f"manga-{self.plateifu}-LOGCUBE.fits.gz"

    def maps_path(self, daptype: str) -> Path:
        """Path of the MAPS of an analysis below the survey's root, as on the Science Archive Server."""
        folder = Path(daptype) / str(self.plate) / self.ifudsgn
        return folder / f"manga-{self.plateifu}-MAPS-{daptype}.fits.gz"

    def model_path(self, daptype: str) -> Path:
        """Path of the model cube of an analysis, beside its MAPS."""
        return self.maps_path(daptype).with_name(f"manga-{self.plateifu}-LOGCUBE-{daptype}.fits.gz")


def target_bits(galaxy: Galaxy) -> int:
    """Value of MNGTARG1; the primary sample is observed to 1.5 half-light radii, the secondary to 2.5."""
    return SECONDARY_SAMPLE if galaxy.secondary else PRIMARY_SAMPLE


def common_cards(target: Target, galaxy: Galaxy) -> list[tuple[Any, ...]]:
    """Cards of the primary header of LOGCUBEs, which MAPS repeat, in the order of the real files."""
    fwhm = target.psf_fwhm_arcsec
    return [
        ("VERSDRP2", DRP_VERSION, "MaNGA DRP version (2d processing)"),
        ("VERSDRP3", DRP_VERSION, "MaNGA DRP Version (3d processing)"),
        ("SIMULATD", True, "made by cubescout simulate: no sky was observed"),
        ("TELESCOP", "SDSS 2.5-M", "Sloan Digital Sky Survey"),
        ("INSTRUME", "MaNGA", "SDSS-IV MaNGA IFU"),
        ("SRVYMODE", "MaNGA dither", "Survey leading this observation and its mode"),
        ("PLATETYP", "APOGEE-2&MaNGA", "Type of plate (e.g. MaNGA, APOGEE-2&MANGA)"),
        ("OBJSYS", "ICRS", "The TCC objSys"),
        ("EQUINOX", 2000.0),
        ("RADESYS", "FK5"),
        ("NEXP", NUM_EXPOSURES, "Total number of exposures"),
        ("EXPTIME", NUM_EXPOSURES * EXPOSURE_SECONDS, "Total exposure time (seconds)"),
        ("MJDMIN", target.mjd, "MJD of first exposure"),
        ("MJDMED", target.mjd, "MJD of median exposure"),
        ("MJDMAX", target.mjd, "MJD of last exposure"),
        ("MNGTARG1", target_bits(galaxy), "manga_target1 maskbit"),
        ("MNGTARG2", 0, "manga_target2 maskbit"),
        ("MNGTARG3", 0, "manga_target3 maskbit"),
        ("IFURA", galaxy.ra_deg, "IFU R.A. (J2000 deg.)"),
        ("IFUDEC", galaxy.dec_deg, "IFU Dec. (J2000 deg.)"),
        ("OBJRA", galaxy.ra_deg, "Object R.A. (J2000 deg.)"),
        ("OBJDEC", galaxy.dec_deg, "Object Dec. (J2000 deg.)"),
        ("PLATEID", target.plate, "Current plate"),
        ("IFUDSGN", target.ifudsgn, "ifuDesign"),
        ("PLATEIFU", target.plateifu, "PLATEID-ifuDesign"),
        ("MANGAID", target.mangaid, "MaNGA ID number"),
        ("CATIDNUM", target.mangaid.split("-")[0], "Primary target input catalog"),
        ("DRP3QUAL", target.defects.quality, "DRP-3d quality bitmask"),
        ("EBVGAL", galaxy.ebv_galactic, "Galactic reddening E(B-V)"),
        *((f"{band}FWHM", fwhm, f"Reconstructed FWHM in {band.lower()}-band (arcsec)") for band in "GRIZ"),
    ]
