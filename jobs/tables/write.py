"""Writes the catalog as a FITS table and a VOTable, with units, descriptions and UCDs."""

import io
import unicodedata
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cubeprep.storage import write_file
from jobs.tables.survey_links import with_links
from jobs.tables.ucds import ucd_of
from modeling.catalog import Catalog, read_catalog

FORMATS = {"fits": ".fits", "votable": ".vot"}


VOTABLE_VERSION = "1.4"


# Parts of the provenance that only `reproduce` and `assess` read.
CALIBRATION = ("judges", "by_redshift")


def write_exports(catalog_path: Path, survey: str, formats: tuple[str, ...] = tuple(FORMATS)) -> list[Path]:
    """Writes a catalog in other formats beside it, each file atomically, and returns their paths.

    Args:
        catalog_path: the Parquet file.
        survey: name from `survey_links.survey_name`, for links that catalogs of earlier versions lack.
        formats: keys of `FORMATS`.

    Raises:
        CatalogError: there is no catalog at that path.
        ValueError: a column has an invalid unit.
    """
    table = to_astropy(read_catalog(catalog_path), survey)
    paths = [catalog_path.with_suffix(FORMATS[name]) for name in formats]
    for name, path in zip(formats, paths, strict=True):
        write_file(str(path), {"fits": fits_bytes, "votable": votable_bytes}[name](table))
    return paths


def to_astropy(catalog: Catalog, survey: str) -> Any:
    """The catalog as an astropy table with units, descriptions, and a UCD in each column's `info.meta`."""
    from astropy.table import Column as TableColumn
    from astropy.table import Table

    frame, columns = with_links(catalog.table, catalog.columns, survey)
    table = Table(meta={"name": "cubescout", "provenance": flat(_without_calibration(catalog.provenance))})
    for name in map(str, frame):
        found = columns[name]
        table[_ascii_name(name, table.colnames)] = TableColumn(
            _values(frame[name]),
            description=found.description,
            unit=unit_of(name, found.unit),
            meta={"ucd": ucd_of(name)},
        )
    return table


def _without_calibration(provenance: dict[str, Any]) -> dict[str, Any]:
    """Provenance for a header; the calibration has thousands of numbers and stays in the Parquet file."""
    return {key: value for key, value in provenance.items() if key not in CALIBRATION}


def fits_bytes(table: Any) -> bytes:
    """FITS file with one table; descriptions and UCDs are in TCOMMn and TUCDn, as TOPCAT reads them."""
    from astropy.io import fits

    plain = table.copy(copy_data=False)
    for column in plain.itercols():
        column.info.meta, column.info.description = None, None
    plain.meta.clear()
    hdu = fits.table_to_hdu(plain)
    hdu.name = "CATALOG"
    for i, column in enumerate(table.itercols(), start=1):
        hdu.header[f"TCOMM{i}"] = ascii_text(column.info.description)
        if ucd := column.info.meta["ucd"]:
            hdu.header[f"TUCD{i}"] = ucd
    hdu.header["RADESYS"] = ("ICRS", "of ra_deg and dec_deg")
    for key, value in table.meta["provenance"].items():
        hdu.header.add_history(ascii_text(f"{key} = {value}"))
    buffer = io.BytesIO()
    with warnings.catch_warnings():  # long descriptions use CONTINUE cards, as the standard allows
        warnings.simplefilter("ignore", fits.verify.VerifyWarning)
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer, checksum=True)
    return buffer.getvalue()


def votable_bytes(table: Any) -> bytes:
    """VOTable (IVOA 1.4, BINARY2) with the coordinate frame and the provenance as INFO."""
    from astropy.io.votable import from_table
    from astropy.io.votable.tree import CooSys, Info
    from astropy.units import UnitsWarning

    with warnings.catch_warnings():
        # VOUnit deprecates erg and Angstrom, but they are valid and familiar to astronomers.
        warnings.simplefilter("ignore", UnitsWarning)
        file = from_table(table[table.colnames])
        file.version = VOTABLE_VERSION
        resource = file.resources[0]
        resource.coordinate_systems.append(CooSys(ID="icrs", system="ICRS"))
        resource.infos.extend(
            Info(name=key, value=str(value)) for key, value in table.meta["provenance"].items() if value is not None
        )
        tree = resource.tables[0]
        tree.name, tree.description = "cubescout", "Galaxies of an integral-field survey, most unusual first"
        for field in tree.fields:
            if field.datatype == "bit":  # as astropy writes booleans, which TOPCAT cannot read
                field.datatype = "boolean"
            field.ucd = table[field.name].info.meta["ucd"] or None
            if (field.ucd or "").startswith("pos.eq."):
                field.ref = "icrs"
        buffer = io.BytesIO()
        file.to_xml(buffer, tabledata_format="binary2")
    return buffer.getvalue()


def unit_of(name: str, text: str) -> Any:
    """Unit of a column.

    Raises:
        ValueError: the text is not a valid unit.
    """
    from astropy.units import Unit, UnitsWarning

    if not text:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnitsWarning)
            return Unit(text.replace("spaxel", "pix"))
    except ValueError as error:
        raise ValueError(f"column {name}: {text!r} is not a valid unit: {error}") from error


def _values(column: pd.Series) -> np.ndarray:
    """A column in types that FITS and VOTable support: numbers, booleans, ASCII text, or arrays of one length."""
    first = column.iloc[0] if len(column) else ""
    if isinstance(first, (list, tuple, np.ndarray)):
        rows = [np.asarray(row) for row in column]
        kinds, lengths = {row.dtype.kind for row in rows}, {len(row) for row in rows}
        if kinds <= set("bif") and len(lengths) == 1 and lengths != {0}:
            return np.stack(rows)
        column = pd.Series([" ".join(map(str, row)) for row in rows])
    if column.dtype.kind == "u":
        column = pd.Series(signed(column.to_numpy()))
    if column.dtype.kind in "bif":
        return column.to_numpy()
    texts = [ascii_text("" if value is None or value != value else value) for value in column]
    return np.array(texts, dtype=f"S{max([2, *map(len, texts)])}")  # VOTable has no arrays of a single character


def signed(values: np.ndarray) -> np.ndarray:
    """Unsigned integers as int64, or as text if one is too large for that: VOTable has no unsigned integers."""
    if len(values) and values.max() > np.iinfo(np.int64).max:
        return values.astype(str).astype(object)
    return values.astype(np.int64)


def _ascii_name(name: str, taken: Sequence[str]) -> str:
    """Name of a column for FITS and VOTable, none of those `taken`: without accents, and _ for what is not ASCII."""
    letters = (letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))
    found = "".join(letter if letter.isascii() else "_" for letter in letters)
    while found in taken:
        found += "_"
    return found


def ascii_text(value: Any) -> str:
    """Value as text of ASCII alone, with escapes for other letters."""
    return str(value).replace("±", "+/-").encode("ascii", "backslashreplace").decode()


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values as a flat mapping with dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found
