"""Models and training states on disk, without pickle: weights as safetensors, everything else as JSON.

A model is a directory with `model.safetensors` and `model.json` (format version, architecture, metadata such as line
names). A training checkpoint is such a directory with `optimizer.safetensors`, `training.json` and the best model so
far in `best/`.
"""

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from torch import nn

from cubeprep.files import replacing
from modeling.network.autoencoder import ConvLSTMAutoencoder
from modeling.network.masked_network import MaskedPredictor
from modeling.network.normalisation import WindowNetwork

FORMAT = "cubescout-model"
FORMAT_VERSION = 2
# Prefixes of the names of weights in version 1, and those of version 2 in their place.
SINCE_VERSION_1 = {
    **{f"encoder.{name}": f"encoder.blocks.{name}" for name in ("first", "second", "offset_TC")},
    "decoder.to_gain": "to_gain",
}
TRAIN_AGAIN = "Delete this training's folder and run `cubescout train` again."
LARGEST_ARGUMENT = 65_536  # lines, samples, spaxels, channels
METADATA_KINDS: dict[str, Any] = {"line_names": list[str], "window_settings": dict, "store_identity": str}
ARCHITECTURES: dict[str, type[WindowNetwork]] = {
    "ConvLSTMAutoencoder": ConvLSTMAutoencoder,
    "MaskedPredictor": MaskedPredictor,
}


class CheckpointError(ValueError):
    """No model in a directory, or one that this version cannot read."""


