"""Atomic writing of files; needs only the standard library, so every package can use it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which is renamed to `path` if the block ends without an exception.

    Readers therefore never see a partial file, and a failed write leaves an existing file unchanged. The folder is
    created if needed. The temporary name ends in `PARTIAL`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    partial.unlink(missing_ok=True)  # of a killed process with this number, or somebody's link to another file
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def remove_partials(folder: Path) -> None:
    """Removes temporary files left by killed writers below a folder; nothing may be writing there at the time."""
    for leftover in folder.rglob(f"*{PARTIAL}"):
        leftover.unlink(missing_ok=True)
