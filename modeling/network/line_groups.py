"""Groups of related lines: those of one ion, each of which alone determines the others."""

import re
from collections.abc import Sequence

Groups = list[list[int]]


def line_groups(line_names: Sequence[str]) -> Groups:
    """Indices of lines in groups of one ion, in the order of their first lines; all of hydrogen is one.

    Args:
        line_names: such as `Ha-6564` or `OIII-5008`.
    """
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(line_names):
        groups.setdefault(_ion(name), []).append(index)
    # A single group would leave no lines to predict from.
    return list(groups.values()) if len(groups) > 1 else [[index] for index in range(len(line_names))]


def _ion(name: str) -> str:
    element = name.partition("-")[0]
    # An ion is an element and a Roman number; names of hydrogen lines have a Greek letter or a level: Ha, Heps, H12.
    return "H" if element.startswith("H") and not re.fullmatch("[A-Z][a-z]?[IVX]+", element) else element
