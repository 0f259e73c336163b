"""The page as one file: the served client with the messages that it would ask a server for.

The file holds the columns of all galaxies, the first `MAX_THUMBNAILS` thumbnails by rank, and the maps and spectra of
the most unusual galaxies, rounded as `compact` describes. Their neighbours are added, nearest first, while all galaxies
together stay under `MAX_GALAXY_BYTES`.
"""

import base64
import gzip
from collections.abc import Callable, Iterator

import numpy as np

from jobs.page.compact import compact
from jobs.page.document import make_document
from jobs.page.pack import pack
from jobs.page.source import Source

MAX_THUMBNAILS = 500  # of about 1 kB each, and each is a galaxy read from the store
MAX_GALAXY_BYTES = 12_000_000  # base64; neighbours stop here, the galaxies asked for do not
LEVEL = 6


def export_page(source: Source, num_galaxies: int, progress: Callable[[int, int, str], None]) -> tuple[str, list[str]]:
    """The file's text, and the galaxies that it holds in full.

    Args:
        source: catalog, store and model.
        num_galaxies: how many of the most unusual galaxies it holds in full at least.
        progress: is told number, total and name of the galaxies done, neighbours not counted in the total.
    """
    galaxies = _galaxies(source, num_galaxies, progress)
    survey = _encoded(source.survey())
    contents = _encoded(_contents(source, list(galaxies)))
    messages = [(f"galaxy-{name}", text) for name, text in galaxies.items()]
    document = make_document(first=[("survey", survey), ("contents", contents)], rest=messages)
    return document.html, list(galaxies)


def _galaxies(source: Source, num_galaxies: int, progress: Callable[[int, int, str], None]) -> dict[str, str]:
    """Messages of the most unusual galaxies, then of their neighbours as far as there is room."""
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
    """The nearest neighbour of each galaxy, then the second nearest, and so on."""
    table = source.catalog.table.head(num_galaxies)
    nearest = [list(names) for names in table["neighbours"]] if "neighbours" in table else []
    for place in range(max(map(len, nearest), default=0)):
        yield from (str(names[place]) for names in nearest if place < len(names))


def _contents(source: Source, held: list[str]) -> bytes:
    """What the file holds: names, labels given so far, and thumbnails, one PNG after the other."""
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
