"""A cube in a FITS file: fluxes, errors and an optional mask, streamed and converted to the store's unit."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from astropy.io.fits import Header

from cubeprep.cube import Planes, Rejected, screened
from cubeprep.fits.cards import check_once, text_card
from cubeprep.fits.image import COMPRESSED, hdu_name, image_shape
from cubeprep.fits.stream import FitsStream, Watch, open_at, read_cube
from cubeprep.fits.units import NoiseKind, flux_unit, inverse_variance, noise_unit
from cubeprep.fits.wcs import AIR, VACUUM, placed_sky, read_axes
from cubeprep.geometry import outside
from cubeprep.lines import SPEED_OF_LIGHT_KMS
from cubeprep.plausible import MIN_PAIRS, SCATTER
from cubeprep.stars.blocks import BlockSums
from cubeprep.stars.templates import FWHM

ANY_BIT = -1
SCATTER_PAIRS = 40  # pairs of neighbouring planes that tell sigmas from variances
MOST_SHIFT = 0.1  # planes, of the wavelengths of the header from those of their own HDU
BYTES_A_SAMPLE = 9  # of fluxes, errors and mask
CGS = 1e6  # above this factor, as in units of erg/s/cm2, a variance is too small for float32


@dataclass(frozen=True)
class CubeLayout:
    """Layout of a survey's cubes.

    Attributes:
        flux, noise: names of the HDUs of fluxes and errors; `PRIMARY` is the first HDU.
        kind: kind of the errors if their HDU has no unit.
        mask: name of the HDU of mask bits; empty if the survey has none.
        mask_optional: whether a cube may lack the mask.
        bad_bits: bits that mask a voxel; `ANY_BIT` for all.
        wave_types: accepted values of CTYPE3.
        air_types: those of `wave_types` that stand for wavelengths in air.
        wave: name of the HDU of [plane] wavelengths, with which those of the header are compared; empty if the survey
            has none.
        lsf_fwhm: coefficients of a polynomial, lowest order first: FWHM of the line-spread function at an observed
            wavelength, both in Angstrom. Empty if it is MaNGA's, or unknown.
    """

    flux: str
    noise: str
    kind: NoiseKind
    mask: str = ""
    mask_optional: bool = False
    bad_bits: int = ANY_BIT
    wave_types: Collection[str] = (*VACUUM, *AIR)
    air_types: Collection[str] = AIR
    wave: str = ""
    lsf_fwhm: tuple[float, ...] = ()


class CubeFile:
    """An open cube, which is an `Arm`. It is read as a stream, so `read` can be called once.

    Attributes:
        primary: header of the first HDU.
        reads_to_end: whether `read` goes on to the end of a gzip file, where its checksum is.
        remarks: what its reader knows of it, for the remarks of the planes.
    """

    reads_to_end = True
    remarks: tuple[str, ...] = ()

    def __init__(self, path: str, layout: CubeLayout) -> None:
        """Opens a file and reads the header of the fluxes.

        Raises:
            Rejected: the file is missing or damaged, lacks the HDU, or its wavelengths or unit are not understood.
        """
        self._layout = layout
        self._stream, self._header = open_at(path, layout.flux)
        try:
            if layout.flux == "PRIMARY":
                self._header = primary_image(self._stream, self._header)
            self.primary = self._stream.primary
            axes = read_axes(self._header, path, kinds=layout.wave_types, air=layout.air_types, primary=self.primary)
            self._unit = flux_unit(self._header, path, spaxel_arcsec=axes.spaxel_arcsec)
            self.wave, self.spaxel_arcsec = axes.wave, axes.spaxel_arcsec
            self.shape = image_shape(self._header, path)[1:]
        except Rejected:
            self._stream.close()
            raise

    @property
    def lsf_sigma_kms(self) -> np.ndarray | None:
        """Resolution (sigma) at each plane, [plane], km/s; None if the survey's layout does not give it."""
        if not self._layout.lsf_fwhm:
            return None
        fwhm = np.polynomial.Polynomial(self._layout.lsf_fwhm)(self.wave)
        sigma: np.ndarray = SPEED_OF_LIGHT_KMS * fwhm / self.wave / FWHM
        return sigma

    def sky(self, size: int | None) -> dict[str, str | float]:
        """Cards of the celestial axes of the planes that `read` returns; see `fits.wcs.placed_sky`."""
        return placed_sky(self._header, self.shape, size)

    def read(self, planes: np.ndarray, size: int | None) -> Planes:
        """Planes of the cube; see `cubeprep.cube.Arm`."""
        return self._read(planes, size, None)

    def read_summed(self, planes: np.ndarray, size: int | None, sums: BlockSums) -> Planes:
        """Planes of the cube; those of `sums` are added to it while the file is read; see `stars.blocks`."""
        side = size or max(self.shape)
        self._stream.check_budget(sums.memory(side) + BYTES_A_SAMPLE * len(planes) * side**2)
        return self._read(planes, size, Watch(sums.planes, partial(self._adder, sums)))

    def _read(self, planes: np.ndarray, size: int | None, watch: Watch | None) -> Planes:
        layout, headers = self._layout, dict[str, Header]()
        names = [name for name in (layout.flux, layout.noise, layout.mask) if name]
        optional = [layout.mask] if layout.mask_optional else []
        with self._stream as stream:
            arrays = read_cube(
                stream, self._header, names, planes, size, headers=headers, optional=optional, watch=watch
            )
            if self.reads_to_end or stream.is_cheap_to_finish:
                self._check_wave()
                stream.finish()
            check_once([name.upper() for name in names], stream.passed, stream.path)
            remarks = (*self.remarks, *(remark for name, remark in stream.remarks.items() if name in names))
        flux, noise = (self._floats(values, name) for values, name in zip(arrays[:2], names[:2], strict=True))
        if self._unit.factor > CGS:
            noise = noise.astype(np.float64)
        if text_card(headers.get(layout.mask, Header()), "HDUCLAS3").upper() == "MASKZERO":
            reason = f"HDUCLAS3 = 'MASKZERO' of {layout.mask} marks bad voxels by 0, expected 0 for good ones"
            raise Rejected("bad_card", f"{stream.path}: {reason}")
        bad = self._bad(arrays[2]) if layout.mask else np.zeros((1, 1, 1), dtype=bool)
        del arrays  # the largest arrays of a worker: free them early
        kind, factor, copied = self._noise_kind(headers[layout.noise])
        if copied:
            kind = kind_by_scatter(flux, noise, planes)
            said = f"{layout.noise}: has the unit of {layout.flux}"
            if kind == "variance":
                remarks += (f"{said}; by their scatter its values are variances",)
            elif watch:
                remarks += (f"{said}, and holds sigmas; the fit of the stars took them for variances",)
        ivar = inverse_variance(noise, kind, factor)
        del noise
        scale = self._unit.scale(self.wave[planes])
        flux, ivar = _times(flux, scale), _times(ivar, 1 / scale**2)
        return replace(screened(flux, ivar, bad, outside(self.shape, size), self.spaxel_arcsec), remarks=remarks)

    def _noise_kind(self, header: Header) -> tuple[NoiseKind, float, bool]:
        """Kind of the errors by their header, their factor to the store's unit, and whether the header may be a copy.

        Variances whose unit is that of the fluxes are found in MUSE cubes: the unit then says nothing.
        """
        layout, text = self._layout, text_card(self._header, "BUNIT")
        kind, factor = noise_unit(header, self._unit, text, self._stream.path, kind=layout.kind)
        return kind, factor, text_card(header, "BUNIT") == text and (kind, layout.kind) == ("sigma", "variance")

    def _check_wave(self) -> None:
        """Compares first and last wavelength and the number of them with the HDU of wavelengths, if one follows.

        Programs that cut a cube may cut that HDU with it, and leave CRVAL3 as it was.

        Raises:
            Rejected: they differ, or the file is damaged before them.
        """
        name, stream = self._layout.wave, self._stream
        if not name or name in stream.passed:  # before the fluxes: it is not worth a second pass
            return
        stream.skip_data()
        header = next((header for header in stream.hdus() if stream.passed[-1] == name), None)
        if header is None or header["NAXIS"] != 1 or header.get(COMPRESSED):
            return
        count = header["NAXIS1"]
        header["NAXIS"], header["NAXIS1"], header["NAXIS2"], header["NAXIS3"] = 3, 1, 1, count
        ends = stream.read_planes(header, np.unique([0, count - 1]), None).ravel()
        steps = np.diff(self.wave)[[0, -1]]
        if count != len(self.wave) or not (np.abs(ends - self.wave[[0, -1]]) <= MOST_SHIFT * steps).all():
            expected, found = (f"{v[0]:.2f} to {v[-1]:.2f} Angstrom" for v in (self.wave, ends))
            reason = f"{name} has {count} wavelengths, {found}, expected {len(self.wave)}, {expected}"
            raise Rejected("bad_wave", f"{stream.path}: {reason}, as by CRVAL3 of {self._layout.flux}")

    def _adder(self, sums: BlockSums, header: Header) -> Callable[[np.ndarray, np.ndarray], None]:
        """Function that adds planes of one of the HDUs to sums over blocks, in the store's unit."""
        layout, unit = self._layout, self._unit
        if header is self._header:
            return lambda index, values: sums.add_flux(
                index, _product(self._floats(values, layout.flux), unit.scale(self.wave[index]))
            )
        if hdu_name(header) != layout.noise.upper():
            return lambda index, values: sums.add_bad(index, self._bad(values.copy()))
        kind, factor, copied = self._noise_kind(header)
        if copied:
            kind = layout.kind

        def add_ivar(index: np.ndarray, values: np.ndarray) -> None:
            noise = self._floats(values, layout.noise).astype(
                np.float64 if unit.factor > CGS else np.float32, copy=False
            )
            sums.add_ivar(index, _product(inverse_variance(noise, kind, factor), 1 / unit.scale(self.wave[index]) ** 2))

        return add_ivar

    def _floats(self, values: np.ndarray, name: str) -> np.ndarray:
        """Values as floats, since fluxes and errors may be stored as integers."""
        return values if values.dtype.kind == "f" else values.astype(np.float32)

    def _bad(self, mask: np.ndarray) -> np.ndarray:
        """Whether one of the layout's bad bits is set, [plane, y, x] bool."""
        bits = self._layout.bad_bits
        if bits == ANY_BIT:
            return mask != 0
        if mask.dtype.kind not in "iu":
            raise Rejected("bad_shape", f"{self._stream.path}: {self._layout.mask} holds {mask.dtype}, not integers")
        largest = int(np.iinfo(mask.dtype).max)
        np.bitwise_and(mask, mask.dtype.type(bits & largest), out=mask)
        return mask != 0


