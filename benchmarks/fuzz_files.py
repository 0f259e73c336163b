"""Surveys of galaxies with equal files in every format that is read, and damage to the files of most of them."""

import gzip
import io
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.table import Table

from cubeprep.fits.cards import DECISIVE
from cubeprep.simulate.config import SimulateConfig
from cubeprep.simulate.survey import simulate_survey

NAMES_OF_GALAXIES = ("PLATEIFU", "NAME")
SIDE = 10  # spaxels that are kept of a cube
LINES = ("Hb-4862", "OIII-5008", "Ha-6564", "NII-6585")
CUBE_WINDOWS: dict[str, Any] = {"lines": LINES, "size": 8, "min_lines": 1, "sampling": "conserve", "num_samples": 8}
MAPS_WINDOWS: dict[str, Any] = {"lines": LINES, "size": 16, "num_samples": 1}
REAL_MAPS = "manga/manga-7815-3702-MAPS-HYB10-GAU-MILESHC.fits.gz"
BLOCK, CARD = 2880, 80
NUM_GALAXIES, NUM_INTACT = 14, 2
BASE, DESCRIPTION = "BASE", "source.json"
VALUES = (
    "",
    "T",
    "'N/A     '",
    "'erg/s'",
    "NaN",
    "-1",
    "0",
    "1E+308",
    "1000000000000",
    "-9999.0",
    "1.0",
    "3",
    "'WAVE'",
)


@dataclass(frozen=True)
class Source:
    """A survey of galaxies with equal files, which lie in a folder of its name, each under the name BASE.

    Attributes:
        name: of the source.
        survey: values of `SurveyConfig` but the root; a table is named relative to the folder.
        windows: values of `WindowConfig`.
        forms: names of a galaxy's files, with `{}` for the galaxy.
        galaxies: names of the galaxies; the last `NUM_INTACT` stay intact.
    """

    name: str
    survey: dict[str, Any]
    windows: dict[str, Any]
    forms: tuple[str, ...]
    galaxies: tuple[str, ...]

    @property
    def victims(self) -> tuple[str, ...]:
        """Galaxies whose files are damaged."""
        return self.galaxies[:-NUM_INTACT]

    @property
    def intact(self) -> tuple[str, ...]:
        """The other galaxies."""
        return self.galaxies[-NUM_INTACT:]


def make_sources(folder: Path, real: Path | None) -> list[Source]:
    """Writes the surveys, each into a folder of its name, with a description; those of real files if there are any."""
    made = [*_simulated(folder), *(_real(folder, real) if real else ())]
    for source in made:
        (folder / source.name / DESCRIPTION).write_text(json.dumps(asdict(source)))
    return made


