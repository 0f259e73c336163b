"""Small LOGCUBE files on MaNGA's true wavelength grid, with known spectra, for tests of the readers and of prepare."""

from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from isal import igzip

from cubeprep.lines import PAPER_LINES

NUM_PLANES = 4563
FIRST_WAVE = 3621.59598486
WAVE = FIRST_WAVE * 10 ** (1e-4 * np.arange(NUM_PLANES))
SIGMA_KMS = 90.0


def line_spectrum(wave: np.ndarray, z: float, flux: float = 20.0) -> np.ndarray:
    """Gaussians of the same flux (1e-17 erg/s/cm2) at the 19 lines."""
    spectrum = np.zeros_like(wave)
    for line in PAPER_LINES:
        centre = line.rest_wave * (1 + z)
        sigma = centre * SIGMA_KMS / 299792.458
        spectrum += flux / (sigma * np.sqrt(2 * np.pi)) * np.exp(-0.5 * ((wave - centre) / sigma) ** 2)
    return spectrum


def cube_hdus(z: float, *, size: int = 12, seed: int = 0, sigma: float = 0.02) -> fits.HDUList:
    """FLUX, IVAR, MASK and WAVE of a round source, the corner spaxels without coverage."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    profile = np.exp(-np.hypot(x, y) / 3)
    flux = line_spectrum(WAVE, z)[:, None, None] * profile + rng.normal(0, sigma, (NUM_PLANES, size, size))
    corner = np.hypot(x, y) > size * 0.55
    flux[:, corner] = 0
    ivar = np.where(corner, 0, np.full(flux.shape, 1 / sigma**2))
    mask = np.where(corner, 1 | 1 << 10, np.zeros(flux.shape)).astype(np.int32)
    header = fits.Header(
        {
            "CTYPE3": "WAVE-LOG",
            "CRPIX3": 1.0,
            "CRVAL3": FIRST_WAVE,
            "CD3_3": FIRST_WAVE * np.log(10) * 1e-4,
            "BUNIT": "1E-17 erg/s/cm^2/Ang/spaxel",
        }
    )
    return fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.ImageHDU(flux.astype(np.float32), header, name="FLUX"),
            fits.ImageHDU(ivar.astype(np.float32), name="IVAR"),
            fits.ImageHDU(mask, name="MASK"),
            fits.ImageHDU(WAVE, name="WAVE"),
        ]
    )


def write_gzipped(hdus: fits.HDUList, path: Path) -> Path:
    """Writes HDUs as .fits.gz, in a fifth of the time that zlib takes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with igzip.open(path, "wb", compresslevel=1) as file:
        hdus.writeto(file)
    return path


def write_drpall(
    root: Path,
    rows: list[tuple[str, str, float]],
    quality: dict[str, int] | None = None,
    columns: dict[str, list[float]] | None = None,
) -> None:
    """Writes drpall.fits with rows of (plateifu, mangaid, z), quality bits by plateifu, and other columns."""
    table = Table(
        {
            "plateifu": [row[0] for row in rows],
            "mangaid": [row[1] for row in rows],
            "objra": np.full(len(rows), 180.0),
            "objdec": np.full(len(rows), 10.0),
            "nsa_z": [row[2] for row in rows],
            "drp3qual": np.array([(quality or {}).get(row[0], 0) for row in rows], dtype=np.int32),
        }
        | (columns or {})
    )
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(table, name="MANGA")]).writeto(root / "drpall.fits")


def write_survey(root: Path, redshifts: dict[str, float], **cube: float) -> Path:
    """A survey of one cube a plateifu; the mangaid of `1-2` is `7-1-2`."""
    for seed, (plateifu, z) in enumerate(redshifts.items()):
        hdus = cube_hdus(z, seed=seed, **cube)  # type: ignore[arg-type]
        write_gzipped(hdus, root / plateifu.split("-")[0] / "stack" / f"manga-{plateifu}-LOGCUBE.fits.gz")
    write_drpall(root, [(plateifu, f"7-{plateifu}", z) for plateifu, z in redshifts.items()])
    return root
