"""The message of a galaxy in fewer bytes, for a file that holds many: cubes in units of their noise, maps in 16 bits.

Random digits below the noise do not compress, and are most of a float. Flux and reconstruction are therefore rounded to
an eighth of each sample's standard deviation, and the standard deviation to 1%. `client/pack.js` restores float32.
"""

from typing import Any

import numpy as np

from jobs.page.pack import pack, unpack

STEP_SIGMA = 1 / 8  # rounding is then at most 1/16 sigma, which a band of 1 sigma hides
LOG_STEP = 0.01
LARGEST = 2**15 - 1
MISSING = -(2**15)
HALF_RANGE = 2.0**15  # float16 ends at 65504


def compact(message: bytes) -> bytes:
    """The message of `galaxy_message` with rounded arrays.

    Summed spectra stay as they are. Maps are float16 times a scale: 11 significant bits. The metadata get `rounding`:
    the largest error of flux and reconstruction in sigma, and that of sigma as a share.
    """
    meta, arrays = unpack(message)
    error = arrays["error"]
    packed: dict[str, np.ndarray] = {}
    decoding: dict[str, dict[str, Any]] = {}
    packed["error"], decoding["error"] = _log_steps(error)
    coarse = restored(packed["error"], decoding["error"])  # as the reader has it
    for name in ("flux", "reconstruction"):
        packed[name], decoding[name] = _sigma_steps(arrays[name], coarse)
    for name, values in arrays.items():
        if name.startswith("sum_"):
            packed[name] = values
        elif name not in packed:
            packed[name], decoding[name] = _half(values)
    largest = max(decoding[name]["step"] for name in ("flux", "reconstruction"))
    return pack(meta | {"rounding": {"flux_sigma": largest / 2, "error_share": LOG_STEP / 2}}, packed, decoding)


def restored(values: np.ndarray, decoding: dict[str, Any], error: np.ndarray | None = None) -> np.ndarray:
    """The float32 array that `client/pack.js` makes of a packed one; `error` for arrays in units of it."""
    if "log_step" in decoding:
        return np.where(values == MISSING, np.nan, np.exp(values * decoding["log_step"])).astype(np.float32)
    if "step" in decoding:
        assert error is not None
        return (values * np.float32(decoding["step"]) * error).astype(np.float32)
    return values.astype(np.float32) * np.float32(decoding.get("scale", 1.0))


def _log_steps(error: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    good = np.isfinite(error)
    steps = np.rint(np.log(np.where(good, error, 1)) / LOG_STEP)
    return np.where(good, steps, MISSING).astype(np.int16), {"log_step": LOG_STEP, "planes": True}


def _sigma_steps(values: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Multiples of a step in sigma; 0 where `error` is NaN, which makes the product NaN again."""
    ratio = np.divide(values, error, out=np.zeros(values.shape), where=np.isfinite(error), dtype=np.float64)
    step = max(STEP_SIGMA, float(np.abs(ratio).max(initial=0)) / LARGEST)
    return np.rint(ratio / step).astype(np.int16), {"step": step, "of": "error", "planes": True}


def _half(values: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0))
    scale = largest / HALF_RANGE or 1.0
    return (values / np.float32(scale)).astype(np.float16), {"scale": scale, "planes": True}
