"""FITS files written piece by piece, whole or not at all, the same bytes each time."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from astropy.io import fits
from isal import igzip

_BLOCK = 2880


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its name only once all is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        yield file
    part.replace(path)


@contextmanager
def whole_gzip(path: Path) -> Iterator[Any]:
    """The same, compressed; the gzip header has neither name nor time."""
    # Level 1 of isal: higher ones gain under 1% on noise.
    with whole_file(path) as raw, igzip.IGzipFile("", "wb", 1, raw, mtime=0) as file:
        yield file


def write_hdu(file: Any, header: fits.Header, chunks: Iterable[bytes] = ()) -> None:
    """Writes a header and its data, padded to FITS blocks."""
    file.write(header.tostring(sep="", endcard=True, padding=True).encode("ascii"))
    written = 0
    for chunk in chunks:
        file.write(chunk)
        written += len(chunk)
    file.write(b"\0" * (-written % _BLOCK))


def write_image(file: Any, name: str, image: np.ndarray, cards: dict[str, Any] | None = None) -> None:
    """Writes an array as an image extension, in its own precision."""
    big_endian = image.astype(image.dtype.newbyteorder(">"))
    bits = 8 * image.dtype.itemsize * (-1 if image.dtype.kind == "f" else 1)
    header = image_header(name, bits, image.shape)
    header.update(cards or {})
    write_hdu(file, header, [big_endian.tobytes()])


def write_table(file: Any, name: str, columns: dict[str, tuple[str, str, Any]], cards: dict[str, Any]) -> None:
    """Writes a binary table from format, unit and values of each column."""
    fits_columns = [
        fits.Column(name=key, format=form, unit=unit or None, array=np.array(values))
        for key, (form, unit, values) in columns.items()
    ]
    table = fits.BinTableHDU.from_columns(fits_columns, name=name)
    table.header.update(cards)
    write_hdu(file, table.header, [table.data.tobytes()])


def primary_header(cards: Iterable[tuple[Any, ...]]) -> fits.Header:
    """The header of a primary HDU without data."""
    return fits.Header(
        [
            ("SIMPLE", True, "conforms to FITS standard"),
            ("BITPIX", 8, "array data type"),
            ("NAXIS", 0, "number of array dimensions"),
            ("EXTEND", True),
            *cards,
        ]
    )


def image_header(name: str, bitpix: int, shape: tuple[int, ...]) -> fits.Header:
    """The header of an image extension."""
    axes = [(f"NAXIS{index}", length) for index, length in enumerate(reversed(shape), start=1)]
    return fits.Header(
        [
            ("XTENSION", "IMAGE", "Image extension"),
            ("BITPIX", bitpix, "array data type"),
            ("NAXIS", len(shape), "number of array dimensions"),
            *axes,
            ("PCOUNT", 0, "number of parameters"),
            ("GCOUNT", 1, "number of groups"),
            ("EXTNAME", name, "extension name"),
        ]
    )
