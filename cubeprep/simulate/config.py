"""What to simulate."""

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from cubeprep.config import Config

GalaxyClass = Literal["star_forming", "composite", "seyfert", "liner", "passive"]
MapsForm = Literal["dr15", "dr17"]

BUNDLE_SIZES = (19, 37, 61, 91, 127)


class SimulateConfig(Config):
    """A simulated survey.

    Attributes:
        num_galaxies: observations to write, repeats included.
        num_workers: processes; all cores if not given. Never changes a byte of the files.
        bundle_shares: relative share of every bundle size, in fibres. Each MaNGA plate carries 2, 4, 4, 2 and 5.
        class_shares: relative share of every class of galaxy; those of 4,918 MaNGA nuclei (docs/simulation.md).
        redshift_range: lowest and highest redshift.
        depth: signal-to-noise relative to MaNGA's; the noise is divided by it.
        unusual_fraction: share of galaxies that have something unusual built in, as the truth table says.
        repeat_fraction: share of observations of a galaxy that was observed before.
        critical_fraction: share of observations with a critical failure, which DRP3QUAL reports.
        cubes: write the LOGCUBEs.
        maps: write DAP MAPS, with 22 lines (dr15), 35 lines (dr17), or both.
        mantissa_bits: significant bits of FLUX and IVAR that are kept; 23 keeps all. At 10 a value is off by at most
            0.05%, far below the noise, and the files are 40% smaller.
    """

    num_galaxies: int = Field(48, ge=1)
    num_workers: int | None = Field(None, ge=1)
    bundle_shares: dict[int, float] = Field({19: 2, 37: 4, 61: 4, 91: 2, 127: 5})
    class_shares: dict[GalaxyClass, float] = Field(
        {"star_forming": 0.48, "composite": 0.13, "seyfert": 0.04, "liner": 0.24, "passive": 0.11}
    )
    redshift_range: tuple[float, float] = (0.015, 0.075)
    depth: float = Field(1.0, gt=0, allow_inf_nan=False)
    unusual_fraction: float = Field(0.06, ge=0, le=1)
    repeat_fraction: float = Field(0.04, ge=0, le=0.5)
    critical_fraction: float = Field(0.02, ge=0, le=1)
    cubes: bool = True
    maps: tuple[MapsForm, ...] = ("dr17",)
    mantissa_bits: int = Field(10, ge=7, le=23)

    @model_validator(mode="after")
    def _check(self) -> Self:
        unknown = sorted(set(self.bundle_shares) - set(BUNDLE_SIZES))
        if unknown:
            raise ValueError(f"bundle_shares: no bundle of {unknown} fibres; known are {list(BUNDLE_SIZES)}")
        for name, shares in (("bundle_shares", self.bundle_shares), ("class_shares", self.class_shares)):
            values = list(shares.values())
            if not all(math.isfinite(value) and value >= 0 for value in values) or not sum(values) > 0:
                raise ValueError(f"{name}: expected shares >= 0 that do not all vanish, found {shares}")
        low, high = self.redshift_range
        if not 0.001 <= low < high <= 0.15:
            raise ValueError(f"redshift_range: expected 0.001 <= low < high <= 0.15, found {low} and {high}")
        if len(set(self.maps)) < len(self.maps):
            raise ValueError(f"maps: expected each form once, found {list(self.maps)}")
        if not self.cubes and not self.maps:
            raise ValueError("cubes, maps: expected at least one kind of file")
        return self
