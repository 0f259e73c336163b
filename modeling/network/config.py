"""Section `model` of the configuration: the network."""

from typing import Any, Literal

from pydantic import Field

from cubeprep.config import Config

# The encoder halves the side of a window three times.
SIZE_MULTIPLE = 8


class ModelConfig(Config):
    """The autoencoder.

    The paper's values: `steps: sample`, `normalise: none`, `latent_dim: 512`, `mask_input: false`, `shortcut: false`,
    `own_step_weights: true`, `spaxel_code: 0`.
    """

    kind: Literal["ae", "vae"] = Field("ae", description="Autoencoder or variational autoencoder")
    latent_dim: int = Field(64, ge=1, description="Dimensions of the latent of a galaxy")
    steps: Literal["line", "sample"] = Field(
        "line", description="One step of the recurrence: all samples of a line, or one sample (the paper)"
    )
    normalise: Literal["asinh", "scale", "none"] = Field(
        "asinh", description="Normalisation of flux: divided by each galaxy's scale, with or without asinh, or none"
    )
    step_channels: int = Field(16, ge=1, description="Channels of the two convolution blocks before the recurrence")
    lstm_channels: int = Field(16, ge=1, description="Hidden channels of each of the three ConvLSTM layers")
    decoder_channels: int = Field(16, ge=1, description="Channels of each step in the decoder")
    mask_input: bool = Field(True, description="Whether the network sees which samples are good")
    shortcut: bool = Field(
        True,
        description="Whether coarse means of the images feed the latent directly, and the latent sets gains of the "
        "images; not in the paper",
    )
    own_step_weights: bool = Field(
        False, description="Whether each step has its own weights in the two convolution blocks, as in the paper"
    )
    bidirectional: bool = Field(False, description="Whether the recurrence also runs from the last step to the first")
    decoder: Literal["own", "embedding", "convlstm"] = Field(
        "own",
        description="Decoder weights: own for each step (the paper), or shared with an embedding of the step, without "
        "or with a ConvLSTM over the steps",
    )
    gradient_checkpoint_steps: int | None = Field(
        None,
        ge=1,
        description="Keep activations only every so many steps: less memory, a third more time; default: keep all",
    )
    spaxel_code: int = Field(
        8, ge=0, description="Numbers that encode the spectrum of each spaxel, for scores; 0 for no spaxel code"
    )

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
