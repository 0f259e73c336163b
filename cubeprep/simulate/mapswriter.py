"""Writes maps as extensions of a MAPS file, with the cards of the real files."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np

from cubeprep.masks import DAPPIXMASK, bits_value
from cubeprep.simulate.cube import Cube
from cubeprep.simulate.fitsfile import write_image
from cubeprep.simulate.footprint import SPAXEL_ARCSEC
from cubeprep.simulate.galaxy import Galaxy
from cubeprep.simulate.target import Target

AUTHOR = "K Westfall & B Andrews <westfall@ucolick.org, andrewsb@pitt.edu>"
# Channels of BINID.
BIN_STAGES = ("Binned spectra", "Stellar continua", "Em. line moments", "Em. line models", "Spectral indices")
_NOTHING = bits_value(["NOCOV", "LOWCOV", "DONOTUSE"], DAPPIXMASK)


class MapsWriter:
    """Writer of the extensions of one MAPS file.

    Attributes:
        file: binary file, open for writing.
        galaxy: the galaxy.
        cube: the observed cube.
        analysed: [covered spaxel] bool, those that were analysed.
        measured: [y, x] bool, the same on the sky.
        mask: [y, x] DAP mask of the spaxels.
        bins: [y, x] int32, number of the bin of each spaxel, which is its only one; -1 where nothing was analysed.
    """

    def __init__(self, file: Any, target: Target, galaxy: Galaxy, cube: Cube, spaxel_mask: np.ndarray) -> None:
        """Takes the open file, the observation, and the DAP mask of its covered spaxels."""
        self.file, self.galaxy, self.cube = file, galaxy, cube
        self.analysed = spaxel_mask == 0
        self.measured = np.zeros(cube.covered.shape, dtype=bool)
        self.measured[cube.covered] = self.analysed
        self.bins = np.full(cube.covered.shape, -1, dtype=np.int32)
        self.bins[self.measured] = np.arange(self.analysed.sum())
        self.mask = np.full(cube.covered.shape, _NOTHING, dtype=np.int32)
        self.mask[cube.covered] = spaxel_mask
        self._wcs = wcs_cards(target, galaxy, cube.covered.shape[0])

    def image(self, values: np.ndarray, dtype: type = np.float32) -> np.ndarray:
        """Images [..., y, x] of values [..., analysed spaxel]; 0 elsewhere and where not finite."""
        image = np.zeros((*values.shape[:-1], *self.measured.shape), dtype=dtype)
        image[..., self.measured] = np.where(np.isfinite(values), values, 0)
        return image

    def write(
        self,
        name: str,
        image: np.ndarray,
        unit: str = "",
        channels: tuple[str, ...] = (),
        units: Sequence[str] = (),
        classes: Mapping[str, str] | None = None,
    ) -> None:
        """Writes one extension.

        Args:
            name: EXTNAME.
            image: [y, x] or [channel, y, x].
            unit: BUNIT, if it is the same for all channels.
            channels: names of the channels.
            units: units of the channels.
            classes: further cards.
        """
        cards = {**self._wcs} if image.ndim == 2 else {**self._wcs, **_THIRD_AXIS}
        cards |= {"WCSAXES": image.ndim, "AUTHOR": AUTHOR, "MASKNAME": "MANGA_DAPPIXMASK"}
        digits = len(str(len(channels)))
        for number, channel in enumerate(channels, start=1):
            cards[f"C{number:0{digits}d}"] = (channel, f"Data in channel {number}")
            if units:
                cards[f"U{number:0{digits}d}"] = (units[number - 1], f"Units of data in channel {number}")
        if unit:
            cards["BUNIT"] = (unit, "Unit of pixel value")
        cards |= {"HDUCLASS": "SDSS", "HDUCLAS1": "CUBE", "HDUCLAS2": "DATA", **(classes or {})}
        write_image(self.file, name, image, cards)

    def write_with_errors(
        self,
        name: str,
        values: np.ndarray,
        ivar: np.ndarray,
        mask: np.ndarray,
        unit: str = "",
        channels: tuple[str, ...] = (),
        units: tuple[str, ...] = (),
        between: tuple[tuple[str, np.ndarray, str], ...] = (),
    ) -> None:
        """Writes NAME, NAME_IVAR and NAME_MASK.

        Args:
            name: EXTNAME of the values.
            values: [..., analysed spaxel].
            ivar: inverse variance, the same shape.
            mask: DAP mask bits, the same shape.
            unit: unit of the values, if it is the same for all channels.
            channels: names of the channels.
            units: units of the channels.
            between: further extensions between values and errors: name, values and unit.
        """
        err, qual = f"{name}_IVAR", f"{name}_MASK"
        inverse, inverses = inverse_unit(unit), tuple(inverse_unit(u) for u in units)
        self.write(name, self.image(values), unit, channels, units, classes={"ERRDATA": err, "QUALDATA": qual})
        for other, image, other_unit in between:
            self.write(other, self.image(image), other_unit, channels)
        self.write(
            err, self.image(ivar), inverse, channels, inverses,
            {"HDUCLAS2": "ERROR", "HDUCLAS3": "INVMSE", "SCIDATA": name, "QUALDATA": qual},
        )  # fmt: skip
        self.write(
            qual, self.full_mask(mask), "", channels,
            classes={"HDUCLAS2": "QUALITY", "HDUCLAS3": "FLAG32BIT", "SCIDATA": name, "ERRDATA": err},
        )  # fmt: skip

    def full_mask(self, mask: np.ndarray) -> np.ndarray:
        """Mask images [..., y, x] from a mask [..., analysed spaxel], combined with the mask of all spaxels."""
        return np.asarray(self.image(mask, np.int32) | self.mask, dtype=np.int32)


_THIRD_AXIS = {"CRPIX3": 1.0, "CDELT3": 1.0, "CRVAL3": 1.0, "CTYPE3": "", "CUNIT3": ""}


def wcs_cards(target: Target, galaxy: Galaxy, size: int) -> dict[str, Any]:
    """WCS cards of the celestial axes, as astropy writes them."""
    day = date(1858, 11, 17) + timedelta(days=target.mjd)
    return {
        "CRPIX1": size // 2 + 1.0, "CRPIX2": size // 2 + 1.0,
        "PC1_1": -SPAXEL_ARCSEC / 3600, "PC2_2": SPAXEL_ARCSEC / 3600, "CDELT1": 1.0, "CDELT2": 1.0,
        "CUNIT1": "deg", "CUNIT2": "deg", "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN",
        "CRVAL1": galaxy.ra_deg, "CRVAL2": galaxy.dec_deg, "LONPOLE": 180.0, "LATPOLE": galaxy.dec_deg,
        "RADESYS": "FK5", "EQUINOX": 2000.0, "MJD-OBS": float(target.mjd), "DATE-OBS": day.isoformat(),
    }  # fmt: skip


def inverse_unit(unit: str) -> str:
    """Unit of the inverse variance of a quantity; empty if the quantity has none."""
    return f"({unit})^{{-2}}" if unit else ""
