"""Smaller messages of galaxies for the exported file: cubes in units of their noise, maps in 16 bits.

Most digits of a float are below the noise, and such random digits do not compress. Flux and reconstruction are
therefore rounded to an eighth of each sample's standard deviation, and the standard deviation to 1%. `client/pack.js`
restores float32.
"""

from typing import Any

import numpy as np

from jobs.page.pack import pack, unpack

STEP_SIGMA = 1 / 8  # the error is then at most 1/16 sigma, invisible beside the plotted band of 1 sigma
LOG_STEP = 0.01
LARGEST = 2**15 - 1
MISSING = -(2**15)
HALF_RANGE = 2.0**15  # the largest float16 is 65504


def compact(message: bytes) -> bytes:
    """Message of a galaxy with rounded arrays.

    Summed spectra are unchanged. Maps are float16 times a scale, with 11 significant bits. The metadata gain
    `rounding`: the largest error of flux and reconstruction in sigma (`flux_sigma`), and that of sigma as a fraction
    (`error_share`).

    Args:
        message: message of `galaxy_message`.
    """
    meta, arrays = unpack(message)
    error = arrays["error"]
    packed: dict[str, np.ndarray] = {}
    decoding: dict[str, dict[str, Any]] = {}
    packed["error"], decoding["error"] = _log_steps(error)
    coarse = restored(packed["error"], decoding["error"])  # as the page restores it
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
    """Array, float32, that `client/pack.js` restores from a packed one; used to measure the rounding.

    Args:
        values: packed array.
        decoding: its item of the message, which describes the rounding.
        error: restored standard deviation, for arrays in units of it.
    """
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
    """Values in multiples of a step in sigma; 0 where `error` is NaN, which makes the restored product NaN."""
    ratio = np.divide(values, error, out=np.zeros(values.shape), where=np.isfinite(error), dtype=np.float64)
    step = max(STEP_SIGMA, float(np.abs(ratio).max(initial=0)) / LARGEST)
    return np.rint(ratio / step).astype(np.int16), {"step": step, "of": "error", "planes": True}


def _half(values: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0))
    scale = largest / HALF_RANGE or 1.0
    return (values / np.float32(scale)).astype(np.float16), {"scale": scale, "planes": True}
