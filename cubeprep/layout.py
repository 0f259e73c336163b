"""Objects of a store (metadata, coordinates and shards) as bytes, which Zarr builds in memory.

Each object can then be written with a single request. Zarr itself would rewrite a group for every array created in it,
and read a shard before writing it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore

from cubeprep.masks import WINDOW_MASK_BITS

FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)  # 1 has no continuum
CONTINUUM = ("continuum", "continuum_ivar", "stars")
METADATA = "zarr.json"
DIMENSIONS = ("row", "line", "sample", "y", "x")
WRITE_ALL: Any = {"write_empty_chunks": True}
# With its checksum, of 4 bytes a chunk, all of 200 flipped bits were detected, without it 2.
CHECKED = ZstdCodec(level=1, checksum=True)


@dataclass(frozen=True)
class SplitPlan:
    """Rows of one split, known before any cube is read: `num_views` consecutive rows per galaxy.

    Attributes:
        plateifu: [galaxy] identifier of each observation.
        mangaid: [galaxy] identifier of each object.
        z: [galaxy] redshifts.
        num_views: rows per galaxy.
        galaxies_per_shard: galaxies in each shard but the last, which may hold fewer.
    """

    plateifu: Sequence[str]
    mangaid: Sequence[str]
    z: Sequence[float]
    num_views: int
    galaxies_per_shard: int

    @property
    def num_galaxies(self) -> int:
        """Number of galaxies in the split."""
        return len(self.plateifu)

    @property
    def num_shards(self) -> int:
        """Number of shards in the split."""
        return -(-self.num_galaxies // self.galaxies_per_shard)

    def galaxies(self, shard: int) -> range:
        """Galaxies of one shard, as positions in the split."""
        start = shard * self.galaxies_per_shard
        return range(start, min(start + self.galaxies_per_shard, self.num_galaxies))


@dataclass(frozen=True)
class StorePlan:
    """Everything that determines a store's metadata.

    Attributes:
        line_names: [line] such as `Ha-6564`.
        rest_wave: [line] vacuum rest wavelength, Angstrom.
        velocity_kms: [sample] velocity of each sample's centre relative to the line, km/s.
        size: side of the windows, spaxels.
        flux_unit: unit of `flux`.
        splits: plan of each split that has galaxies, by name.
        identity: digest of configuration, inputs and format.
        config: resolved configuration, as JSON values.
        survey_facts: of `facts.SurveyFacts`, as JSON values.
        with_continuum: whether the continuum at each line is kept.
    """

    line_names: Sequence[str]
    rest_wave: Sequence[float]
    velocity_kms: np.ndarray
    size: int
    flux_unit: str
    splits: Mapping[str, SplitPlan]
    identity: str
    config: Mapping[str, Any]
    survey_facts: Mapping[str, Any] = field(default_factory=dict)
    with_continuum: bool = False


def store_objects(plan: StorePlan, code_version: str, *, created: bool = True) -> dict[str, bytes]:
    """All objects of a store except its shards, by name relative to the store.

    Args:
        plan: the store.
        code_version: version of Cubescout that creates it.
        created: value of the attribute `created`; False as long as any of the objects may be missing.
    """
    contents: dict[str, Buffer] = {}
    attrs: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "identity": plan.identity,
        "code_version": code_version,
        "line_names": list(plan.line_names),
        "num_samples": len(plan.velocity_kms),
        "size": plan.size,
        "flux_unit": plan.flux_unit,
        "splits": {
            name: {"num_views": split.num_views, "galaxies_per_shard": split.galaxies_per_shard}
            for name, split in plan.splits.items()
        },
        "config": dict(plan.config),
        "survey_facts": dict(plan.survey_facts),
        "continuum": plan.with_continuum,
        "created": created,
    }
    root = zarr.create_group(MemoryStore(contents), attributes={"cubescout": attrs}, zarr_format=3)
    for name, split in plan.splits.items():
        _create_split(root.create_group(name), plan, split)
    return {name: content.to_bytes() for name, content in contents.items()}


def encode_rows(stored: zarr.Array, rows: slice, values: np.ndarray) -> dict[str, bytes]:
    """Objects of an array that hold the given rows, by name relative to the array.

    Other rows in the same objects get the fill value, so `rows` must cover whole shards.

    Args:
        stored: the array.
        rows: range along the first axis.
        values: [row, ...] values to encode.
    """
    contents = stored.metadata.to_buffer_dict(default_buffer_prototype())
    array = zarr.open_array(MemoryStore(contents), mode="r+", zarr_format=3).with_config(WRITE_ALL)
    array[rows] = values
    return {name: content.to_bytes() for name, content in contents.items() if name != METADATA}


def _create_split(group: zarr.Group, plan: StorePlan, split: SplitPlan) -> None:
    window = (len(plan.line_names), len(plan.velocity_kms), plan.size, plan.size)
    num_rows = split.num_galaxies * split.num_views
    rows_per_shard = split.galaxies_per_shard * split.num_views
    per_row = "plateifu mangaid z view valid rest_wave velocity_kms"
    flag_attrs = {
        "flag_masks": list(WINDOW_MASK_BITS.values()),
        "flag_meanings": " ".join(WINDOW_MASK_BITS),
        "coordinates": per_row,
    }
    arrays: tuple[tuple[str, str, Any, dict[str, Any]], ...] = (
        ("flux", "float32", np.nan, {"units": plan.flux_unit, "coordinates": per_row}),
        ("ivar", "float32", 0.0, {"units": f"({plan.flux_unit})^-2", "coordinates": per_row}),
        ("mask", "uint8", WINDOW_MASK_BITS["REJECTED"], flag_attrs),
    )
    for name, dtype, fill_value, attributes in arrays:
        group.create_array(
            name,
            shape=(num_rows, *window),
            dtype=dtype,
            chunks=(1, *window),
            shards=(rows_per_shard, *window),
            compressors=CHECKED,
            fill_value=fill_value,
            attributes=attributes,
            dimension_names=DIMENSIONS,
        )
    if plan.with_continuum:
        _create_continuum(group, plan, split)
    repeat = split.num_views
    coordinates: tuple[tuple[str, Any, tuple[str, ...], dict[str, Any]], ...] = (
        ("plateifu", np.repeat(np.asarray(split.plateifu, dtype=object), repeat), ("row",), {}),
        ("mangaid", np.repeat(np.asarray(split.mangaid, dtype=object), repeat), ("row",), {}),
        ("z", np.repeat(np.asarray(split.z, dtype=np.float64), repeat), ("row",), {"long_name": "redshift"}),
        ("view", np.tile(np.arange(repeat, dtype=np.int32), split.num_galaxies), ("row",), {}),
        ("valid", np.zeros(num_rows, dtype=bool), ("row",), {}),
        ("line", np.asarray(plan.line_names, dtype=object), ("line",), {}),
        ("rest_wave", np.asarray(plan.rest_wave, dtype=np.float64), ("line",), {"units": "Angstrom"}),
        ("velocity_kms", np.asarray(plan.velocity_kms, dtype=np.float64), ("sample",), {"units": "km / s"}),
    )
    for name, values, dimensions, attributes in coordinates:
        is_text = values.dtype == object
        array = group.create_array(
            name,
            shape=values.shape,
            dtype=str if is_text else values.dtype,
            compressors=CHECKED,
            attributes=attributes,
            dimension_names=dimensions,
            config=WRITE_ALL,
        )
        array[...] = values.astype(np.dtypes.StringDType()) if is_text else values


def _create_continuum(group: zarr.Group, plan: StorePlan, split: SplitPlan) -> None:
    """Creates the arrays of `CONTINUUM`, one row a galaxy: views do not differ in it."""
    image = (plan.size, plan.size)
    per_line = (len(plan.line_names), *image)
    units = {"continuum": plan.flux_unit, "continuum_ivar": f"({plan.flux_unit})^-2"}
    kinds: tuple[tuple[str, str, Any, tuple[int, ...]], ...] = (
        ("continuum", "float32", np.nan, per_line),
        ("continuum_ivar", "float32", 0.0, per_line),
        ("stars", "uint8", 0, image),
    )
    for name, dtype, fill_value, shape in kinds:
        group.create_array(
            name,
            shape=(split.num_galaxies, *shape),
            dtype=dtype,
            chunks=(1, *shape),
            shards=(split.galaxies_per_shard, *shape),
            compressors=CHECKED,
            fill_value=fill_value,
            attributes={"units": units[name]} if name in units else {"long_name": "starlight was subtracted"},
            dimension_names=("galaxy", "line", "y", "x") if len(shape) == 3 else ("galaxy", "y", "x"),
        )
