"""Columns of the catalog in the form that the page reads, and selections of galaxies as CSV."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cubeprep.csvtext import csv_text
from jobs.page.survey_texts import pretty_unit
from modeling.catalog import Catalog

MAX_CATEGORIES = 24
# Groups of columns in the page's menus, by prefixes of a name and `_`, so that `z_` is `z`, too; the first counts.
GROUPS = {
    "Score": ("rank", "score", "num_models"),
    "Significance and triage": ("p_value", "q_value", "is_find", "triage", "velocity_offset", "reason_", "hypothesis"),
    "Lines": ("strongest_line", "top_line", "share_", "ew_", "log_"),
    "Galaxy": ("z_", "ra_deg", "dec_deg", "total_flux", "median_snr", "num_good"),
    "Labels": ("label",),
    "Map and split": ("umap", "embedding", "split", "fold"),
}
OTHER_COLUMNS = "Other columns"
NAMES = ("plateifu", "mangaid", "url")  # always texts, however few the distinct values
EXACT = ("ra_deg", "dec_deg")  # as float64: the seven digits of float32 are too few
LARGEST_FLOAT32 = 2**24  # above it neighbouring integers, such as identifiers, are the same float32


def column_arrays(catalog: Catalog) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Descriptions of the columns, and arrays of those that are numbers or categories; columns of lists are left out.

    Returns:
        Descriptions in the order of the catalog, with name, group, description, unit and kind: `number` has an array of
        values; `category` a list of categories and an array of their indices, -1 for no value; `text` a list of values.
        Then the arrays by name, [galaxy], float32, float64 or int32.
    """
    described: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for name in catalog.table.columns:
        values = catalog.table[name]
        if _is_list(values):
            continue
        found = catalog.columns.get(name)
        item: dict[str, Any] = {
            "name": name,
            "group": group_of(name),
            "description": found.description if found else "",
            "unit": pretty_unit(found.unit) if found else "",
        }
        if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            large = pd.api.types.is_integer_dtype(values) and (values.abs() > LARGEST_FLOAT32).any()
            arrays[name] = values.to_numpy(np.float64 if name in EXACT or large else np.float32, na_value=np.nan)
            described.append(item | {"kind": "number"})
            continue
        words = _words(values)
        codes, categories = pd.factorize(words.replace("", None), sort=True)
        if len(categories) <= MAX_CATEGORIES and name not in NAMES:
            arrays[name] = codes.astype(np.int32)
            described.append(item | {"kind": "category", "categories": list(categories)})
        else:
            described.append(item | {"kind": "text", "values": words.tolist()})
    return described, arrays


def group_of(column: str) -> str:
    """Group of the page's menus that contains a column."""
    return next((group for group, starts in GROUPS.items() if f"{column}_".startswith(starts)), OTHER_COLUMNS)


def selection_csv(table: pd.DataFrame, names: Sequence[str], labels: Mapping[str, str]) -> str:
    """CSV with the rows of galaxies and their labels, in the order of `names`; lists are joined by spaces.

    Raises:
        KeyError: the catalog holds no such galaxy.
    """
    known = table.set_index("plateifu", drop=False)
    unknown = [name for name in names if name not in known.index]
    if unknown:
        raise KeyError(f"not in the catalog: {', '.join(unknown[:5])}")
    chosen = known.loc[list(names)]
    for name in [name for name in chosen if _is_list(chosen[name])]:
        chosen[name] = [" ".join(str(value) for value in values) for values in chosen[name]]
    return csv_text(chosen.assign(label=[labels.get(name, "") for name in names]))


def json_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Row of a catalog as JSON values: NaN becomes None, lists are left out."""
    return {str(name): _plain(value) for name, value in row.items() if not isinstance(value, list | np.ndarray)}


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _words(values: pd.Series) -> pd.Series:
    if pd.api.types.is_bool_dtype(values):
        return values.map({True: "yes", False: "no"})
    return values.fillna("").astype(str)


def _is_list(values: pd.Series) -> bool:
    return len(values) > 0 and isinstance(values.iloc[0], list | np.ndarray)
