"""Interface and registry of the families of injections.

A family is a small class with a `name`, a `kind` and a method `draw`, decorated with `@register`. `draw` draws the
family's parameters at random and returns the change to apply to a galaxy. `docs/benchmark.md` shows a complete example.

- `Added`: light added to the scene, removed from it or moved within it, in proportion to a strength.
- `Moved`: the same cube, with windows cut at another redshift.
- `Changed`: changed planes, an ordinary difference that no detector should flag.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import numpy as np

from benchmarks.anomaly.scene import Change, Host, Light

# A: a real anomaly. C: an artefact of the instrument or the pipeline. N: a nuisance that must not be flagged.
Kind = Literal["A", "C", "N"]


@dataclass(frozen=True)
class Added:
    """Light of strength 1; the benchmark scales it to the intended signal-to-noise ratio.

    Attributes:
        light: function of observed wavelengths [plane], Angstrom, and noise-free flux [plane, y, x] that returns the
            added light [plane, y, x], free of noise.
        max_strength: largest physical strength, such as 1 for a fibre that loses all of its light.
    """

    light: Light
    max_strength: float = np.inf


@dataclass(frozen=True)
class Moved:
    """Windows cut at the one of these redshifts that comes closest to the intended signal-to-noise ratio."""

    redshifts: Sequence[float]


@dataclass(frozen=True)
class Changed:
    """Changed planes of the same galaxy."""

    change: Change


Drawn = Added | Moved | Changed


class Family(Protocol):
    """One kind of injection.

    Attributes:
        name: unique name in snake case.
        kind: anomaly, artefact or nuisance; see `Kind`.
    """

    name: str
    kind: Kind

    def draw(self, host: Host, level: int, rng: np.random.Generator) -> Drawn:
        """Change to apply to one galaxy.

        Args:
            host: the galaxy and its windows.
            level: index of the amplitude, from 0; families N derive the size of their change from it, families A and C
                are scaled by the benchmark.
            rng: the only source of randomness.
        """


FAMILIES: dict[str, Family] = {}
FamilyClass = TypeVar("FamilyClass", bound=Callable[[], Family])


def register(family: FamilyClass) -> FamilyClass:
    """Class decorator that registers a family.

    Raises:
        ValueError: the name is already in use.
    """
    made = family()
    if made.name in FAMILIES:
        raise ValueError(f"two families are called {made.name}")
    FAMILIES[made.name] = made
    return family
