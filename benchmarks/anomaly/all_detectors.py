"""Registry of all detectors: those of the benchmark, and those of modules elsewhere."""

import importlib
import os
from collections.abc import Sequence

from benchmarks.anomaly.detectors import (  # noqa: F401 - they register themselves
    classical,
    conv,
    factorisation,
    networks,
    outliers,
    physical,
    plain_masked,
    spectra,
    triaged,
)
from benchmarks.anomaly.detectors.detector import DETECTORS, Detector

# Environment variable with further modules of detectors, separated by commas. Workers inherit it.
MODULES_VARIABLE = "CUBESCOUT_DETECTORS"


def load_detectors() -> dict[str, type[Detector]]:
    """All detectors by name, in a fixed order: those of the benchmark, then those of the modules elsewhere.

    Raises:
        ModuleNotFoundError: there is no such module.
    """
    for module in filter(None, os.environ.get(MODULES_VARIABLE, "").split(",")):
        importlib.import_module(module)
    return DETECTORS


def use_modules(modules: Sequence[str]) -> None:
    """Makes `load_detectors` import these modules too, in this process and in those that it starts."""
    os.environ[MODULES_VARIABLE] = ",".join(modules)
