"""Section `model`: the network."""

from typing import Any, Literal

from pydantic import Field

from cubeprep.config import Config


class ModelConfig(Config):
    """The autoencoder.

    The paper's: `steps: sample`, `normalise: none`, `latent_dim: 512`, `mask_input: false`, `shortcut: false`,
    `own_step_weights: true`, `spaxel_code: 0`.
    """

    kind: Literal["ae", "vae"] = "ae"
    latent_dim: int = Field(64, ge=1)
    steps: Literal["line", "sample"] = "line"  # one step of the recurrence: a line's samples, or one sample (the paper)
    normalise: Literal["asinh", "scale", "none"] = "asinh"  # of the flux, by a scale of each galaxy
    step_channels: int = Field(16, ge=1)  # of the two convolution blocks before the recurrence
    lstm_channels: int = Field(16, ge=1)  # hidden channels of each of the three ConvLSTM layers
    decoder_channels: int = Field(16, ge=1)  # of each step's own decoder
    mask_input: bool = True  # whether the network sees which samples are good
    shortcut: bool = True  # coarse means straight to the latent, and gains straight to the lines; off in the paper
    own_step_weights: bool = False  # of the encoder's two convolution blocks: each step's own, as in the paper
    bidirectional: bool = False  # whether the recurrence also runs from the last step to the first
    decoder: Literal["own", "embedding", "convlstm"] = "own"  # weights of each step's own (the paper), or shared
    gradient_checkpoint_steps: int | None = Field(None, ge=1)  # less memory in training, for a third more time
    spaxel_code: int = Field(8, ge=0)  # numbers for the spectrum of each spaxel, which scores then look at; 0 for none

    def arguments(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        """Keyword arguments of `ConvLSTMAutoencoder` for windows of (lines, samples, spaxels a side)."""
        num_lines, num_samples, size = shape
        return {
            "num_lines": num_lines,
            "num_samples": num_samples,
            "size": size,
            "variational": self.kind == "vae",
            **self.model_dump(exclude={"kind"}),
        }
