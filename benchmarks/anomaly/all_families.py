"""Registry of all families of injections."""

from benchmarks.anomaly import anomalies, artefacts, nuisances  # noqa: F401 - they register themselves
from benchmarks.anomaly.families import FAMILIES, Family


def load_families() -> dict[str, Family]:
    """All families by name, in a fixed order."""
    return FAMILIES