def save_model(
    directory: Path,
    model: WindowNetwork,
    metadata: dict[str, Any],
    *,
    weights: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Writes a model; `model.json` comes last, so a directory that has one is complete.

    Args:
        directory: created if it does not exist.
        model: the model.
        metadata: JSON values, such as line names.
        weights: in place of the model's own, such as those of an earlier epoch.
    """
    import safetensors.torch

    directory.mkdir(parents=True, exist_ok=True)
    # Memory layout is not part of the format: every reader expects contiguous tensors.
    tensors = model.state_dict() if weights is None else weights
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomic(directory / "model.safetensors", safetensors.torch.save(plain))
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "architecture": type(model).__name__,
        "arguments": model.arguments,
        "metadata": metadata,
    }
    write_json(directory / "model.json", description)


def load_model(directory: Path, device: str | torch.device = "cpu") -> tuple[WindowNetwork, dict[str, Any]]:
    """Model in evaluation mode, and its metadata, from a directory.

    Raises:
        CheckpointError: the directory holds no model, one of another format, or weights that do not fit it.
    """
    description = _read_description(directory)
    architecture = ARCHITECTURES[description["architecture"]]
    _check_arguments(architecture, directory, description)
    model = architecture(**description["arguments"])
    load_weights(model, directory)
    return model.to(device).eval(), description["metadata"]


def load_weights(model: nn.Module, directory: Path) -> None:
    """Loads the weights of a saved model into `model`.

    Raises:
        CheckpointError: the weights cannot be read, or do not fit the model.
    """
    import safetensors
    import safetensors.torch

    path = directory / "model.safetensors"
    try:
        tensors = safetensors.torch.load_file(path)
        if _read_description(directory)["format_version"] == 1:
            tensors = {_since_version_1(name): tensor for name, tensor in tensors.items()}
        model.load_state_dict(tensors)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: no readable safetensors file ({error})") from error
    except RuntimeError as error:
        raise CheckpointError(f"{path}: these weights do not fit the model: {error}") from error


def save_optimizer(path: Path, optimizer: torch.optim.Optimizer) -> None:
    """Writes an optimizer's tensors as safetensors, `<parameter index>.<name>`; its options come from the config."""
    import safetensors.torch

    state = optimizer.state_dict()["state"]
    tensors = {
        f"{index}.{name}": torch.as_tensor(value).detach().cpu().contiguous()
        for index, values in state.items()
        for name, value in values.items()
        if value is not None
    }
    write_atomic(path, safetensors.torch.save(tensors))


def load_optimizer(path: Path, optimizer: torch.optim.Optimizer) -> None:
    """Loads saved tensors into a new optimizer of the same model.

    Raises:
        CheckpointError: the file cannot be read, or belongs to another model's optimizer.
    """
    import safetensors
    import safetensors.torch

    try:
        tensors = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: no readable safetensors file ({error})") from error
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if any(index >= len(parameters) for index in state):
        raise CheckpointError(f"{path}: made for more parameters than the {len(parameters)} of this model")
    for index, values in state.items():
        for name, value in values.items():
            if not value.ndim:  # the number of steps
                continue
            if value.shape != parameters[index].shape:
                found, expected = list(value.shape), list(parameters[index].shape)
                raise CheckpointError(f"{path}: {name} of parameter {index} is {found}, the parameter {expected}")
            # Fused optimizers need the order in memory of the parameter: with another, they fail on a GPU, and on a CPU
            # silently mix up the elements.
            values[name] = torch.empty_like(parameters[index], dtype=value.dtype, device="cpu").copy_(value)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def weights_digest(model: nn.Module) -> str:
    """sha256 of a model's weights: names, types, shapes and values, whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def read_training_state(directory: Path) -> dict[str, Any]:
    """Content of `training.json` of a training checkpoint.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    path = directory / "training.json"
    kinds: dict[str, Any] = {"history": list, "best": dict, "step": int, "means": dict}
    try:
        state = json.loads(path.read_text())
        found = {name: state[name] for name in kinds}
        wrong = [name for name, kind in kinds.items() if not isinstance(found[name], kind)]
        wrong += [] if all(isinstance(epoch, dict) for epoch in found["history"]) else ["history"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: no state of a training ({error!r}). {TRAIN_AGAIN}") from error
    if wrong:
        raise CheckpointError(f"{path}: {wrong[0]} is {found[wrong[0]]!r:.60}. {TRAIN_AGAIN}")
    return dict(state)


def write_json(path: Path, value: Any) -> None:
    """Writes a value as JSON: whole or not at all."""
    write_atomic(path, (json.dumps(value, indent=2) + "\n").encode())


def write_atomic(path: Path, content: bytes) -> None:
    """Writes a file that is either there as a whole or not at all."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def _read_description(directory: Path) -> dict[str, Any]:
    path = directory / "model.json"
    try:
        description = json.loads(path.read_text())
    except FileNotFoundError as error:
        found = sorted(entry.name for entry in directory.iterdir()) if directory.is_dir() else []
        holds = f"it holds {', '.join(found[:5])}" if found else "it is empty or not there"
        raise CheckpointError(f"{directory}: no Cubescout model here (no model.json; {holds})") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not of the format {FORMAT}")
    found_version = description.get("format_version")
    if found_version not in (1, FORMAT_VERSION):
        raise CheckpointError(f"{path}: format version {found_version}, this version reads 1 and {FORMAT_VERSION}")
    if not isinstance(description.get("architecture"), str) or description["architecture"] not in ARCHITECTURES:
        raise CheckpointError(f"{path}: unknown architecture {description.get('architecture')!r}")
    for name in ("arguments", "metadata"):
        if not isinstance(description.get(name), dict):
            raise CheckpointError(f"{path}: {name} is {description.get(name)!r:.60}, expected a mapping")
    for name, kind in METADATA_KINDS.items():
        value = description["metadata"].get(name)
        if value is not None and not _is_of(value, kind):
            raise CheckpointError(f"{path}: metadata.{name} is {value!r:.60}, expected {_spelled(kind)}")
    return description


def _check_arguments(architecture: type[nn.Module], directory: Path, description: Mapping[str, Any]) -> None:
    """Checks the arguments of a model against its weights, before memory is allocated for them.

    Raises:
        CheckpointError: an argument is unknown, missing or of the wrong type, or they make a model of other shapes.
    """
    path, arguments = directory / "model.json", description["arguments"]
    known = inspect.signature(architecture).parameters
    kinds = get_type_hints(architecture.__init__)
    for name, value in arguments.items():
        if name not in known:
            raise CheckpointError(f"{path}: unknown argument {name}")
        if not _is_of(value, kinds[name]):
            raise CheckpointError(f"{path}: {name} is {value!r:.60}, expected {_spelled(kinds[name])}")
    try:
        with torch.device("meta"):  # without memory
            made = {name: list(tensor.shape) for name, tensor in architecture(**arguments).state_dict().items()}
    except (TypeError, ValueError, RuntimeError, ArithmeticError, IndexError) as error:
        cause = str(error).replace(f"{architecture.__name__}.__init__() ", "").partition("\n")[0]
        raise CheckpointError(f"{path}: these arguments make no model: {cause}") from error
    kept = _shapes(directory / "model.safetensors", description["format_version"])
    differing = [name for name in {**made, **kept} if made.get(name) != kept.get(name)]
    if differing:
        name = differing[0]
        found = f"{name} is {kept.get(name, 'missing')} in model.safetensors, expected {made.get(name, 'none')}"
        raise CheckpointError(f"{path}: the weights do not fit the model of its arguments: {found}")


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a JSON value is of a type annotation; counts must be small enough for a network."""
    options = get_args(kind)
    if get_origin(kind) is Literal:
        return value in options
    if get_origin(kind) in (list, tuple, Sequence):
        return isinstance(value, list | tuple) and all(_is_of(item, options[0]) for item in value)
    if options:  # a union
        return any(_is_of(value, option) for option in options)
    if kind is int:
        return type(value) is int and 0 <= value <= LARGEST_ARGUMENT
    return isinstance(value, kind)


def _spelled(kind: Any) -> str:
    if get_origin(kind) in (list, tuple, Sequence):
        return f"a list of {_spelled(get_args(kind)[0])}"
    if get_args(kind):
        return " or ".join(option if isinstance(option, str) else _spelled(option) for option in get_args(kind))
    whole = f"a whole number up to {LARGEST_ARGUMENT}"
    names: dict[Any, str] = {int: whole, bool: "true or false", type(None): "null", str: "text", dict: "a mapping"}
    return names.get(kind, str(kind))


def _shapes(path: Path, version: int) -> dict[str, list[int]]:
    """Shapes of the weights in a file, by their present names."""
    import safetensors

    try:
        with safetensors.safe_open(path, "pt") as file:
            found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: no readable safetensors file ({error})") from error
    return {_since_version_1(name): shape for name, shape in found.items()} if version == 1 else found


def _since_version_1(name: str) -> str:
    old = next((old for old in SINCE_VERSION_1 if name.startswith(old)), "")
    return SINCE_VERSION_1.get(old, "") + name.removeprefix(old)
