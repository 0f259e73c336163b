"""Small model cubes of the DAP in the layouts of DR15 (2.2.1) and DR17 (3.1.0), with known models, for tests."""

from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from tests.logcube import FIRST_WAVE, NUM_PLANES, write_gzipped

UNIT = "1E-17 erg/s/cm^2/ang/spaxel"
STAGES = ("Binned spectra", "Stellar continua", "Em. line moments", "Em. line models", "Spectral indices")
DAPTYPES = {"dr15": "HYB10-GAU-MILESHC", "dr17": "HYB10-MILESHC-MASTARHC2"}
MASK_OF_MODEL = {"dr15": "EMLINE_MASK", "dr17": "MODEL_MASK"}


def cube_header(size: tuple[int, int]) -> fits.Header:
    """World coordinates as the DAP writes them: those of a LOGCUBE by way of astropy, so wavelengths are in m."""
    y, x = size
    cards = {"NAXIS": 3, "NAXIS1": x, "NAXIS2": y, "NAXIS3": NUM_PLANES}
    for i, kind in ((1, "RA---TAN"), (2, "DEC--TAN")):
        cards |= {f"CTYPE{i}": kind, f"CUNIT{i}": "deg", f"CRVAL{i}": 10.0, f"CRPIX{i}": 1.0}
    cards |= {"CD1_1": -0.5 / 3600, "CD2_2": 0.5 / 3600, "CTYPE3": "WAVE-LOG", "CUNIT3": "Angstrom", "CRPIX3": 1.0}
    cards |= {"CRVAL3": FIRST_WAVE, "CD3_3": FIRST_WAVE * np.log(10) * 1e-4}
    return WCS(fits.Header(cards)).to_header()


def model_hdus(
    stars: np.ndarray, lines: np.ndarray, bins: np.ndarray, form: str = "dr17", plateifu: str = "8000-1"
) -> fits.HDUList:
    """Model cube of spaxels with these stars and lines [plane, y, x].

    Args:
        stars, lines: models of single spaxels.
        bins: [y, x] numbers of the spaxels' models; where -1 the cubes are 0, as the DAP's. The kinematics module has
            fitted the mean of these stars instead.
        form: `dr15` or `dr17`.
        plateifu: identifier of the galaxy.
    """
    fitted = bins >= 0
    mean = fitted * stars[:, fitted].mean(axis=1)[:, None, None]
    stars, lines = stars * fitted, lines * fitted
    header, nothing = cube_header(bins.shape), np.zeros(stars.shape, dtype=np.int16)

    def cube(name: str, values: np.ndarray) -> fits.ImageHDU:
        hdu = fits.ImageHDU(values if name.endswith("MASK") else values.astype(np.float32), header, name=name)
        if not name.endswith("MASK"):
            hdu.header["BUNIT"] = UNIT
        return hdu

    ignored = np.where(fitted, nothing, np.int16(1 << (5 if form == "dr17" else 7)))
    vectors = [fits.ImageHDU(np.ones(NUM_PLANES, dtype=np.float32), name=name) for name in ("WAVE", "REDCORR")]
    binid = np.zeros((5, *bins.shape), dtype=np.int32)
    binid[[0, 1]], binid[3] = np.where(fitted, 0, -1), bins
    channels = fits.Header({f"C{i}": name for i, name in enumerate(STAGES, start=1)})
    primary = {"PLATEIFU": plateifu, "DAPTYPE": DAPTYPES[form], "DAPFRMT": "LOGCUBE", "DAPQUAL": 0}
    model = cube("MODEL", stars + lines)
    tail = (
        [model, cube("EMLINE", lines), cube("EMLINE_BASE", stars - mean), cube("EMLINE_MASK", ignored)]
        if form == "dr15"
        else [model, cube("MODEL_MASK", ignored), cube("EMLINE", lines), cube("STELLAR", mean),
              cube("STELLAR_MASK", nothing)]
    )  # fmt: skip
    data = [cube("FLUX", mean + 0.5), cube("IVAR", np.ones(stars.shape)), cube("MASK", nothing)]
    return fits.HDUList(
        [fits.PrimaryHDU(header=fits.Header(primary)), *data, *vectors, *tail, fits.ImageHDU(binid, channels, "BINID")]
    )


def write_model(root: Path, hdus: fits.HDUList) -> Path:
    """Writes a model cube under the name that its header asks for."""
    header = hdus[0].header
    return write_gzipped(hdus, root / f"manga-{header['PLATEIFU']}-LOGCUBE-{header['DAPTYPE']}.fits.gz")
