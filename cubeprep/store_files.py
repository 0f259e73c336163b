"""Names of a store's records, and checks of its metadata, records and tables when they are read.

A file that was damaged or edited is named in the error, with what is wrong and how to make it again.
"""

import io
import json
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import MISSING, fields
from typing import Annotated, Any, TypeVar

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from cubeprep.config import MistakeError
from cubeprep.outcome import Outcome

NEW_TABLES = "To make it again, delete summary.json beside it and run `cubescout prepare`."
NEW_STORE = "Delete the store and run `cubescout prepare` again."
Count = Annotated[int, Field(ge=1, strict=True)]
Section = dict[str, Any]
NEEDED = ("plateifu", "code", "reason")
T = TypeVar("T")


class StoreError(ValueError):
    """A window store is missing, unfinished, damaged, of another format, or made from another configuration."""


class NoStoreError(StoreError, MistakeError):
    """There is no window store where a command looks for one."""


class OtherStoreError(StoreError, MistakeError):
    """A path holds something other than the store that a command would make there."""


class _Attributes(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Split(_Attributes):
    num_views: Count
    galaxies_per_shard: Count


class _Prepare(_Attributes):
    windows: Section = {}
    velocity: Section = {}


class _Config(_Attributes):
    prepare: _Prepare = _Prepare()
    survey: Section = {}


class _Store(_Attributes):
    """Values of the attribute `cubescout` of a store that other modules rely on."""

    identity: str
    line_names: Annotated[list[str], Field(min_length=1)]
    num_samples: Count
    size: Count
    flux_unit: str
    splits: Annotated[dict[str, _Split], Field(min_length=1)]
    config: _Config
    survey_facts: Section = {}
    created: bool = True


class _Summary(_Attributes):
    galaxies: int
    accepted: int
    rejected: int
    splits: dict[str, int] = {}
    reasons: dict[str, int] = {}


# The fields of an outcome: a record of an earlier version may lack all but the first three.
_FIELDS: dict[str, Any] = {
    each.name: (each.type, each.default if each.default is not MISSING else {}) for each in fields(Outcome)
}
_Row = create_model("_Row", __base__=_Attributes, **_FIELDS | dict.fromkeys(NEEDED, (str, ...)))
RECORD, SUMMARY = TypeAdapter(list[_Row]), TypeAdapter(_Summary)


def record_name(split: str, shard: int) -> str:
    """Name of the record of a shard, relative to the store."""
    return f"records/{split}-{shard:05d}.json"


def check_attributes(attrs: Mapping[str, Any], path: str) -> None:
    """Checks the attribute `cubescout` of a store.

    Raises:
        StoreError: a value is missing or of the wrong type.
    """
    try:
        _Store.model_validate(attrs)
    except ValidationError as error:
        raise StoreError(f"{path}/zarr.json: damaged ({_first(error)}). {NEW_STORE}") from error


def parse_json(content: bytes, kind: TypeAdapter[T], path: str, mend: str) -> Any:
    """Values of a JSON file, of the type `kind`.

    Args:
        content: content of the file.
        kind: expected type.
        path: path of the file, for the message.
        mend: how to make the file again, for the message.

    Raises:
        StoreError: the file is not JSON, or of another type.
    """
    try:
        kind.validate_json(content)
    except ValidationError as error:
        raise StoreError(f"{path}: damaged ({_first(error)}). {mend}") from error
    return json.loads(content)


def parse_table(content: bytes, columns: Collection[str], path: str) -> pd.DataFrame:
    """Table of a store.

    Args:
        content: content of a Parquet file.
        columns: names of the columns that it must have.
        path: path of the file, for the message.

    Raises:
        StoreError: the file is damaged, or lacks a column.
    """
    try:
        table = pd.read_parquet(io.BytesIO(content), page_checksum_verification=True)
    except (ValueError, OSError, LookupError, TypeError) as error:  # the last two of damaged metadata for pandas
        raise StoreError(f"{path}: damaged ({str(error).partition(chr(10))[0]}). {NEW_TABLES}") from error
    missing = [name for name in columns if name not in table]
    if missing:
        raise StoreError(f"{path}: damaged (no column {', '.join(missing)}). {NEW_TABLES}")
    return table


def parquet_bytes(groups: Iterable[pd.DataFrame], rows_per_group: int) -> bytes:
    """Content of a Parquet file with checksums of its pages.

    Args:
        groups: rows with the same columns and types; at least one group.
        rows_per_group: most rows of a group in the file.
    """
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    content, writer = io.BytesIO(), None
    with ExitStack() as stack:
        for group in groups:
            table = pa.Table.from_pandas(group, preserve_index=False)
            if writer is None:
                writer = stack.enter_context(ParquetWriter(content, table.schema, write_page_checksum=True))
            writer.write_table(table, rows_per_group)
    return content.getvalue()


def _first(error: ValidationError) -> str:
    """First mistake found by pydantic: key, problem and value."""
    item = error.errors()[0]
    where = ".".join(map(str, item["loc"]))
    found = "" if item["type"] in ("missing", "json_invalid") else f", found {str(item['input'])[:60]!r}"
    return f"{where}: {item['msg']}{found}" if where else f"{item['msg']}{found}"
