"""The catalog in HATS, the format of LSDB: Parquet files of parts of the sky, with margins beyond their edges.

A HATS catalog is a folder. Rows and columns are those of the other exports, and lists stay lists. LSDB drops the
metadata of columns: descriptions and units are restored in the schema of the whole (`dataset/_common_metadata`).
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cubeprep.locks import only_writer
from cubeprep.version import code_version
from jobs.tables.survey_links import with_links
from modeling.catalog import Catalog, Column
from modeling.labels.labels import catalog_version

NAME = "cubescout"
SUFFIX = ".hats"


class HatsError(ValueError):
    """LSDB is not installed."""


def write_hats(catalog: Catalog, catalog_path: Path, survey: str) -> Path:
    """Writes a catalog in HATS beside its Parquet file, in place of an earlier one, and returns the folder.

    Args:
        catalog: the galaxies, which have positions: see `footprint.located`.
        catalog_path: its Parquet file.
        survey: name from `survey_links.survey_name`.

    Raises:
        HatsError: LSDB is not installed.
        InUseError: another process writes this folder.
    """
    try:
        import dask
        import lsdb
    except ImportError as error:
        raise HatsError(f"the format hats needs LSDB ({error}): pip install 'cubescout[hats]'") from error

    table, columns = with_links(catalog.table, catalog.columns, survey)
    path = catalog_path.with_suffix(SUFFIX)
    partial = path.with_name(f".{path.name}.partial")
    with only_writer(str(path)), dask.config.set(scheduler="synchronous"):
        shutil.rmtree(partial, ignore_errors=True)
        made = lsdb.from_dataframe(_typed(table), ra_column="ra_deg", dec_column="dec_deg", catalog_name=NAME)
        made.write_catalog(partial, progress_bar=False, addl_hats_properties=_properties(catalog, catalog_path))
        for part in partial.glob("*/dataset/_common_metadata"):
            _describe(part, columns)
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
    return path


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Table with Arrow's types; LSDB would infer them for each part alone, where all lists may be empty."""
    found = pa.Table.from_pandas(table, preserve_index=False)
    empty, texts = pa.list_(pa.null()), pa.list_(pa.string())
    schema = pa.schema([field.with_type(texts) if field.type == empty else field for field in found.schema])
    return found.cast(schema).to_pandas(types_mapper=pd.ArrowDtype)


def _properties(catalog: Catalog, catalog_path: Path) -> dict[str, str]:
    return {
        "hats_creator": f"cubescout {code_version()}",
        "cubescout_catalog": catalog_version(catalog_path),
        "cubescout_created_utc": catalog.created_utc,
        "cubescout_store": catalog.provenance["store"]["identity"],
        "cubescout_model": catalog.provenance["model"].get("digest", ""),
    }


def _describe(path: Path, columns: Mapping[str, Column]) -> None:
    """Adds descriptions and units to the fields of a schema's file."""
    schema = pq.read_schema(path)
    for i, field in enumerate(schema):
        if found := columns.get(field.name):
            schema = schema.set(i, field.with_metadata({"description": found.description, "unit": found.unit}))
    pq.write_metadata(schema, path)
