"""Confusion matrix of hypotheses."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.anomaly.all_families import load_families
from benchmarks.anomaly.confusion import RIGHT, accuracy, confusion, tables
from benchmarks.anomaly.evaluate import Entry
from benchmarks.anomaly.tiers import Run
from modeling.scoring.hypotheses.naming import NAMES

ROWS = pd.DataFrame(
    [
        ("", "", np.nan, np.nan),
        ("blueberry", "A", 1000, 1000.0),
        ("blueberry", "A", 3000, 3000.0),
        ("blueberry", "A", 300, 300.0),
        ("outflow_wing", "A", 3000, 400.0),  # did not reach its amplitude
        ("outflow_wing", "A", 1000, 900.0),  # within what an injection may miss it by
        ("cosmic_ray", "C", 1000, 1000.0),
    ],
    columns=["family", "kind", "wanted", "snr"],
)


class Rows:
    rows = ROWS


def entry(*names: str) -> tuple[Any, Entry]:
    found = Entry("ours", "", "ours")
    found.hypotheses[Run(seed=0, contamination=0.01)] = np.array(names)
    return Rows(), found


def test_accuracy_counts_clear_injections_of_the_kind() -> None:
    data, found = entry("", "metal_poor", "agn_ratios", "agn_ratios", "broad_balmer", "wing", "spike")
    assert accuracy(data, found) == 2 / 3
    assert accuracy(data, found, "C") == 1.0


def test_every_row_is_in_the_matrix() -> None:
    data, found = entry("", "metal_poor", "agn_ratios", "unclear", "wing", "wing", "spike")
    counts = confusion(data, found)
    assert counts.to_numpy().sum() == len(ROWS)
    assert counts.loc[("clean", 0), "none"] == 1
    assert counts.loc[("blueberry", 300), "unclear"] == 1
    ((name, table),) = tables(data, [found, Entry("other", "", "classical")])
    assert name == "ours"
    assert table.loc["blueberry"].to_dict() == {"agn_ratios": 1, "spike": 0, "metal_poor": 1, "none": 0, "wing": 0}


def test_without_clear_injections_there_is_no_accuracy() -> None:
    data, found = entry(*[""] * 7)
    data.rows = ROWS.assign(snr=30.0)
    assert np.isnan(accuracy(data, found))


@pytest.mark.parametrize("family", [family.name for family in load_families().values() if family.kind != "N"])
def test_each_family_has_a_right_hypothesis(family: str) -> None:
    assert RIGHT[family] in NAMES