def read_source(folder: Path) -> Source:
    """Source from its folder."""
    values = json.loads((folder / DESCRIPTION).read_text())
    return Source(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def damage(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Kind of damage, drawn at random, and the damaged content of a file."""
    kinds = {_flip: 4, _overwrite: 2, _cut: 2, _shift: 1, _edit_card: 6, _flip_inside: 1}
    (kind,) = rng.choices(list(kinds), list(kinds.values()))
    return kind.__name__.strip("_"), kind(content, rng)


def _simulated(folder: Path) -> Iterator[Source]:
    root = folder / "simulated"
    config = SimulateConfig(num_galaxies=1, num_workers=1, bundle_shares={19: 1}, critical_fraction=0)
    simulate_survey(config, 3, root)
    z = float(pd.read_parquet(root / "truth.parquet")["z"].iloc[0])
    (cube,), (maps,) = root.rglob("*LOGCUBE.fits.gz"), root.rglob("*MAPS*.fits.gz")
    names = tuple(f"8001-19{i:02}" for i in range(NUM_GALAXIES))
    for name, suffix, sums in (("manga-gz", ".fits.gz", False), ("manga-plain", ".fits", True)):
        hdus = cut(cube, ("PRIMARY", "FLUX", "IVAR", "MASK", "WAVE"))
        hdus.append(fits.ImageHDU(hdus["FLUX"].data, name="LSFPOST"))  # real files continue with other cubes
        forms = _write(folder / name, {f"manga-{{}}-LOGCUBE{suffix}": written(hdus, checksum=sums)})
        rows: dict[str, Any] = {"plateifu": names, "mangaid": names, "drp3qual": [0] * len(names)}
        header = hdus["FLUX"].header
        shared = {"objra": header["CRVAL1"], "objdec": header["CRVAL2"], "nsa_z": z}
        rows |= {key: [value] * len(names) for key, value in shared.items()}
        table = fits.BinTableHDU(Table(rows), name="MANGA")
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(folder / name / "drpall.fits")
        survey = {"reader": "manga-logcube", "z_max": 0.2, "table": "drpall.fits"}
        yield Source(name, survey, CUBE_WINDOWS | {"sampling": "nearest"}, forms, names)
    yield _maps_source(folder, "maps-simulated", maps)


def _maps_source(folder: Path, name: str, path: Path) -> Source:
    """A MAPS file, without PLATEIFU, so that it may have any name."""
    with fits.open(path) as hdus:
        del hdus[0].header["PLATEIFU"]
        content = written(hdus, checksum=True)
    forms = _write(folder / name, {"manga-{}-MAPS-HYB10-GAU-MILESHC.fits.gz": content})
    names = tuple(f"7815-37{i:02}" for i in range(NUM_GALAXIES))
    return Source(name, {"reader": "manga-maps", "z_max": 0.2}, MAPS_WINDOWS, forms, names)


def _real(folder: Path, real: Path) -> Iterator[Source]:
    yield _maps_source(folder, "maps-gz", real / REAL_MAPS)
    arms = {arm: real / "sami/cubes" / f"41144_A_sectors_{arm}.fits.gz" for arm in ("blue", "red")}
    pair = {f"{{}}_sectors_{arm}.fits.gz": written(cut(path, ("PRIMARY", "VARIANCE"))) for arm, path in arms.items()}
    forms = _write(folder / "sami-gz", pair)
    names = tuple(f"411{i:02}_A" for i in range(NUM_GALAXIES))
    yield Source("sami-gz", {"reader": "sami", "z_max": 0.2}, CUBE_WINDOWS, forms, names)
    whole = cut(real / "muse/mpdaf_CUBE.fits", ("PRIMARY", "DATA", "STAT"))
    yield _with_table(folder, "muse-plain", "muse", {"{}.fits": written(whole)}, 0.2)
    minicube = cut(real / "muse/mpdaf_minicube_Abell478.fits.gz", ("PRIMARY", "DATA", "STAT", "DQ"))
    tiled = [
        fits.CompImageHDU(hdu.data, hdu.header, name=hdu.name, compression_type="GZIP_2", quantize_level=0.0)
        for hdu in minicube[1:]
    ]
    yield _with_table(folder, "muse-gz", "muse", {"{}.fits.gz": written(minicube, checksum=True)}, 0.088)
    yield _with_table(folder, "muse-fz", "muse", {"{}.fits.fz": written(fits.HDUList([minicube[0], *tiled]))}, 0.088)
    content = gzip.decompress((real / "califa/NGC4047.ELINES.cube.fits.gz").read_bytes())
    yield _with_table(folder, "califa-gz", "califa-elines", {"{}.ELINES.cube.fits.gz": content}, 0.0114)


def _with_table(folder: Path, name: str, reader: str, contents: dict[str, bytes], z: float) -> Source:
    forms = _write(folder / name, contents)
    names = tuple(f"galaxy{i:02}" for i in range(NUM_GALAXIES))
    (folder / name / "table.csv").write_text("name,z\n" + "".join(f"{galaxy},{z}\n" for galaxy in names))
    windows = MAPS_WINDOWS if reader == "califa-elines" else CUBE_WINDOWS
    return Source(name, {"reader": reader, "table": "table.csv", "z_max": 0.5}, windows, forms, names)


def cut(path: Path, names: tuple[str, ...]) -> fits.HDUList:
    """The named HDUs of a file, their images cut to `SIDE` spaxels about the centre, so that it may have any name."""
    kept = []
    with fits.open(path) as hdus:
        for name in names:
            hdu = hdus[0] if name == "PRIMARY" else hdus[name]
            data, header = hdu.data, hdu.header.copy()
            for keyword in NAMES_OF_GALAXIES:
                header.remove(keyword, ignore_missing=True)
            if data is not None and data.ndim >= 2:
                places = [(length - min(SIDE, length)) // 2 for length in data.shape[-2:]]
                data = data[(..., *(slice(start, start + SIDE) for start in places))]
            kept.append(type(hdu)(None if data is None else np.array(data), header))
    return fits.HDUList(kept)


def written(hdus: fits.HDUList, *, checksum: bool = False) -> bytes:
    """Bytes of a FITS file; with `checksum` all HDUs get CHECKSUM and DATASUM, else they lose them."""
    held = io.BytesIO()
    if not checksum:
        for hdu in hdus:
            for keyword in ("CHECKSUM", "DATASUM"):
                hdu.header.remove(keyword, ignore_missing=True)
    hdus.writeto(held, checksum=checksum)
    return held.getvalue()


def _write(root: Path, contents: dict[str, bytes]) -> tuple[str, ...]:
    """Writes the files of one galaxy under the name BASE; returns the forms of their names."""
    root.mkdir(parents=True)
    for form, content in contents.items():
        packed = gzip.compress(content, 1) if form.endswith(".gz") else content
        (root / form.format(BASE)).write_bytes(packed)
    return tuple(contents)


def _inside(change: Callable[[bytearray, random.Random], None]) -> Callable[[bytes, random.Random], bytes]:
    """Damage to the content of a file before it was gzipped."""

    def changed(content: bytes, rng: random.Random) -> bytes:
        zipped = content.startswith(b"\x1f\x8b")
        held = bytearray(gzip.decompress(content) if zipped else content)
        change(held, rng)
        return gzip.compress(bytes(held), 1) if zipped else bytes(held)

    changed.__name__ = change.__name__
    return changed


def _flip_bits(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _flip(content: bytes, rng: random.Random) -> bytes:
    held = bytearray(content)
    _flip_bits(held, rng)
    return bytes(held)


@_inside
def _flip_inside(content: bytearray, rng: random.Random) -> None:
    _flip_bits(content, rng)


def _overwrite(content: bytes, rng: random.Random) -> bytes:
    length = rng.randrange(1, 4096)
    start = rng.randrange(max(1, len(content) - length))
    filler = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
    return content[:start] + filler + content[start + length :]


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.choice((0, 1, rng.randrange(len(content)), rng.randrange(len(content)), len(content) - 1))]


def _shift(content: bytes, rng: random.Random) -> bytes:
    """Bytes are lost or added, as by a transfer in text mode."""
    start, length = rng.randrange(len(content)), rng.choice((1, 2, 80, BLOCK, rng.randrange(1, 5000)))
    more = content[:start] + rng.randbytes(length) + content[start:]
    return rng.choice((more, content[:start] + content[start + length :], content.replace(b"\n", b"\r\n")))


@_inside
def _edit_card(content: bytearray, rng: random.Random) -> None:
    """Changes one card of one of the first headers, most often one that decides what the data mean."""
    headers = list(_headers(content))
    start, count = rng.choice(headers[:5] if rng.random() < 0.7 else headers)
    places = range(start, start + CARD * count, CARD)
    decisive = [at for at in places if DECISIVE.fullmatch(content[at : at + 8].decode("ascii").strip())]
    at = rng.choice(decisive if rng.random() < 0.8 else places)
    other = rng.choice(places)
    card = bytes(content[at : at + CARD])
    value = rng.choice(VALUES) if rng.random() < 0.6 else _misspelt(card[10:30].decode("ascii", "replace"), rng)
    new = rng.choice(
        (
            card[:8] + f"= {value:>20}".encode("ascii", "replace") + b" " * 50,
            card[:8] + f"= {value:>20}".encode("ascii", "replace") + b" " * 50,
            b" " * CARD,
            rng.randbytes(8) + card[8:],
            bytes(content[other : other + CARD]),
            card[:20] + bytes([rng.randrange(128, 256)]) + card[21:],
        )
    )
    content[at : at + CARD] = new[:CARD]


def _misspelt(text: str, rng: random.Random) -> str:
    places = [i for i, character in enumerate(text) if character.isalnum() or character in "+-."]
    if not places:
        return text
    place = rng.choice(places)
    return text[:place] + rng.choice("0123456789-.E") + text[place + 1 :]


def _headers(content: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """Start and number of cards of each header."""
    start = 0
    while start < len(content):
        end = start
        while bytes(content[end : end + 8]) != b"END     " and end < len(content):
            end += CARD
        yield start, max(1, (end - start) // CARD)
        header = fits.Header.fromstring(bytes(content[start:end]))
        size = abs(header["BITPIX"]) // 8 * (header.get("PCOUNT", 0) + int(np.prod(_axes(header), dtype=np.int64)))
        data = start + -(-(end + CARD - start) // BLOCK) * BLOCK
        start = data + -(-size // BLOCK) * BLOCK


def _axes(header: fits.Header) -> list[int]:
    return [header[f"NAXIS{i}"] for i in range(1, header["NAXIS"] + 1)] or [0]
