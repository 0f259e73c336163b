"""Weights that a network takes over from another one, made for windows of another size or for more lines.

Only exact transfers are allowed: weights of other shapes are refused, and so is an autoencoder for windows of another
size, since its latent is made from the pixels. The map that a masked network adds to the features of each spaxel is
interpolated: at both sizes it describes a window with the galaxy in its middle. A masked network without a recurrence
treats a missing line like a masked one, so weights for more lines contain those for fewer. Weights of an earlier
version, which did not see the noise, ignore it at first.

Shapes: C channels, D latent, L lines, S samples of a line, Y and X spaxels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from modeling.network.masked_network import COARSE, MaskedPredictor
from modeling.network.normalisation import WindowNetwork

# Arguments that may differ: they shape no weights, or only those that `take_weights` adapts.
FREE = {
    "MaskedPredictor": {"size", "hidden_side", "groups", "num_lines", "sees_noise"},
    "ConvLSTMAutoencoder": {"gradient_checkpoint_steps", "num_lines"},
}
# Keys that decide the shape of windows, by the network's attribute, in the order of `WindowStore.shape`.
WINDOW_KEYS = {
    "num_lines": "prepare.windows.lines", "num_samples": "prepare.windows.num_samples", "size": "prepare.windows.size"
}  # fmt: skip
# Keys of the configuration that set arguments; the others are those of `model` with the same name.
KEYS = WINDOW_KEYS | {"variational": "model.kind"}
LINES = WINDOW_KEYS["num_lines"]
# First letters of the names of the last layers' weights: all that stands between features and samples.
LAST_LAYERS = {
    "MaskedPredictor": ("to_samples.", "to_modes.", "lines.to_samples.", "to_coarse."),
    "ConvLSTMAutoencoder": (
        *("decoder.last.", "decoder.upsampling.last.", "to_gain."),
        *("spaxels.to_samples.", "spaxels.linear_samples."),
    ),
}


def take_weights(
    model: WindowNetwork, start: WindowNetwork, names: Sequence[str] = (), start_names: Sequence[str] = ()
) -> None:
    """Replaces the weights of a network by those of another one.

    Args:
        model: network whose weights are replaced.
        start: network that gives them.
        names: lines of `model`.
        start_names: lines of `start`.

    Raises:
        ValueError: the networks differ in more than can be taken over; the message lists all of it.
    """
    mistakes = _differences(model, start) or _line_mistakes(model, start, names, start_names)
    if mistakes:
        raise ValueError("; ".join(mistakes))
    weights = dict(start.state_dict())
    if isinstance(start, MaskedPredictor):
        side = model.size, model.size
        weights["place_CYX"] = functional.interpolate(weights["place_CYX"][None], side, mode="bilinear")[0]
        if isinstance(model, MaskedPredictor) and model.sees_noise and not start.sees_noise:
            weights["first.weight"] = functional.pad(weights["first.weight"], (0, 0, 0, 0, 0, start.num_lines))
        if list(names) != list(start_names):
            weights |= _of_lines(weights, [list(start_names).index(name) for name in names], start)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(str(error)) from error


def freeze_all_but_last(model: WindowNetwork) -> None:
    """Freezes all weights but those of the last layers."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith(LAST_LAYERS[type(model).__name__])


def _differences(model: WindowNetwork, start: WindowNetwork) -> list[str]:
    """Arguments that differ, by their keys in the configuration, with both values."""
    if _kind(model) != _kind(start):
        return [f"model.kind: it is {_kind(start)}, here it is {_kind(model)}"]
    return [
        f"{KEYS.get(name, f'model.{name}')}: it has {start.arguments.get(name)}, here it is {value}"
        for name, value in model.arguments.items()
        if name not in FREE[type(model).__name__] and value != start.arguments.get(name)
    ]


def _kind(network: WindowNetwork) -> str:
    """Value of `model.kind` that makes such a network."""
    if isinstance(network, MaskedPredictor):
        return "masked"
    return "vae" if network.arguments.get("variational") else "ae"


def _line_mistakes(
    model: WindowNetwork, start: WindowNetwork, names: Sequence[str], start_names: Sequence[str]
) -> list[str]:
    if list(names) == list(start_names):
        return (
            [] if model.num_lines == start.num_lines else [f"{LINES}: it has {start.num_lines}, not {model.num_lines}"]
        )
    unknown = [name for name in names if name not in start_names]
    if unknown:
        return [f"{LINES}: it has none of {', '.join(unknown)} among {', '.join(start_names) or 'lines without names'}"]
    if not isinstance(start, MaskedPredictor) or start.lines is not None:
        of = "a recurrence over the lines" if isinstance(start, MaskedPredictor) else "an autoencoder"
        return [
            f"{LINES}: it has {', '.join(start_names)}; {of} can only be taken over for the same lines in this order"
        ]
    return []


def _of_lines(weights: dict[str, Tensor], lines: Sequence[int], start: MaskedPredictor) -> dict[str, Tensor]:
    """Weights of the layers that have some of their own for each line, for some of the lines."""
    num_lines, num_samples = start.num_lines, start.num_samples
    first = weights["first.weight"]
    # Samples of all lines, the share of each line that is seen, the share of the spaxel, and the noise of each line.
    samples_CF, shares_CL, covered_C1, noise_CL = first.split([num_lines * num_samples, num_lines, 1, num_lines], dim=1)
    chosen, kept = _rows(lines, num_samples), list(lines)
    found = {"first.weight": torch.cat([samples_CF[:, chosen], shares_CL[:, kept], covered_C1, noise_CL[:, kept]], 1)}
    rows = {"to_samples": _rows(lines, 2 * num_samples), "to_coarse": _rows(lines, num_samples * COARSE**2)}
    if start.to_modes is not None:  # all lines of the first mode, then all of the next
        modes = torch.arange(start.arguments["error_modes"])[:, None] * num_lines * num_samples
        rows["to_modes"] = (modes + chosen).flatten()
    for layer, of_layer in rows.items():
        found |= {f"{layer}.{name}": weights[f"{layer}.{name}"][of_layer] for name in ("weight", "bias")}
    return found


def _rows(lines: Sequence[int], per_line: int) -> Tensor:
    return (torch.tensor(lines)[:, None] * per_line + torch.arange(per_line)).flatten()
