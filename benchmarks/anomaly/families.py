"""What is injected: the interface of families and their registry.

A family is one small class with a `name`, a `kind` and `draw`, decorated with `@register`: `draw` takes its parameters
from random numbers and returns what is to be done with a galaxy. `docs/benchmark.md` shows one in full.

- `Added` light: anything that adds light to the scene, or takes some away or moves it, in proportion to a strength.
- `Moved`: the same cube, cut at another redshift.
- `Changed` planes: what no detector may fire on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import numpy as np

from benchmarks.anomaly.scene import Change, Host

# A: a real anomaly. C: an artefact of the instrument or the pipeline. N: an ordinary difference, to be ignored.
Kind = Literal["A", "C", "N"]


@dataclass(frozen=True)
class Added:
    """Light of strength 1; the benchmark finds the strength that gives the wanted signal-to-noise.

    Attributes:
        light: from observed wavelengths [plane] and the noise-free flux [plane, y, x] to light [plane, y, x], linear in
            the strength and without noise.
        max_strength: where nature ends, such as a fibre that has lost all of its light.
    """

    light: Callable[[np.ndarray, np.ndarray], np.ndarray]
    max_strength: float = np.inf


@dataclass(frozen=True)
class Moved:
    """The windows cut at one of these redshifts, whichever comes nearest to the wanted signal-to-noise."""

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
        """What to do with one galaxy.

        Args:
            host: the galaxy and its windows.
            level: from 0, of the tier's amplitudes; N sets its change by it, A and C leave it to the benchmark.
            rng: the only source of chance.
        """


FAMILIES: dict[str, Family] = {}
FamilyClass = TypeVar("FamilyClass", bound=Callable[[], Family])


def register(family: FamilyClass) -> FamilyClass:
    """Class decorator: makes a family known.

    Raises:
        ValueError: another has its name.
    """
    made = family()
    if made.name in FAMILIES:
        raise ValueError(f"two families are called {made.name}")
    FAMILIES[made.name] = made
    return family


# Building blocks.
