"""Words of messages."""


def counted(number: int, noun: str) -> str:
    """A number with its noun, such as `1 galaxy` and `2 galaxies`.

    Args:
        number: of things.
        noun: in the singular, possibly with words before it; its plural ends in s, or in ies for y.
    """
    if number == 1:
        return f"{number} {noun}"
    return f"{number} {noun.removesuffix('y')}ies" if noun.endswith("y") else f"{number} {noun}s"
