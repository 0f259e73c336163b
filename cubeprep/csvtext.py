"""Tables as CSV whose cells a spreadsheet does not run as formulas."""

import re

import pandas as pd

# Beginnings of a spreadsheet formula, also after blanks: https://owasp.org/www-community/attacks/CSV_Injection
FORMULA = r"\s*[=+\-@＝＋－＠]|\t"


def csv_text(table: pd.DataFrame) -> str:
    """CSV text of a table; numbers are left as they are.

    A text that a spreadsheet would run as a formula gets a `'` before it. Carriage returns become newlines: pandas
    quotes only cells with newlines, and an unquoted carriage return would begin a new row.
    """
    texts = [name for name in table if not pd.api.types.is_numeric_dtype(table[name])]
    return str(table.assign(**{str(name): table[name].map(_as_text) for name in texts}).to_csv(index=False))


def _as_text(value: object) -> object:
    if not isinstance(value, str):
        return value
    value = value.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{value}" if re.match(FORMULA, value) else value
