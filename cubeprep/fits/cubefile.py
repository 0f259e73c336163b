"""A cube in a FITS file: fluxes, errors and, where there, a mask; streamed, and brought to the store's unit."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from astropy.io.fits import Header

from cubeprep.cube import Planes, Rejected, screened
from cubeprep.fits.cards import text_card
from cubeprep.fits.image import image_shape
from cubeprep.fits.stream import open_at, read_cube
from cubeprep.fits.units import NoiseKind, flux_unit, inverse_variance, noise_unit
from cubeprep.fits.wcs import AIR, VACUUM, read_axes
from cubeprep.geometry import outside

ANY_BIT = -1
CGS = 1e6  # in units of erg/s/cm2 and the like, a variance is too small for float32


@dataclass(frozen=True)
class CubeLayout:
    """How a survey lays out its cubes.

    Attributes:
        flux, noise: names of the HDUs; `PRIMARY` is the first.
        kind: of errors whose HDU has no unit.
        mask: name of the HDU of mask bits; empty where there is none.
        mask_optional: whether a cube may lack it.
        bad_bits: bits that mean not to use a voxel.
        wave_types: values of CTYPE3 that are taken.
        air_types: those of them that mean wavelengths in air.
    """

    flux: str
    noise: str
    kind: NoiseKind
    mask: str = ""
    mask_optional: bool = False
    bad_bits: int = ANY_BIT
    wave_types: Collection[str] = (*VACUUM, *AIR)
    air_types: Collection[str] = AIR


class CubeFile:
    """An open cube, an `Arm`; its planes can be read once, since they are read as a stream."""

    def __init__(self, path: str, layout: CubeLayout) -> None:
        """Reads the header of the fluxes.

        Raises:
            Rejected: the file is missing, damaged, has no such HDU, or its wavelengths or unit are not understood.
        """
        self._layout = layout
        self._stream, self._header = open_at(path, layout.flux)
        try:
            axes = read_axes(self._header, path, kinds=layout.wave_types, air=layout.air_types)
            self._unit = flux_unit(self._header, path, spaxel_arcsec=axes.spaxel_arcsec)
            self.wave, self.spaxel_arcsec = axes.wave, axes.spaxel_arcsec
            self.shape = image_shape(self._header, path)[1:]
        except Rejected:
            self._stream.close()
            raise

    def read(self, planes: np.ndarray, size: int | None) -> Planes:
        """See `cubeprep.cube.Arm`."""
        layout, headers = self._layout, dict[str, Header]()
        names = [name for name in (layout.flux, layout.noise, layout.mask) if name]
        optional = [layout.mask] if layout.mask_optional else []
        with self._stream as stream:
            arrays = read_cube(stream, self._header, names, planes, size, headers=headers, optional=optional)
        flux, noise = (self._floats(values, name) for values, name in zip(arrays[:2], names[:2], strict=True))
        if self._unit.factor > CGS:
            noise = noise.astype(np.float64)
        bad = self._bad(arrays[2]) if layout.mask else np.zeros((1, 1, 1), dtype=bool)
        del arrays  # with flux and noise, these are the largest things that a worker holds
        text = text_card(self._header, "BUNIT")
        kind, factor = noise_unit(headers[layout.noise], self._unit, text, stream.path, kind=layout.kind)
        ivar = inverse_variance(noise, kind, factor)
        del noise
        scale = self._unit.scale(self.wave[planes])
        flux, ivar = _times(flux, scale), _times(ivar, 1 / scale**2)
        return screened(flux, ivar, bad, outside(self.shape, size), self.spaxel_arcsec)

    def _floats(self, values: np.ndarray, name: str) -> np.ndarray:
        """Integers as floats; fluxes may be stored as such."""
        return values if values.dtype.kind == "f" else values.astype(np.float32)

    def _bad(self, mask: np.ndarray) -> np.ndarray:
        """[plane, y, x] bool, whether a bit that counts is set."""
        bits = self._layout.bad_bits
        if bits == ANY_BIT:
            return mask != 0
        if mask.dtype.kind not in "iu":
            raise Rejected("bad_shape", f"{self._stream.path}: {self._layout.mask} holds {mask.dtype}, not integers")
        largest = int(np.iinfo(mask.dtype).max)
        np.bitwise_and(mask, mask.dtype.type(bits & largest), out=mask)
        return mask != 0


def _times(values: np.ndarray, factor: float | np.ndarray) -> np.ndarray:
    """The product, in place where it can be."""
    if isinstance(factor, float) and factor == 1:
        return values
    with np.errstate(over="ignore", invalid="ignore"):
        return np.multiply(values, factor, out=values if values.dtype.kind == "f" else None)
