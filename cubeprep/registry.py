"""Readers by name: modules of `cubeprep.readers`, entry points of other packages, and `package.module`.

Names are checked without importing the reader, so that loading a configuration is fast and runs no foreign code.
"""

import importlib
import pkgutil
import re
import sys
import traceback
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from cubeprep import readers
from cubeprep.config import ConfigError
from cubeprep.words import closest, suggestion

ENTRY_POINTS = "cubescout.readers"
MEMBERS = ("grid", "facts", "find_targets")


def built_in_readers() -> list[str]:
    """Names of the readers that ship with this package, sorted."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(readers.__path__))


def known_readers() -> list[str]:
    """Names of the built-in readers and of the entry points of installed packages, sorted."""
    return sorted({*built_in_readers(), *(point.name for point in entry_points(group=ENTRY_POINTS))})


def file_patterns() -> dict[str, re.Pattern[str]]:
    """Patterns of file names by built-in reader, without those that fit any FITS file."""
    found = {name: importlib.import_module(_module(name)).FILE_NAME for name in built_in_readers()}
    return {name: pattern for name, pattern in found.items() if not pattern.fullmatch("any.fits")}


def check_reader_name(name: str) -> str:
    """Returns the name of a reader if it is valid.

    Raises:
        ValueError: the reader is unknown, and the name is not a dotted module name.
    """
    is_dotted = "." in name and all(part.isidentifier() for part in name.split("."))
    if is_dotted or name in built_in_readers() or name in known_readers():
        return name
    hint, known = suggestion(closest(name, known_readers())), ", ".join(known_readers())
    raise ValueError(f"no reader {name!r}{hint or ','} known are {known}, or a module as package.module")


def reader_class(name: str) -> Any:
    """Class `Reader` of the named reader.

    Raises:
        ConfigError: there is no such reader, it cannot be imported, or it lacks a required member.
    """
    try:
        found = _load(check_reader_name(name))
    except Exception as error:
        raise ConfigError("survey.reader", [f"{name}: {_why_not_imported(name, error)}"]) from error
    missing = [member for member in MEMBERS if not hasattr(found, member)]
    grid = getattr(found, "grid", "")
    if not missing and not hasattr(found, "read_maps" if grid == "maps" else "open"):
        missing = ["read_maps" if grid == "maps" else "open"]
    if missing:
        raise ConfigError("survey.reader", [f"{name}: {found} lacks {', '.join(missing)}; see docs/new-reader.md"])
    return found


def place_in(reader: Any, error: Exception) -> str:
    """File and line of a reader from outside this package in which an error arose, in words; empty if elsewhere."""
    module = type(reader).__module__
    path = getattr(sys.modules.get(module), "__file__", None)
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    if module.partition(".")[0] == "cubeprep" or not places:
        return ""
    return f" (reader {Path(places[-1].filename).name}, line {places[-1].lineno})"


def _why_not_imported(name: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and name.startswith(str(error.name)):
        return f"{error}; is its folder on PYTHONPATH, or its package installed?"
    if isinstance(error, ValueError | SyntaxError):  # with its place, or of a name
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})"


def _load(name: str) -> Any:
    if name in built_in_readers():
        found: Any = importlib.import_module(_module(name))
    elif points := {point.value: point for point in entry_points(group=ENTRY_POINTS, name=name)}:
        found = _only(points).load()
    else:
        found = importlib.import_module(name)
    if not isinstance(found, type) and not hasattr(found, "Reader"):
        raise ValueError("it has no class Reader; see docs/new-reader.md")
    return found if isinstance(found, type) else found.Reader


def _module(name: str) -> str:
    return f"cubeprep.readers.{name.replace('-', '_')}"


def _only(points: dict[str, EntryPoint]) -> EntryPoint:
    """Entry point of a name that only one package provides."""
    if len(points) > 1:
        raise ValueError(f"several installed packages have a reader of this name: {', '.join(sorted(points))}")
    return next(iter(points.values()))
