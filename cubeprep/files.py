"""Files that are whole or not there; standard library alone, so that every package may use it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, to write to; it is renamed to `path` if the block ends without an exception.

    A reader thus never sees a part of a file, and a failed write leaves the earlier file as it was. The folder is made
    if it does not exist. The temporary name ends in `PARTIAL`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def remove_partials(folder: Path) -> None:
    """Removes the temporary files that killed writers left below a folder which nobody writes to now."""
    for leftover in folder.rglob(f"*{PARTIAL}"):
        leftover.unlink(missing_ok=True)
