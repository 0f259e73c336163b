"""Heads on disk: plain numbers as JSON, without pickle."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cubeprep.config import MistakeError
from modeling.labels.classes import Features, Head
from modeling.network.checkpoint import write_json

FORMAT: Literal["cubescout-classes"] = "cubescout-classes"
HEAD_FILE = "catalog.classes.json"  # beside the catalog, and moved with it


class HeadError(MistakeError):
    """A file that holds no heads, or heads that do not fit a catalog."""


class _Head(BaseModel):
    model_config = ConfigDict(extra="forbid")

    weight: list[float]
    intercept: float
    strength: float = Field(gt=0)


class HeadFile(BaseModel):
    """Heads of some labels, and the features that they take.

    Attributes:
        model_digest: sha256 of the weights of the model whose latents they take.
        mean: as of `Features`.
        scale: as of `Features`.
        scores: as of `Features`.
        heads: by label.
        quality: by label, of galaxies that their heads have not seen.
        provenance: catalog and labels that they were learned from.
    """

    model_config = ConfigDict(extra="forbid")

    format: Literal["cubescout-classes"] = FORMAT
    format_version: Literal[1] = 1
    model_digest: str
    mean: list[float]
    scale: list[float]
    scores: list[str]
    heads: dict[str, _Head] = Field(min_length=1)
    quality: dict[str, Any] = {}
    provenance: dict[str, Any] = {}

    @model_validator(mode="after")
    def _lengths_agree(self) -> "HeadFile":
        num = len(self.mean) + len(self.scores)
        if len(self.scale) != len(self.mean) or any(len(head.weight) != num for head in self.heads.values()):
            raise ValueError(f"mean, scale and weights do not have one value for each of {num} features")
        return self

    @property
    def features(self) -> Features:
        """The features that the heads take."""
        return Features(np.array(self.mean), np.array(self.scale), tuple(self.scores))

    def head(self, label: str) -> Head:
        """The head of a label."""
        found = self.heads[label]
        return Head(np.array(found.weight), found.intercept, found.strength)


def write_heads(
    path: Path,
    heads: Mapping[str, Head],
    features: Features,
    *,
    model_digest: str,
    quality: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> None:
    """Writes heads; arguments as of `HeadFile`."""
    made = HeadFile(
        model_digest=model_digest,
        mean=features.mean.tolist(),
        scale=features.scale.tolist(),
        scores=list(features.scores),
        heads={
            name: _Head(weight=head.weight.tolist(), intercept=head.intercept, strength=head.strength)
            for name, head in heads.items()
        },
        quality=dict(quality),
        provenance=dict(provenance),
    )
    write_json(path, made.model_dump(mode="json"))


def read_heads(path: Path) -> HeadFile:
    """Heads from a file.

    Raises:
        HeadError: there is no such file, or it holds no heads.
    """
    try:
        return HeadFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise HeadError(
            f"{path}: cannot be read ({error.strerror}). `cubescout classify` makes such a file."
        ) from error
    except ValidationError as error:
        item = error.errors()[0]
        where = ".".join(map(str, item["loc"])) or "file"
        raise HeadError(f"{path}: no heads of Cubescout ({where}: {item['msg']})") from error
