"""Configuration of the simulated survey (section `simulate`)."""

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from cubeprep.config import Config

GalaxyClass = Literal["star_forming", "composite", "seyfert", "liner", "passive"]
MapsForm = Literal["dr15", "dr17"]

BUNDLE_SIZES = (19, 37, 61, 91, 127)


class SimulateConfig(Config):
    """A simulated survey."""

    num_galaxies: int = Field(48, ge=1, description="Number of observations, repeats included")
    num_workers: int | None = Field(
        None, ge=1, description="Number of processes; default: one per core. The files do not depend on it"
    )
    bundle_shares: dict[int, float] = Field(
        {19: 2, 37: 4, 61: 4, 91: 2, 127: 5},
        description="Relative share of each bundle size (number of fibres); default: as on a MaNGA plate",
    )
    class_shares: dict[GalaxyClass, float] = Field(
        {"star_forming": 0.48, "composite": 0.13, "seyfert": 0.04, "liner": 0.24, "passive": 0.11},
        description="Relative share of each class of galaxy; default: those of the nuclei of 4,918 MaNGA galaxies",
    )
    redshift_range: tuple[float, float] = Field(
        (0.015, 0.075), description="Lowest and highest redshift, within 0.001 to 0.15"
    )
    depth: float = Field(
        1.0,
        gt=0,
        allow_inf_nan=False,
        description="S/N relative to MaNGA's; the noise is divided by it",
    )
    unusual_fraction: float = Field(
        0.06, ge=0, le=1, description="Fraction of galaxies with an unusual feature, named in the truth table"
    )
    repeat_fraction: float = Field(
        0.04,
        ge=0,
        le=0.5,
        description="Fraction of observations whose galaxy was observed before",
    )
    critical_fraction: float = Field(
        0.02, ge=0, le=1, description="Fraction of unusable observations, marked CRITICAL in DRP3QUAL"
    )
    cubes: bool = Field(True, description="Write LOGCUBEs")
    maps: tuple[MapsForm, ...] = Field(
        ("dr17",), description="DAP MAPS to write: `dr15` with 22 lines, `dr17` with 35, both, or none"
    )
    model_cubes: bool = Field(
        False, description="Write the DAP's model cubes beside the MAPS, each about as large as the LOGCUBE"
    )
    mantissa_bits: int = Field(
        10,
        ge=7,
        le=23,
        description="Significant bits kept of FLUX and IVAR; 23: all. With 10 the error is at most 0.05%, far below "
        "the noise, and files are 40% smaller",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        unknown = sorted(set(self.bundle_shares) - set(BUNDLE_SIZES))
        if unknown:
            raise ValueError(f"bundle_shares: unknown bundle sizes {unknown}; expected some of {list(BUNDLE_SIZES)}")
        for name, shares in (("bundle_shares", self.bundle_shares), ("class_shares", self.class_shares)):
            values = list(shares.values())
            if not all(math.isfinite(value) and value >= 0 for value in values) or not sum(values) > 0:
                raise ValueError(f"{name}: expected shares >= 0, not all of them 0; found {shares}")
        low, high = self.redshift_range
        if not 0.001 <= low < high <= 0.15:
            raise ValueError(f"redshift_range: expected 0.001 <= low < high <= 0.15, found {low} and {high}")
        if len(set(self.maps)) < len(self.maps):
            raise ValueError(f"maps: expected each form once, found {list(self.maps)}")
        if not self.cubes and not self.maps:
            raise ValueError("cubes is false and maps is empty: expected at least one kind of file")
        if self.model_cubes and not self.maps:
            raise ValueError("model_cubes is true and maps is empty: expected a form, `dr15` or `dr17`")
        return self
