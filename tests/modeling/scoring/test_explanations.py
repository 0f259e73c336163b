"""Reasons in words."""

import numpy as np

from modeling.scoring.explanations import place, reasons

LINES = ["OIII-5008", "Ha-6564", "NII-6585", "SII-6718"]
VELOCITY = np.linspace(-300, 300, 7)


def residuals(size: int = 15) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((len(LINES), size, size)), np.zeros((len(LINES), len(VELOCITY)))


def test_line_sign_place_and_velocity_are_named() -> None:
    by_place, by_sample = residuals()
    by_place[0, 11, 3] = 30.0  # four spaxels up and four to the left: north-east
    by_sample[0, 6] = 9.0
    assert reasons(by_place, by_sample, LINES, VELOCITY, 0.5, north_up=True) == [
        "OIII-5008 excess, 2.8 arcsec NE of the centre, +300 km/s"
    ]
    # Where the orientation of the survey's cubes is not known, a place has no direction.
    assert reasons(by_place, by_sample, LINES, VELOCITY, 0.5) == [
        "OIII-5008 excess, 2.8 arcsec from the centre, +300 km/s"
    ]


def test_the_most_significant_comes_first_and_noise_gives_no_reason() -> None:
    by_place, by_sample = residuals()
    by_place[1, 7, 7], by_place[2, 7, 12], by_place[3] = -80.0, 40.0, 0.3
    found = reasons(by_place, by_sample, LINES, VELOCITY, north_up=True)
    assert [text.split(",")[0] for text in found] == ["Ha-6564 deficit", "NII-6585 excess"]
    assert "at the centre" in found[0]
    assert "5.0 spaxels W of the centre" in found[1]


def test_one_sample_a_line_has_no_velocity() -> None:
    by_place, _ = residuals()
    by_place[1, 7, 7] = 50.0
    assert reasons(by_place, np.ones((4, 1)), LINES, np.zeros(1)) == ["Ha-6564 excess, at the centre"]


def test_all_octants() -> None:
    centre = 7
    found = [
        place(centre + dy, centre + dx, (15, 15), None, north_up=True).split()[2]
        for dy, dx in ((0, 5), (5, 5), (5, 0), (5, -5), (0, -5), (-5, -5), (-5, 0), (-5, 5))
    ]
    assert found == ["W", "NW", "N", "NE", "E", "SE", "S", "SW"]