def primary_image(stream: FitsStream, header: Header) -> Header:
    """Header of the primary image, to whose data the stream is moved: if tile-compressed, it follows an empty HDU.

    Args:
        stream: open file, positioned at the data of the first HDU.
        header: of that HDU; it is returned where no compressed image follows.
    """
    if header.get("NAXIS"):
        return header
    stream.skip_data()
    packed = next(stream.hdus(), None)
    if packed is None or not packed.get(COMPRESSED):
        return header
    stream.primary, stream.passed[:] = packed, ["", "PRIMARY"]
    return packed


def kind_by_scatter(flux: np.ndarray, noise: np.ndarray, planes: np.ndarray) -> NoiseKind:
    """Kind of errors with the unit of the fluxes: sigmas, as it says, or variances under a copied header.

    The scatter between neighbouring planes decides: the right kind is nearer to it by ratio.

    Args:
        flux: [plane, y, x], any unit.
        noise: the same shape, in that unit.
        planes: [plane] sorted indices in the cube.
    """
    first = np.flatnonzero(np.diff(planes) == 1)
    first = first[:: 1 + len(first) // SCATTER_PAIRS]
    difference, errors = np.abs(flux[first + 1] - flux[first]), noise[first]
    good = np.isfinite(difference) & np.isfinite(errors) & (errors > 0) & (difference > 0)
    if good.sum() < MIN_PAIRS:
        return "sigma"
    scatter = SCATTER * difference[good].astype(np.float64) / np.sqrt(2)
    as_sigma, as_variance = (abs(np.log(np.median(scatter / errors[good] ** power))) for power in (1, 0.5))
    return "variance" if as_variance < as_sigma else "sigma"


def _product(values: np.ndarray, factor: float | np.ndarray) -> np.ndarray:
    """Product; the values themselves if the factor is 1."""
    return values if isinstance(factor, float) and factor == 1 else values * factor


def _times(values: np.ndarray, factor: float | np.ndarray) -> np.ndarray:
    """Product, computed in place if possible, to save memory."""
    if isinstance(factor, float) and factor == 1:
        return values
    with np.errstate(over="ignore", invalid="ignore"):
        return np.multiply(values, factor, out=values if values.dtype.kind == "f" else None)
