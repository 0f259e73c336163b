"""Cases of `benchmarks.convlstm` and the protocol of its contenders; needs numpy alone."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

# Products of the kernel for a pixel of the state and a channel of the input, with a stride of 2.
STRIDED_PRODUCTS = 5.1


@dataclass(frozen=True)
class Case:
    """A sequence and the layers applied to it.

    Attributes:
        name: name of the case.
        steps: steps of the sequence.
        batch: number of sequences.
        size: side of the first layer's input, pixels.
        widths: channels of the input and of each layer's state.
        stride: stride of every layer.
    """

    name: str
    steps: int
    batch: int
    size: int
    widths: tuple[int, ...]
    stride: int

    def sequence(self) -> np.ndarray:
        """[step, batch, channel, y, x]."""
        shape = (self.steps, self.batch, self.widths[0], self.size, self.size)
        return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)

    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Weights [4 H, C + H, 3, 3] of each layer, rows in the order of the gates i, f, o, g, and biases."""
        rng = np.random.default_rng(1)
        layers = []
        for channels, hidden in zip(self.widths, self.widths[1:], strict=False):
            limit = 1 / np.sqrt(9 * (channels + hidden))
            weight = rng.uniform(-limit, limit, (4 * hidden, channels + hidden, 3, 3)).astype(np.float32)
            bias = np.repeat(np.array([0, 1, 0, 0], np.float32), hidden)
            layers.append((weight, bias))
        return layers

    def products(self) -> float:
        """Multiplications and additions of a training step with direct convolutions: forward, and twice backward."""
        total, size = 0.0, self.size
        for channels, hidden in zip(self.widths, self.widths[1:], strict=False):
            size //= self.stride
            total += 3 * 2 * 9 * 4 * hidden * (channels + hidden) * size**2 * self.steps * self.batch
        return total

    def kernel_products(self) -> float:
        """As `products`, but for the kernel of the CPU: 36 for 16 pixels, see `docs/convlstm.md`."""
        of_state = 36 / 16
        of_input = of_state if self.stride == 1 else STRIDED_PRODUCTS
        total, size = 0.0, self.size
        for channels, hidden in zip(self.widths, self.widths[1:], strict=False):
            size //= self.stride
            each = of_state * hidden + of_input * channels
            total += 3 * 2 * 4 * hidden * each * size**2 * self.steps * self.batch
        return total

    def to_json(self) -> str:
        """The case as JSON, for the command line of a contender."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Case":
        """The inverse of `to_json`."""
        values = json.loads(text)
        return cls(**values | {"widths": tuple(values["widths"])})


# The first two are one layer each; the others are the three layers of the models' encoders.
CASES = (
    Case("line", 19, 8, 32, (10, 32), 1),
    Case("paper", 190, 8, 16, (16, 16), 1),
    Case("line-stack", 19, 8, 32, (16, 16, 16, 16), 2),
    Case("paper-stack", 190, 8, 32, (16, 16, 16, 16), 2),
)


# On a busy machine processor time is a fair measure, but only with one thread: threads that wait for each other spin.
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def serve(check: dict[str, float], step: Callable[[], float]) -> None:
    """Reports the results of the first step, then performs one step for each line received.

    Args:
        check: results of the step, for comparison between contenders.
        step: a training step; returns its seconds.
    """
    print(json.dumps(check), flush=True)
    for _ in sys.stdin:
        print(step(), flush=True)
