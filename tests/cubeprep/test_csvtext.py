"""CSV that a spreadsheet shows and does not run."""

import csv
import io

import pandas as pd
import pytest

from cubeprep.csvtext import csv_text


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n=1", "＝1", '=HYPERLINK("x")']
)
def test_a_text_that_is_a_formula_is_quoted(text: str) -> None:
    table = pd.DataFrame({"name": [text, "8000-1901"], "number": [-1.5, 2]})
    rows = list(csv.reader(io.StringIO(csv_text(table), newline="")))
    assert rows == [["name", "number"], ["'" + text.replace("\r", "\n"), "-1.5"], ["8000-1901", "2.0"]]


def test_all_else_is_as_it_was() -> None:
    table = pd.DataFrame(
        {"a": ["x", None, "8485-1901"], "b": [True, False, True], "c": [1, -2, 3], "d": [1.5, None, -1]}
    )
    assert csv_text(table) == table.to_csv(index=False)
