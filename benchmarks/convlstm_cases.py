"""What the contenders of `benchmarks.convlstm` work on, and how they are asked to; numpy alone, for all have that."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class Case:
    """A sequence and the layers that it goes through.

    Attributes:
        name: of the case.
        steps: of the sequence.
        batch: sequences.
        size: pixels a side of the first layer's input.
        widths: channels of the input and of each layer's state.
        stride: of every layer.
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
        """Of each layer [4 H, C + H, 3, 3], rows in the order of the gates i, f, o, g, and the biases."""
        rng = np.random.default_rng(1)
        layers = []
        for channels, hidden in zip(self.widths, self.widths[1:], strict=False):
            limit = 1 / np.sqrt(9 * (channels + hidden))
            weight = rng.uniform(-limit, limit, (4 * hidden, channels + hidden, 3, 3)).astype(np.float32)
            bias = np.repeat(np.array([0, 1, 0, 0], np.float32), hidden)
            layers.append((weight, bias))
        return layers

    def products(self) -> float:
        """Multiplications and additions of a training step's convolutions, done one by one: forward, and twice back."""
        total, size = 0.0, self.size
        for channels, hidden in zip(self.widths, self.widths[1:], strict=False):
            size //= self.stride
            total += 3 * 2 * 9 * 4 * hidden * (channels + hidden) * size**2 * self.steps * self.batch
        return total

    def to_json(self) -> str:
        """For the command line of a contender."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Case":
        """The inverse."""
        values = json.loads(text)
        return cls(**values | {"widths": tuple(values["widths"])})


# The first two are one layer each; the others are the three layers of the models' encoders.
CASES = (
    Case("line", 19, 8, 32, (10, 32), 1),
    Case("paper", 190, 8, 16, (16, 16), 1),
    Case("line-stack", 19, 8, 32, (16, 16, 16, 16), 2),
    Case("paper-stack", 190, 8, 32, (16, 16, 16, 16), 2),
)


# Processor time is a fair measure on a machine that is busy with something else, if there is one thread only: threads
# that wait for one another do so actively.
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def serve(check: dict[str, float], step: Callable[[], float]) -> None:
    """Says that a contender is ready, with the figures of its first step, then does one for each line that it is sent.

    Args:
        check: what the step computed, for comparison among contenders.
        step: a training step; returns its seconds.
    """
    print(json.dumps(check), flush=True)
    for _ in sys.stdin:
        print(step(), flush=True)
