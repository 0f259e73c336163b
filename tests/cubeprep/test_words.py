import pytest

from cubeprep.words import counted


@pytest.mark.parametrize(
    ("number", "noun", "expected"),
    [(1, "galaxy", "1 galaxy"), (0, "galaxy", "0 galaxies"), (2, "label", "2 labels"), (1, "GPU", "1 GPU")],
)
def test_a_noun_has_the_number_of_its_count(number: int, noun: str, expected: str) -> None:
    assert counted(number, noun) == expected
