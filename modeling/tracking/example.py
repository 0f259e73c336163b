"""Example kept with each registered model: windows of a synthetic galaxy, and the model's output for them.

MLflow's own input examples are JSON, 5 MB for one galaxy; this is a compressed file of 0.1 MB.
"""

from pathlib import Path

import numpy as np

from modeling.network.inference import infer
from modeling.network.normalisation import WindowNetwork

FILE = "example.npz"
# Values are rounded to multiples of this, so that they compress; a power of two, which float32 holds exactly.
STEP = 1 / 64


def example_windows(num_lines: int, num_samples: int, size: int) -> dict[str, np.ndarray]:
    """Windows of a round galaxy in noise: `flux`, `ivar` and `mask` [1, line, sample, y, x], some samples masked."""
    rng = np.random.default_rng(0)
    sample, y, x = (np.arange(n) - (n - 1) / 2 for n in (num_samples, size, size))
    profile = np.exp(-0.5 * (sample / max(num_samples / 5, 1)) ** 2)[:, None, None]
    image = np.exp(-0.5 * (y[:, None] ** 2 + x**2) / (size / 6) ** 2)
    strength = rng.uniform(0.2, 1, (num_lines, 1, 1, 1))
    flux = 4 * strength * profile * image + rng.normal(0, 0.05, (num_lines, num_samples, size, size))
    mask = np.zeros(flux.shape, np.uint8)
    mask[:, :, :2] = 1
    flux = np.where(mask == 0, np.round(flux / STEP) * STEP, np.nan).astype(np.float32)
    ivar = np.where(mask == 0, 400, 0).astype(np.float32)
    return {"flux": flux[None], "ivar": ivar[None], "mask": mask[None]}


def write_example(model: WindowNetwork, directory: Path) -> Path:
    """Writes the example with the model's output for it; returns the file's path."""
    windows = example_windows(model.num_lines, model.num_samples, model.size)
    inference = infer(model, windows["flux"], windows["ivar"], windows["mask"])
    np.savez_compressed(directory / FILE, allow_pickle=False, **windows, score=inference.mae, latent=inference.latent)
    return directory / FILE
