"""Ordinary light at the brightness that a place's lines allow."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from modeling.scoring.hypotheses.least_squares import Whitened
from modeling.scoring.hypotheses.ordinary import _least


@pytest.mark.parametrize(("unseen", "expected"), [(1.0, 0.5), (1e308, 0.0)])
def test_a_line_of_which_next_to_nothing_is_seen_allows_no_statement(unseen: float, expected: float) -> None:
    lines = np.array([[1.0, 0.0], [0.0, 0.1]])
    source = Whitened(
        np.array([50.0, 10.0]), np.array([1e-6, 1e-6 * unseen if unseen == 1 else unseen]), np.zeros((2, 1))
    )
    host: Any = SimpleNamespace(strong=np.array([True, True]), flux=np.array([100.0, 100.0]))
    with np.errstate(invalid="raise"):
        assert _least(lines, host, source) == pytest.approx(expected, rel=1e-3)
