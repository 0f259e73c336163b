"""Words of messages."""

from collections.abc import Iterable
from difflib import get_close_matches


def counted(number: int, noun: str) -> str:
    """A number with its noun, such as `1 galaxy` and `2 galaxies`.

    Args:
        number: of things.
        noun: in the singular, possibly with words before it; its plural ends in s, or in ies for y.
    """
    if number == 1:
        return f"{number} {noun}"
    return f"{number} {noun.removesuffix('y')}ies" if noun.endswith("y") else f"{number} {noun}s"


def closest(name: str, known: Iterable[object], most: int = 1) -> list[str]:
    """Known names similar to this one, ignoring case, the most similar first; else those that begin with it."""
    by_lower, lower = {str(item).lower(): str(item) for item in known}, name.lower()
    found = get_close_matches(lower, by_lower, n=most)
    found = found or [item for item in by_lower if lower and item.startswith(f"{lower}_")][:most]
    return [by_lower[item] for item in found]


def suggestion(names: Iterable[str], otherwise: str = "") -> str:
    """End of a message, `; did you mean a or b?`; another one if there are no names."""
    named = " or ".join(names)
    return f"; did you mean {named}?" if named else otherwise
