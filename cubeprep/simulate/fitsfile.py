"""Writes FITS files piece by piece, completely or not at all, and byte for byte reproducibly.

astropy verifies the files (tests) but does not write them: its headers would take most of the time for a MAPS file,
which has a hundred extensions.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from isal import igzip

from cubeprep.files import replacing

_BLOCK = 2880
_CARD = 80

# numpy's big-endian types for the formats of FITS tables.
_TABLE_TYPES = {"J": ">i4", "E": ">f4", "D": ">f8"}

# A value, or a pair of value and comment, by keyword.
Cards = Mapping[str, Any]


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yields a file that gets its name only after it has been written completely."""
    with replacing(path) as partial, partial.open("wb") as file:
        yield file


@contextmanager
def whole_gzip(path: Path) -> Iterator[Any]:
    """Yields a gzip-compressed file that gets its name only after it has been written completely.

    The gzip header contains neither name nor time.
    """
    # Level 1 of isal: on noise, higher levels gain less than 1%.
    with whole_file(path) as raw, igzip.IGzipFile("", "wb", 1, raw, mtime=0) as file:
        yield file


def write_primary(file: Any, cards: Iterable[tuple[Any, ...]]) -> None:
    """Writes a primary HDU without data.

    Args:
        file: binary file, open for writing.
        cards: tuples (keyword, value) or (keyword, value, comment).

    Raises:
        ValueError: a value does not fit in a card.
    """
    start = {
        "SIMPLE": (True, "conforms to FITS standard"),
        "BITPIX": (8, "array data type"),
        "NAXIS": (0, "number of array dimensions"),
        "EXTEND": True,
    }
    _write(file, {**start, **{key: tuple(rest) if len(rest) > 1 else rest[0] for key, *rest in cards}}, ())


def write_image(file: Any, name: str, image: np.ndarray, cards: Cards | None = None) -> None:
    """Writes an array as an image extension of the same precision."""
    bits = 8 * image.dtype.itemsize * (-1 if image.dtype.kind == "f" else 1)
    big_endian = image.astype(image.dtype.newbyteorder(">"))
    write_planes(file, name, bits, image.shape, [big_endian.tobytes()], cards or {})


def write_planes(
    file: Any, name: str, bitpix: int, shape: tuple[int, ...], chunks: Iterable[bytes], cards: Cards
) -> None:
    """Writes an image extension from chunks of big-endian data.

    Args:
        file: binary file, open for writing.
        name: EXTNAME.
        bitpix: FITS type of the data.
        shape: shape of the array, slowest axis first.
        chunks: the data in order.
        cards: further cards.
    """
    header = {
        "XTENSION": ("IMAGE", "Image extension"),
        "BITPIX": (bitpix, "array data type"),
        "NAXIS": (len(shape), "number of array dimensions"),
        **{f"NAXIS{index}": length for index, length in enumerate(reversed(shape), start=1)},
        "PCOUNT": (0, "number of parameters"),
        "GCOUNT": (1, "number of groups"),
        **cards,
        "EXTNAME": (name, "extension name"),
    }
    _write(file, header, chunks)


def write_table(file: Any, name: str, columns: Mapping[str, tuple[str, str, Any]], cards: Cards | None = None) -> None:
    """Writes a binary table; `columns` holds the FITS format, unit and values of each column."""
    types = [(key, _TABLE_TYPES.get(form, f"S{form[:-1]}")) for key, (form, _, _) in columns.items()]
    table = np.zeros(len(next(iter(columns.values()))[2]), dtype=types)
    described: dict[str, Any] = {}
    for number, (key, (form, unit, values)) in enumerate(columns.items(), start=1):
        table[key] = values
        described |= {f"TTYPE{number}": key, f"TFORM{number}": form}
        described |= {f"TUNIT{number}": unit} if unit else {}
    header = {
        "XTENSION": ("BINTABLE", "binary table extension"),
        "BITPIX": (8, "array data type"),
        "NAXIS": (2, "number of array dimensions"),
        "NAXIS1": table.dtype.itemsize,
        "NAXIS2": len(table),
        "PCOUNT": (0, "number of parameters"),
        "GCOUNT": (1, "number of groups"),
        "TFIELDS": len(columns),
        **described,
        **(cards or {}),
        "EXTNAME": (name, "extension name"),
    }
    _write(file, header, [table.tobytes()])


def _write(file: Any, cards: Cards, chunks: Iterable[bytes]) -> None:
    """Writes a header and its data, each padded to a multiple of the FITS block."""
    text = "".join(_card(key, *(value if isinstance(value, tuple) else (value,))) for key, value in cards.items())
    text += "END".ljust(_CARD)
    file.write(text.encode("ascii").ljust(-(-len(text) // _BLOCK) * _BLOCK))
    written = 0
    for chunk in chunks:
        file.write(chunk)
        written += len(chunk)
    file.write(b"\0" * (-written % _BLOCK))


def _card(key: str, value: Any, comment: str = "") -> str:
    """Card of 80 characters in fixed format; a comment that is too long is truncated."""
    if isinstance(value, bool):
        text = ("T" if value else "F").rjust(20)
    elif isinstance(value, str):
        text = ("'" + value.replace("'", "''").ljust(8) + "'").ljust(20)
    elif isinstance(value, int | np.integer):
        text = str(int(value)).rjust(20)
    else:
        text = repr(float(value)).upper().rjust(20)
    card = f"{key:8}= {text}"
    if len(card) > _CARD:
        raise ValueError(f"{key} = {value!r} does not fit in a FITS card of {_CARD} characters")
    return (f"{card} / {comment}" if comment else card)[:_CARD].ljust(_CARD)
