"""Registry of all detectors."""

from benchmarks.anomaly.detectors import (  # noqa: F401 - they register themselves
    classical,
    conv,
    factorisation,
    networks,
    outliers,
    physical,
    spectra,
    triaged,
)
from benchmarks.anomaly.detectors.detector import DETECTORS, Detector


def load_detectors() -> dict[str, type[Detector]]:
    """All detectors by name, in a fixed order."""
    return DETECTORS
