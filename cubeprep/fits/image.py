"""Headers of FITS images: shape, size in the file, data type and scaling."""

import math

import numpy as np
from astropy.io.fits import Header

from cubeprep.cube import Rejected
from cubeprep.fits.cards import float_card, text_card

BLOCK = 2880
DTYPES = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
# Largest side of an image, planes of a cube, and number of axes that a header may state; checked before allocation.
LARGEST_SIDE, MOST_PLANES, MOST_AXES = 20_000, 200_000, 32
COMPRESSED = "ZIMAGE"


def hdu_name(header: Header) -> str:
    """Name of an HDU, in capitals; empty if it has none."""
    return str(header.get("EXTNAME") or "").strip().upper()


def cube_axes(header: Header, path: str) -> tuple[int, int, int]:
    """Numbers of the axes x, y and planes; if there are more than three, axes of length one are ignored.

    Raises:
        Rejected: the HDU is not an image with three axes.
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
    """Shape (planes, y, x) of an image with three axes.

    Raises:
        Rejected: the HDU is not such an image, or states a size beyond the limits.
    """
    shape = []
    for number, most in zip(reversed(cube_axes(header, path)), (MOST_PLANES, LARGEST_SIDE, LARGEST_SIDE), strict=True):
        length = header.get(f"NAXIS{number}")
        if not isinstance(length, int) or not 1 <= length <= most:
            raise Rejected("bad_shape", f"{path}: NAXIS{number} = {length!r}, expected 1 to {most}")
        shape.append(length)
    return shape[0], shape[1], shape[2]


def dtype_of(header: Header, path: str) -> np.dtype:
    """Data type of an image, in the byte order of FITS.

    Raises:
        Rejected: BITPIX is invalid.
    """
    bits = header.get("BITPIX")
    if bits not in DTYPES:
        raise Rejected("unreadable", f"{path}: BITPIX = {bits!r}, expected one of {', '.join(map(str, DTYPES))}")
    return np.dtype(DTYPES[bits])


def scaling_of(header: Header, path: str) -> tuple[float, float, int | None]:
    """BSCALE, BZERO and BLANK of an image; BLANK is None if it is missing or the data are not integers.

    Raises:
        Rejected: BSCALE or BZERO is not a number, BSCALE is 0, or BLANK is not an integer.
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
    """Values with BSCALE, BZERO and BLANK applied: unsigned integers as such, scaled ones as floats, BLANK as NaN."""
    empty = None if blank is None else values == blank
    if scale == 1 and zero and values.dtype.kind in "iu" and zero == _sign_bit(values.dtype):
        values = (values ^ values.dtype.type(-zero)).view(_other_sign(values.dtype))
    elif (scale, zero) != (1, 0):
        values = values * scale + zero
    if empty is None or not empty.any():
        return values
    return np.where(empty, np.nan, values)


def _sign_bit(dtype: np.dtype) -> float:
    """BZERO that marks the other signedness: FITS has no signed integers of 8 bits, and no unsigned longer ones."""
    return -128.0 if dtype.kind == "u" else 2.0 ** (8 * dtype.itemsize - 1)


def _other_sign(dtype: np.dtype) -> np.dtype:
    return np.dtype(f"{'i' if dtype.kind == 'u' else 'u'}{dtype.itemsize}")


def image_header(header: Header) -> Header:
    """Header of the image that is stored as a table of compressed tiles."""
    shown = header.copy()
    shown["XTENSION"], shown["BITPIX"], shown["NAXIS"] = "IMAGE", header["ZBITPIX"], header["ZNAXIS"]
    for number in range(1, int(header["ZNAXIS"]) + 1):
        shown[f"NAXIS{number}"] = header[f"ZNAXIS{number}"]
    return shown


def data_bytes(header: Header) -> int:
    """Size of an HDU's data in bytes, including a table's heap.

    Raises:
        KeyError, TypeError, ValueError: the header lacks a card that gives the size, or the card is invalid.
    """
    axes = [int(header[f"NAXIS{i}"]) for i in range(1, header["NAXIS"] + 1)]
    counts = [*axes, int(header.get("PCOUNT", 0)), int(header.get("GCOUNT", 1))]
    if min(counts) < 0 or len(axes) > MOST_AXES:
        raise ValueError(f"NAXIS {axes}, PCOUNT {counts[-2]}, GCOUNT {counts[-1]}")
    elements = math.prod(axes) if axes else 0
    return abs(header["BITPIX"]) // 8 * counts[-1] * (counts[-2] + elements)


def padded(count: int) -> int:
    """Size in bytes rounded up to whole FITS blocks, where the next header begins."""
    return -(-count // BLOCK) * BLOCK
