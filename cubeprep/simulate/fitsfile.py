"""FITS files written piece by piece, whole or not at all, the same bytes each time.

astropy reads and checks them (tests), but does not write them: its headers would take most of the time of a MAPS file,
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

# numpy's big-endian types of FITS' table formats.
_TABLE_TYPES = {"J": ">i4", "E": ">f4", "D": ">f8"}

# Values, or pairs of value and comment, by keyword.
Cards = Mapping[str, Any]


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its name only once all is written."""
    with replacing(path) as partial, partial.open("wb") as file:
        yield file


@contextmanager
def whole_gzip(path: Path) -> Iterator[Any]:
    """The same, compressed; the gzip header has neither name nor time."""
    # Level 1 of isal: higher ones gain under 1% on noise.
    with whole_file(path) as raw, igzip.IGzipFile("", "wb", 1, raw, mtime=0) as file:
        yield file


def write_primary(file: Any, cards: Iterable[tuple[Any, ...]]) -> None:
    """Writes a primary HDU without data; `cards` are (keyword, value) or (keyword, value, comment)."""
    start = {
        "SIMPLE": (True, "conforms to FITS standard"),
        "BITPIX": (8, "array data type"),
        "NAXIS": (0, "number of array dimensions"),
        "EXTEND": True,
    }
    _write(file, {**start, **{key: tuple(rest) if len(rest) > 1 else rest[0] for key, *rest in cards}}, ())


def write_image(file: Any, name: str, image: np.ndarray, cards: Cards | None = None) -> None:
    """Writes an array as an image extension, in its own precision."""
    bits = 8 * image.dtype.itemsize * (-1 if image.dtype.kind == "f" else 1)
    big_endian = image.astype(image.dtype.newbyteorder(">"))
    write_planes(file, name, bits, image.shape, [big_endian.tobytes()], cards or {})


def write_planes(
    file: Any, name: str, bitpix: int, shape: tuple[int, ...], chunks: Iterable[bytes], cards: Cards
) -> None:
    """Writes an image extension whose data come in big-endian chunks."""
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
    """Writes a binary table from FITS format, unit and values of each column."""
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
    """Writes a header and its data, each padded to FITS blocks."""
    text = "".join(_card(key, *(value if isinstance(value, tuple) else (value,))) for key, value in cards.items())
    text += "END".ljust(_CARD)
    file.write(text.encode("ascii").ljust(-(-len(text) // _BLOCK) * _BLOCK))
    written = 0
    for chunk in chunks:
        file.write(chunk)
        written += len(chunk)
    file.write(b"\0" * (-written % _BLOCK))


def _card(key: str, value: Any, comment: str = "") -> str:
    """A card in fixed format."""
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
        raise ValueError(f"{key} = {value!r} does not fit in a card")
    return (f"{card} / {comment}" if comment else card)[:_CARD].ljust(_CARD)
