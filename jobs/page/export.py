"""The page as one file: the same client with the messages that it would otherwise request from a server.

The file contains the columns of all galaxies, the thumbnails of the first `MAX_THUMBNAILS` by rank, and the maps and
spectra of the most unusual galaxies, rounded by `compact`. Their neighbours are added, nearest first, as long as the
galaxies together stay below `MAX_GALAXY_BYTES`.
"""

import base64
import gzip
from collections.abc import Callable, Iterator

import numpy as np

from jobs.page.compact import compact
from jobs.page.document import make_document
from jobs.page.pack import pack
from jobs.page.sky_image import image_sources
from jobs.page.source import Source

MAX_THUMBNAILS = 500  # of about 1 kB each; each takes reading a galaxy from the store
MAX_GALAXY_BYTES = 12_000_000  # of base64; limits the neighbours, not the galaxies requested
LEVEL = 6


def export_page(source: Source, num_galaxies: int, progress: Callable[[int, int, str], None]) -> tuple[str, list[str]]:
    """Text of the file, and the galaxies that it contains in full.

    Args:
        source: catalog, store and model.
        num_galaxies: number of the most unusual galaxies to contain in full, beside neighbours.
        progress: called after each galaxy with its number, the total (without neighbours) and its name.
    """
    galaxies = _galaxies(source, num_galaxies, progress)
    survey = _encoded(source.survey())
    contents = _encoded(_contents(source, list(galaxies)))
    messages = [(f"galaxy-{name}", text) for name, text in galaxies.items()]
    document = make_document(
        first=[("survey", survey), ("contents", contents)],
        rest=messages,
        images=image_sources("data: blob:", source.sky_image),
    )
    return document.html, list(galaxies)


def _galaxies(source: Source, num_galaxies: int, progress: Callable[[int, int, str], None]) -> dict[str, str]:
    """Messages of the most unusual galaxies, then of as many of their neighbours as fit, by name."""
    table = source.catalog.table
    names = [str(name) for name in table["plateifu"].head(num_galaxies)]
    made: dict[str, str] = {}
    for number, name in enumerate(names, start=1):
        made[name] = _encoded(compact(source.galaxy(name)))
        progress(number, len(names), name)
    size = sum(map(len, made.values()))
    for name in _neighbours(source, len(names)):
        if name in made:
            continue
        text = _encoded(compact(source.galaxy(name)))
        size += len(text)
        if size > MAX_GALAXY_BYTES:
            break
        made[name] = text
        progress(len(names), len(names), name)
    return made


def _neighbours(source: Source, num_galaxies: int) -> Iterator[str]:
    """Names of the nearest neighbour of each galaxy, then of the second nearest, and so on; may repeat."""
    table = source.catalog.table.head(num_galaxies)
    nearest = [list(names) for names in table["neighbours"]] if "neighbours" in table else []
    for place in range(max(map(len, nearest), default=0)):
        yield from (str(names[place]) for names in nearest if place < len(names))


def _contents(source: Source, held: list[str]) -> bytes:
    """Message about the file: galaxies in full, labels given so far, and thumbnails as concatenated PNGs."""
    table = source.catalog.table
    wanted = dict.fromkeys([*(str(name) for name in table["plateifu"].head(MAX_THUMBNAILS)), *held])
    for row in table.itertuples():
        if row.plateifu in held:
            wanted |= dict.fromkeys(str(name) for name in getattr(row, "neighbours", ()))
    images = [source.thumbnail(name) for name in wanted]
    arrays: dict[str, np.ndarray] = {
        "thumbnails": np.frombuffer(b"".join(images), np.uint8),
        "thumbnail_ends": np.cumsum([len(image) for image in images], dtype=np.int32),
    }
    return pack({"galaxies": held, "labels": source.labels(), "thumbnails": list(wanted)}, arrays)


def _encoded(message: bytes) -> str:
    return base64.b64encode(gzip.compress(message, LEVEL, mtime=0)).decode()
