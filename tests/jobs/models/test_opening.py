"""Which windows a model may score."""

from types import SimpleNamespace
from typing import Any

import pytest

from jobs.models.opening import differing_windows


@pytest.mark.parametrize(
    ("trained_on", "stored", "differing"),
    [
        ((2, 1.0), (5, 1.0), []),  # MaNGA's spaxels and MUSE's, binned to the same size
        ((2, 1.0), (2, 0.4), ["spaxel_arcsec is 0.4, the model was trained on 1.0"]),
        ((2, None), (2, 0.4), []),  # a model of an earlier version
        ((2, 1.0), (2, None), []),
        ((2, None), (5, 1.0), ["prepare.windows.bin_factor is 5, the model was trained on 2"]),
    ],
)
def test_spaxels_are_compared_in_arcsec_where_sizes_are_known(
    trained_on: tuple[int, float | None], stored: tuple[int, float | None], differing: list[str]
) -> None:
    model, store = (
        {"prepare.windows.bin_factor": factor, "spaxel_arcsec": size} for factor, size in (trained_on, stored)
    )
    of_store: Any = SimpleNamespace(window_settings=store)
    assert differing_windows(model, of_store) == differing
    if model["spaxel_arcsec"] is None:
        del model["spaxel_arcsec"]
        assert differing_windows(model, of_store) == differing
