"""Attribution maps, which show where each galaxy is unusual, as Zarr beside the catalog.

| array | dimensions | content |
|---|---|---|
| `by_place` | galaxy, line, y, x | residual of a line, summed over its samples, in sigma |
| `by_sample` | galaxy, line, sample | residual of a sample, summed over spaxels, in sigma |
| `by_line` | galaxy, line | excess chi2 of a line, in units of its standard deviation |
| `by_spaxel` | galaxy, y, x | excess chi2 of the 3 x 3 spaxels around each, in units of its standard deviation |
| `triaged` | galaxy, line, y, x | share of the good samples of a line that were masked as artefacts, and do not count |

`plateifu`, `line` and `velocity_kms` are coordinates; xarray opens it.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from modeling.scoring.survey_scorer import ShardScores

DIMENSIONS = {
    "by_place": ("galaxy", "line", "y", "x"),
    "by_sample": ("galaxy", "line", "sample"),
    "by_line": ("galaxy", "line"),
    "by_spaxel": ("galaxy", "y", "x"),
    "triaged": ("galaxy", "line", "y", "x"),
}
UNITS = dict.fromkeys(DIMENSIONS, "sigma") | {"triaged": "1"}
# A chunk is one galaxy, which is what readers ask for; shards of many keep the number of files low.
GALAXIES_PER_SHARD = 64


class OtherScoringError(ValueError):
    """Maps that were made with another catalog than the one at hand."""


def attribution_path(catalog: Path) -> Path:
    """Path of the attribution maps beside a catalog."""
    return catalog.with_name(f"{catalog.stem}.attribution.zarr")


def write_attribution(
    path: Path,
    shards: Sequence[Path],
    line_names: Sequence[str],
    velocity_kms: np.ndarray,
    identity: str,
    created_utc: str = "",
) -> None:
    """Writes the maps of all galaxies: whole or not at all.

    Args:
        path: folder to write; an existing one is replaced.
        shards: files of `survey_scorer.ShardScores`, at least one.
        line_names: [line].
        velocity_kms: [sample].
        identity: of the store that was scored.
        created_utc: of the catalog's provenance.
    """
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    names = [str(name) for shard in shards for name in ShardScores.load(shard).plateifu]
    attributes: dict[str, Any] = {"store_identity": identity, "created_utc": created_utc}
    group = zarr.open_group(partial, mode="w", zarr_format=3, attributes=attributes)
    coordinates = {
        "plateifu": (np.array(names, dtype=np.dtypes.StringDType()), "galaxy"),
        "line": (np.array(list(line_names), dtype=np.dtypes.StringDType()), "line"),
        "velocity_kms": (np.asarray(velocity_kms, dtype=np.float64), "sample"),
    }
    for name, (values, dimension) in coordinates.items():
        dtype = str if values.dtype.kind == "T" else values.dtype
        group.create_array(name, shape=values.shape, dtype=dtype, dimension_names=(dimension,))[...] = values
    for name, dimensions in DIMENSIONS.items():
        _write_array(group, name, dimensions, shards, len(names))
    shutil.rmtree(path, ignore_errors=True)
    partial.rename(path)


def _write_array(
    group: zarr.Group, name: str, dimensions: tuple[str, ...], shards: Sequence[Path], num_galaxies: int
) -> None:
    array = None
    for start, values in _blocks(shards, name):
        if array is None:
            rest = values.shape[1:]
            array = group.create_array(
                name,
                shape=(num_galaxies, *rest),
                chunks=(1, *rest),
                shards=(GALAXIES_PER_SHARD, *rest),
                dtype="float32",
                dimension_names=dimensions,
                attributes={"coordinates": "plateifu", "units": UNITS[name]},
            )
        array[start : start + len(values)] = values


def _blocks(shards: Sequence[Path], name: str) -> Iterator[tuple[int, np.ndarray]]:
    """Values of one Zarr shard at a time, with the row of the first: each shard is written once, whole."""
    start, held = 0, np.empty(0)
    for shard in shards:
        with np.load(shard, allow_pickle=False) as file:
            values = file[f"scores.{name}"].astype(np.float32)
        held = np.concatenate([held, values]) if len(held) else values
        while len(held) >= GALAXIES_PER_SHARD:
            yield start, held[:GALAXIES_PER_SHARD]
            start, held = start + GALAXIES_PER_SHARD, held[GALAXIES_PER_SHARD:]
    if len(held):
        yield start, held


def read_attribution(path: Path, plateifu: str, created_utc: str = "") -> dict[str, np.ndarray]:
    """Maps of one galaxy, by the names of `DIMENSIONS`, without the dimension of galaxies.

    Args:
        path: folder of the maps.
        plateifu: the galaxy.
        created_utc: of the provenance of the catalog that the maps are to belong to; by default they are not compared.

    Raises:
        FileNotFoundError: there are no maps at `path`.
        KeyError: the maps hold no such galaxy.
        OtherScoringError: they were made with another catalog.
        ValueError: the maps are damaged.
    """
    with _opened(path) as group:
        _check_scoring(group, path, created_utc)
        rows = np.flatnonzero(np.asarray(group["plateifu"][...]) == plateifu)
        found = {name: np.asarray(group[name][int(rows[0])]) for name in DIMENSIONS if len(rows) and name in group}
    if not rows.size:
        raise KeyError(f"{plateifu}: not among the galaxies of {path}")
    return found


def read_by_line(path: Path, created_utc: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Names [galaxy] and excess chi2 of each line [galaxy, line] of all galaxies.

    Arguments and errors are those of `read_attribution`.
    """
    with _opened(path) as group:
        _check_scoring(group, path, created_utc)
        return np.array(group["plateifu"][...].tolist()), np.asarray(group["by_line"][...])


def _check_scoring(group: Any, path: Path, created_utc: str) -> None:
    made = group.attrs.get("created_utc")  # not in maps of earlier versions
    if made and created_utc and made != created_utc:
        raise OtherScoringError(
            f"{path}: maps of a catalog made at {made}, expected those of {created_utc}. `cubescout score` makes both."
        )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Opens the maps for reading."""
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no attribution maps here. `cubescout score` makes them.")
    try:
        yield zarr.open_group(path, mode="r", zarr_format=3)
    except OtherScoringError:
        raise
    except Exception as error:  # Zarr's errors for damaged metadata have no common base class
        raise ValueError(f"{path}: damaged ({error}). `cubescout score` makes it again.") from error
