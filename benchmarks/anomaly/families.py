"""Interface of the families of injections, and their registry.

A family is one small class with a `name`, a `kind` and `draw`, decorated with `@register`. `draw` draws random
parameters and returns the change to make to a galaxy. `docs/benchmark.md` shows a complete example.

- `Added` light: adds, removes or moves light of the scene in proportion to a strength.
- `Moved`: the same cube, cut at another redshift.
- `Changed` planes: nuisances that no detector may flag.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import numpy as np

from benchmarks.anomaly.scene import Change, Host

# A: a real anomaly. C: an artefact of the instrument or the pipeline. N: a nuisance, to be ignored.
Kind = Literal["A", "C", "N"]


@dataclass(frozen=True)
class Added:
    """Light of strength 1; the benchmark scales it to the intended signal-to-noise.

    Attributes:
        light: from observed wavelengths [plane] and the noise-free flux [plane, y, x] to light [plane, y, x], linear in
            the strength and without noise.
        max_strength: physical limit, such as 1 for a fibre that has lost all of its light.
    """

    light: Callable[[np.ndarray, np.ndarray], np.ndarray]
    max_strength: float = np.inf


@dataclass(frozen=True)
class Moved:
    """Windows cut at one of these redshifts, the one closest to the intended signal-to-noise."""

    redshifts: Sequence[float]


@dataclass(frozen=True)
class Changed:
    """Other planes of the same galaxy."""

    change: Change


Drawn = Added | Moved | Changed


class Family(Protocol):
    """One kind of injection.

    Attributes:
        name: unique, in snake case.
        kind: see `Kind`.
    """

    name: str
    kind: Kind

    def draw(self, host: Host, level: int, rng: np.random.Generator) -> Drawn:
        """Draws the change to make to one galaxy.

        Args:
            host: the galaxy and its windows.
            level: index of the tier's amplitudes; sets the change of N, while the benchmark scales A and C.
            rng: the only source of randomness.
        """


FAMILIES: dict[str, Family] = {}
FamilyClass = TypeVar("FamilyClass", bound=Callable[[], Family])


def register(family: FamilyClass) -> FamilyClass:
    """Class decorator that registers a family.

    Raises:
        ValueError: the name is taken.
    """
    made = family()
    if made.name in FAMILIES:
        raise ValueError(f"two families are called {made.name}")
    FAMILIES[made.name] = made
    return family
