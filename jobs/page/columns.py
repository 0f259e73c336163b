"""The catalog's columns as the page takes them: numbers as arrays, words as codes, and a selection as CSV."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from jobs.page.survey_facts import pretty_unit
from modeling.catalog import Catalog

MAX_CATEGORIES = 24
EXACT = ("ra_deg", "dec_deg")  # seven digits are too few for these


def column_arrays(catalog: Catalog) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Descriptions of all columns, and the values of those that are numbers or categories; lists are left out.

    Returns:
        Descriptions, in the catalog's order: name, description, unit, and the kind: `number`, with an array of values;
        `category`, with an array of codes and the words in order, -1 where there is none; `text`, with its values.
        Then the arrays by name, [galaxy] float32, float64 or int32.
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
            "description": found.description if found else "",
            "unit": pretty_unit(found.unit) if found else "",
        }
        if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            arrays[name] = values.to_numpy(np.float64 if name in EXACT else np.float32, na_value=np.nan)
            described.append(item | {"kind": "number"})
            continue
        words = _words(values)
        codes, categories = pd.factorize(words.replace("", None), sort=True)
        if len(categories) <= MAX_CATEGORIES and name not in ("plateifu", "mangaid"):
            arrays[name] = codes.astype(np.int32)
            described.append(item | {"kind": "category", "categories": list(categories)})
        else:
            described.append(item | {"kind": "text", "values": words.tolist()})
    return described, arrays


def selection_csv(table: pd.DataFrame, names: Sequence[str], labels: Mapping[str, str]) -> str:
    """Rows of a catalog as CSV in the order of `names`, with the label of each; lists are joined by spaces.

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
    return str(chosen.assign(label=[labels.get(name, "") for name in names]).to_csv(index=False))


def json_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row of a catalog as JSON values: no NaN, no lists."""
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
