"""Functions that the modules with kernels in Triton share."""

import functools
import importlib.util


@functools.cache
def has_triton() -> bool:
    """Whether Triton is installed."""
    return importlib.util.find_spec("triton") is not None


def power_of_two(number: int) -> int:
    """The least power of two that is not below a positive number: the sizes of Triton's blocks."""
    return 1 << (number - 1).bit_length()
