"""Model that comes with the package under the name `pretrained`, trained on simulated galaxies as its card states.

`python -m benchmarks.pretrained` makes it: `model.safetensors` and `model.json` of a model, and `card.json` with the
galaxies, lines and windows that it was trained on.
"""

import json
from pathlib import Path
from typing import Any

from modeling.network.checkpoint import CheckpointError

PRETRAINED = "pretrained"
FOLDER = Path(__file__).parents[1] / PRETRAINED
MAX_BYTES = 6_000_000


def pretrained_folder() -> Path:
    """Directory of the model that comes with the package.

    Raises:
        CheckpointError: this version has none.
    """
    if not (FOLDER / "model.json").is_file():
        raise CheckpointError("no pretrained model in this version: name a registered model or a model's folder")
    return FOLDER


def read_card() -> dict[str, Any]:
    """Content of `card.json`.

    Raises:
        CheckpointError: there is no pretrained model, or its card cannot be read.
    """
    path = pretrained_folder() / "card.json"
    try:
        card = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(card, dict):
        raise CheckpointError(f"{path}: expected a mapping, found {card!r:.60}")
    return card
