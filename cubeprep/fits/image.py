"""Headers of FITS images: their shape, their size in the file, and what their numbers mean."""

import math

import numpy as np
from astropy.io.fits import Header

from cubeprep.cube import Rejected
from cubeprep.fits.cards import float_card, text_card

BLOCK = 2880
DTYPES = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
# What a header may ask for, checked before memory is: side of an image, and planes of a cube.
LARGEST_SIDE, MOST_PLANES, MOST_AXES = 20_000, 200_000, 32
COMPRESSED = "ZIMAGE"


def hdu_name(header: Header) -> str:
    """The name of an HDU, in capitals; empty where it has none."""
    return str(header.get("EXTNAME") or "").strip().upper()


def cube_axes(header: Header, path: str) -> tuple[int, int, int]:
    """Numbers of the axes x, y and planes; an axis of length one beyond three is none.

    Raises:
        Rejected: it is no image of three axes.
    """
    count = header.get("NAXIS")
    is_image = text_card(header, "XTENSION", "IMAGE") == "IMAGE"
    numbers = list(range(1, count + 1)) if isinstance(count, int) and is_image else []
    for number in reversed(numbers):
        if len(numbers) > 3 and header.get(f"NAXIS{number}") == 1:
            numbers.remove(number)
    if len(numbers) != 3:
        lengths = [header.get(f"NAXIS{number}") for number in reversed(numbers)]
        name = header.get("EXTNAME", "PRIMARY")
        raise Rejected("bad_shape", f"{path}: {name} is no image of three axes ({header.get('XTENSION')}, {lengths})")
    return numbers[0], numbers[1], numbers[2]


def image_shape(header: Header, path: str) -> tuple[int, int, int]:
    """(planes, y, x) of an image with three axes.

    Raises:
        Rejected: it is no such image, or larger than any.
    """
    shape = []
    for number, most in zip(reversed(cube_axes(header, path)), (MOST_PLANES, LARGEST_SIDE, LARGEST_SIDE), strict=True):
        length = header.get(f"NAXIS{number}")
        if not isinstance(length, int) or not 1 <= length <= most:
            raise Rejected("bad_shape", f"{path}: NAXIS{number} = {length!r}, expected 1 to {most}")
        shape.append(length)
    return shape[0], shape[1], shape[2]


def dtype_of(header: Header, path: str) -> np.dtype:
    """The type of an image's numbers, in the byte order of FITS.

    Raises:
        Rejected: BITPIX is none.
    """
    bits = header.get("BITPIX")
    if bits not in DTYPES:
        raise Rejected("unreadable", f"{path}: BITPIX = {bits!r}, expected one of {', '.join(map(str, DTYPES))}")
    return np.dtype(DTYPES[bits])


def scaling_of(header: Header, path: str) -> tuple[float, float, int | None]:
    """BSCALE, BZERO and BLANK; BLANK has a meaning for integers alone.

    Raises:
        Rejected: one of them is no number, or BSCALE is 0.
    """
    scale = float_card(header, "BSCALE", path, default=1, code="bad_scale")
    zero = float_card(header, "BZERO", path, default=0, code="bad_scale")
    if scale == 0:
        raise Rejected("bad_scale", f"{path}: BSCALE = 0, expected another number")
    blank = header.get("BLANK") if header["BITPIX"] > 0 else None
    if blank is not None and (isinstance(blank, bool) or not isinstance(blank, int)):
        raise Rejected("bad_scale", f"{path}: BLANK = {blank!r}, expected an integer")
    return scale, zero, blank


def scaled(values: np.ndarray, scale: float, zero: float, blank: int | None) -> np.ndarray:
    """Values as they are meant: unsigned integers as such, scaled ones as float64, NaN where they are BLANK."""
    empty = None if blank is None else values == blank
    if scale == 1 and zero and values.dtype.kind in "iu" and zero == _sign_bit(values.dtype):
        values = (values ^ values.dtype.type(-zero)).view(_other_sign(values.dtype))
    elif (scale, zero) != (1, 0):
        values = values * scale + zero
    if empty is None or not empty.any():
        return values
    return np.where(empty, np.nan, values)


def _sign_bit(dtype: np.dtype) -> float:
    """BZERO of integers whose sign is the other one: FITS has no unsigned ones above, and no signed ones of 8 bits."""
    return -128.0 if dtype.kind == "u" else 2.0 ** (8 * dtype.itemsize - 1)


def _other_sign(dtype: np.dtype) -> np.dtype:
    return np.dtype(f"{'i' if dtype.kind == 'u' else 'u'}{dtype.itemsize}")


def image_header(header: Header) -> Header:
    """The header of the image that a table of compressed tiles stands for."""
    shown = header.copy()
    shown["XTENSION"], shown["BITPIX"], shown["NAXIS"] = "IMAGE", header["ZBITPIX"], header["ZNAXIS"]
    for number in range(1, int(header["ZNAXIS"]) + 1):
        shown[f"NAXIS{number}"] = header[f"ZNAXIS{number}"]
    return shown


def data_bytes(header: Header) -> int:
    """Bytes of an HDU's data, a table's heap included.

    Raises:
        KeyError, TypeError, ValueError: the header does not say.
    """
    axes = [int(header[f"NAXIS{i}"]) for i in range(1, header["NAXIS"] + 1)]
    counts = [*axes, int(header.get("PCOUNT", 0)), int(header.get("GCOUNT", 1))]
    if min(counts) < 0 or len(axes) > MOST_AXES:
        raise ValueError(f"NAXIS {axes}, PCOUNT {counts[-2]}, GCOUNT {counts[-1]}")
    elements = math.prod(axes) if axes else 0
    return abs(header["BITPIX"]) // 8 * counts[-1] * (counts[-2] + elements)


def padded(count: int) -> int:
    """Bytes up to the next header."""
    return -(-count // BLOCK) * BLOCK
