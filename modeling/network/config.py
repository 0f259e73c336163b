"""Section `model` of the configuration: the network."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from cubeprep.config import Config
from modeling.network.line_groups import line_groups

# The encoder halves the side of a window three times.
SIZE_MULTIPLE = 8
# Keys that a masked network takes, and those of them that an autoencoder takes too.
SHARED = {"latent_dim", "normalise", "lstm_channels"}
MASKED = SHARED | {"context_channels", "hidden_side", "error_modes"}


class ModelConfig(Config):
    """The network: an autoencoder, plain or variational, or a masked network, which predicts hidden samples.

    The paper's values: `steps: sample`, `normalise: none`, `latent_dim: 512`, `mask_input: false`, `shortcut: false`,
    `own_step_weights: true`, `spaxel_code: 0`.
    """

    kind: Literal["ae", "vae", "masked"] = Field(
        "ae",
        description="Autoencoder, variational autoencoder, or masked network: it predicts lines and spaxels that are "
        "hidden from it, with a variance, and takes latent_dim, normalise, lstm_channels, context_channels, "
        "hidden_side and error_modes only",
    )
    latent_dim: int = Field(64, ge=1, description="Dimensions of the latent of a galaxy")
    steps: Literal["line", "sample"] = Field(
        "line", description="One step of the recurrence: all samples of a line, or one sample (the paper)"
    )
    normalise: Literal["asinh", "scale", "none"] = Field(
        "asinh", description="Normalisation of flux: divided by each galaxy's scale, with or without asinh, or none"
    )
    step_channels: int = Field(16, ge=1, description="Channels of the two convolution blocks before the recurrence")
    lstm_channels: int = Field(
        16,
        ge=0,
        description="Hidden channels of each of the three ConvLSTM layers; of a masked network, of each direction of "
        "its ConvLSTM over the lines, 0 for none",
    )
    context_channels: int = Field(
        64, ge=8, multiple_of=8, description="Channels of the convolutions of a masked network"
    )
    hidden_side: int = Field(
        5,
        ge=1,
        description="Side of the squares that are hidden from a masked network: about twice the FWHM of the "
        "PSF, so that a point source in the middle is hidden with its surroundings",
        json_schema_extra={"unit": "spaxel"},
    )
    error_modes: int = Field(
        0,
        ge=0,
        description="Number of errors that all samples of a spaxel share, such as those of its brightness or velocity, "
        "in the likelihood of a masked network; 0: errors of samples are independent",
    )
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

    @model_validator(mode="after")
    def _autoencoder_is_recurrent(self) -> "ModelConfig":
        if self.kind != "masked" and self.lstm_channels < 1:
            raise ValueError(f"lstm_channels is {self.lstm_channels}: an autoencoder needs at least 1")
        return self

    @property
    def unused(self) -> set[str]:
        """Keys that are no argument of a network of this kind."""
        return {"kind"} | (set(ModelConfig.model_fields) - MASKED if self.kind == "masked" else MASKED - SHARED)

    def arguments(self, shape: tuple[int, int, int], line_names: Sequence[str] = ()) -> dict[str, Any]:
        """Keyword arguments of the network for windows of (lines, samples, spaxels a side).

        Args:
            shape: of the windows.
            line_names: [line], from which a masked network groups the lines; without them each is its own group.
        """
        num_lines, num_samples, size = shape
        windows: dict[str, Any] = {"num_lines": num_lines, "num_samples": num_samples, "size": size}
        if self.kind == "masked":
            names = line_names or [f"{line}-" for line in range(num_lines)]
            own = {"groups": line_groups(names), "sees_noise": True}
            return windows | own | self.model_dump(exclude=self.unused)
        return windows | {"variational": self.kind == "vae"} | self.model_dump(exclude=self.unused)
