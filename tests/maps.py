"""Small MAPS files in the DAP's layout, with the channels of DR17 or of whatever release, for tests."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits

from cubeprep.lines import DAP_DR17_LINES, SPEED_OF_LIGHT_KMS
from cubeprep.masks import DAPPIXMASK
from tests.logcube import write_gzipped

DR17_CHANNELS = tuple(line.name for line in DAP_DR17_LINES)
BAD = 1 << DAPPIXMASK["DONOTUSE"]


def image(name: str, data: np.ndarray, channels: Sequence[str] = (), unit: str = "") -> fits.ImageHDU:
    """One map, or one a channel, with the names of the channels in C01, C02, ..."""
    cards = {f"C{i:02d}": channel for i, channel in enumerate(channels, start=1)} | {"BUNIT": unit, "PC2_2": 0.5 / 3600}
    return fits.ImageHDU(data, fits.Header(cards), name=name)


def with_errors(name: str, data: np.ndarray, bad: np.ndarray, channels: Sequence[str] = (), unit: str = "") -> list:
    """A map, its inverse variance and its mask; what is masked holds nonsense, as real files do."""
    values = np.where(bad, 1e4, data).astype(np.float32)
    ivar = np.where(bad, 0, 1 / (0.05 * np.abs(data) + 0.1) ** 2).astype(np.float32)
    return [
        image(name, values, channels, unit),
        image(f"{name}_IVAR", ivar, channels),
        image(f"{name}_MASK", np.where(bad, BAD, 0).astype(np.int32), channels),
    ]


def maps_hdus(
    velocity_kms: np.ndarray,
    bad: np.ndarray,
    *,
    z: float,
    plateifu: str = "8000-1",
    channels: Sequence[str] = DR17_CHANNELS,
    seed: int = 0,
) -> fits.HDUList:
    """MAPS of a galaxy whose lines all move with `velocity_kms` [y, x], its stars a tenth slower; `bad` is masked."""
    rng = np.random.default_rng(seed)
    shape = (len(channels), *velocity_kms.shape)
    unit = "1E-17 erg/s/cm^2/spaxel"
    summed, fitted = (rng.uniform(-1, 9, shape), rng.uniform(0, 9, shape))
    nothing = np.broadcast_to(bad, shape)
    hdus = [
        fits.PrimaryHDU(header=fits.Header({"PLATEIFU": plateifu, "MANGAID": f"7-{plateifu}", "DRP3QUAL": 0})),
        image("SPX_SKYCOO", rng.normal(size=(2, *velocity_kms.shape))),
        *with_errors("STELLAR_VEL", 0.9 * velocity_kms, bad, unit="km/s"),
        *with_errors("EMLINE_SFLUX", summed, nothing, channels, unit),
        *with_errors("EMLINE_GFLUX", fitted, nothing, channels, unit),
        *with_errors("EMLINE_GVEL", np.broadcast_to(velocity_kms, shape), nothing, channels, "km/s"),
        *with_errors("EMLINE_GSIGMA", np.full(shape, 70.0), nothing, channels, "km/s"),
    ]
    hdus[0].header["SCINPVEL"] = z * SPEED_OF_LIGHT_KMS
    hdus[0].header["DAPQUAL"] = 0
    return fits.HDUList(hdus)


def write_maps(root: Path, hdus: fits.HDUList, kind: str = "HYB10-MILESHC-MASTARSSP") -> Path:
    """Writes MAPS under the name that its header asks for."""
    return write_gzipped(hdus, root / f"manga-{hdus[0].header['PLATEIFU']}-MAPS-{kind}.fits.gz")
