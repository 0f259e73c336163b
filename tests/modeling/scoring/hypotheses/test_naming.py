import pytest

from modeling.scoring.hypotheses.naming import width


@pytest.mark.parametrize(
    ("fwhm", "error", "text"),
    [
        (0.0, 11.2, "unresolved (below 47 km/s)"),
        (40.0, 6.0, "unresolved (below 52 km/s)"),
        (60.0, 84.0, "unresolved (below 230 km/s)"),
        (0.0, 0.1, "unresolved (below 47 km/s)"),
        (310.0, 18.0, "FWHM 310 ± 18 km/s"),
        (1234.0, 84.0, "FWHM 1,230 ± 80 km/s"),
        (500.0, float("inf"), "FWHM about 500 km/s"),
    ],
)
def test_a_width_that_is_not_resolved_is_an_upper_limit(fwhm: float, error: float, text: str) -> None:
    assert width(fwhm, error) == text
