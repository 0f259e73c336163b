"""Tables as CSV that a spreadsheet shows and does not run."""

import re

import pandas as pd

# With these, also after blanks, spreadsheets begin a formula: https://owasp.org/www-community/attacks/CSV_Injection
FORMULA = r"\s*[=+\-@＝＋－＠]|\t"


def csv_text(table: pd.DataFrame) -> str:
    """A table as CSV, numbers as they are.

    A text that a spreadsheet would take for a formula gets a `'` before it. Ends of lines in it become newlines, since
    pandas puts no quotes around others, behind which a new row would begin.
    """
    texts = [name for name in table if not pd.api.types.is_numeric_dtype(table[name])]
    return str(table.assign(**{str(name): table[name].map(_as_text) for name in texts}).to_csv(index=False))


def _as_text(value: object) -> object:
    if not isinstance(value, str):
        return value
    value = value.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{value}" if re.match(FORMULA, value) else value
