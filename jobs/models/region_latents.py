"""Latents of the regions of all galaxies of a store, cached beside the catalog per region shape."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cubeprep.files import replacing
from cubeprep.store import WindowStore
from cubeprep.words import counted
from jobs.config import ProjectConfig
from jobs.console.progress import progress_bar

METADATA_KEY = b"cubescout-regions"


@dataclass(frozen=True)
class RegionLatents:
    """Adjacent regions of one shape in each galaxy, without those that have too few good samples.

    Attributes:
        plateifu: [region].
        region: [region], such as `8:16,8:16`.
        latent: [region, dimension] float32.
    """

    plateifu: np.ndarray
    region: np.ndarray
    latent: np.ndarray


def read_or_make(config: ProjectConfig, store: WindowStore, model: Any, shape: tuple[int, int]) -> RegionLatents:
    """Reads the latents from their file if store, model and shape agree; otherwise computes and writes them.

    Args:
        config: gives the path of the catalog.
        store: the galaxies.
        model: a `jobs.models.opening.ScoringModel`.
        shape: spaxels in y and x.
    """
    path = config.catalog_path.with_name(f"{config.catalog_path.stem}.regions-{shape[0]}x{shape[1]}.parquet")
    made_of = {"store": store.identity, "model": model.digest, "shape": list(shape)}
    if (kept := _read(path, made_of)) is not None:
        return kept
    made = _make(config, store, model, shape)
    _write(path, made, made_of)
    return made


def _make(config: ProjectConfig, store: WindowStore, model: Any, shape: tuple[int, int]) -> RegionLatents:
    from modeling.latents.regions import region_latents, tiles, usable_regions

    regions = tiles(store.shape[2], shape)
    names: list[str] = []
    places: list[str] = []
    latents: list[np.ndarray] = []
    total = sum(store.num_shards(split) for split in store.splits)
    with progress_bar("Encoding regions", unit="shards") as bar:
        for _, windows in store.iter_galaxies():
            arrays = windows.flux, windows.ivar, windows.mask
            wanted = list(usable_regions(*arrays, regions))
            size, device = config.score.batch_size, config.score.torch_device
            latents.append(region_latents(model.network, *arrays, wanted, batch_size=size, device=device))
            names += [windows.plateifu[galaxy] for galaxy, _ in wanted]
            places += [str(region) for _, region in wanted]
            bar(len(latents), total, counted(len(names), "region"))
    if not names:
        raise ValueError(f"no region of {shape[0]} x {shape[1]} spaxels in {store.path} has enough good samples")
    return RegionLatents(np.array(names, dtype=object), np.array(places, dtype=object), np.concatenate(latents))


def _read(path: Path, made_of: dict[str, Any]) -> RegionLatents | None:
    """Latents of the file; None if there is none, it is damaged, or it was made of something else."""
    try:
        table = pq.read_table(path)
        kept = json.loads((table.schema.metadata or {}).get(METADATA_KEY, b"{}"))
    except (OSError, ValueError, pa.ArrowException):
        return None
    if kept != made_of:
        return None
    latent = table["latent"].combine_chunks()
    values = latent.flatten().to_numpy().reshape(len(table), latent.type.list_size)
    plateifu, region = (np.array(table[name].to_pylist(), dtype=object) for name in ("plateifu", "region"))
    return RegionLatents(plateifu, region, values)


def _write(path: Path, made: RegionLatents, made_of: dict[str, Any]) -> None:
    lists = pa.FixedSizeListArray.from_arrays(pa.array(made.latent.ravel()), made.latent.shape[1])
    columns = {"plateifu": pa.array(made.plateifu, pa.string()), "region": pa.array(made.region, pa.string())}
    table = pa.table(columns | {"latent": lists})
    with replacing(path) as partial:
        pq.write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(made_of).encode()}), partial)
