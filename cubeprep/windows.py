"""Which windows around emission lines are cut from a galaxy's spectra, and what comes of it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from cubeprep.config import Config
from cubeprep.lines import LINES_BY_NAME, PRESETS, SPEED_OF_LIGHT_KMS, Line
from cubeprep.masks import WINDOW_MASK_BITS


class WindowConfig(Config):
    """Which windows are cut."""

    lines: Literal["paper", "dap-dr17"] | tuple[str | Line, ...] = Field(
        "paper", description="A preset, or names of known lines and lines of your own"
    )
    num_samples: int = Field(10, ge=1)
    step_dex: float = Field(1e-4, gt=0, description="Step between samples in log10 of wavelength; MaNGA's is 1e-4")
    half_width_kms: float | None = Field(
        None,
        gt=0,
        exclude=True,
        description="In place of one of the two: a window reaches this far on either side of its line. It sets "
        "num_samples, to the nearest whole number; or, where num_samples is given, step_dex",
    )
    size: int = Field(32, ge=8, description="Spaxels a side")
    space: Literal["crop", "bin", "scale-to-re"] = Field(
        "crop", description="Crop or pad about the centre (the paper), sum blocks of spaxels, or a grid in units of Re"
    )
    bin_factor: int = Field(2, ge=1, description="bin: spaxels a side of a block")
    extent_re: float = Field(4.0, gt=0, description="scale-to-re: side of the grid in effective radii")
    sampling: Literal["nearest", "conserve"] = "nearest"
    continuum: Literal["none", "sidebands"] = "none"
    min_lines: int | None = Field(None, ge=1, description="Lines that must be in range; default all")

    @field_validator("lines")
    @classmethod
    def _known(cls, lines: str | tuple[str | Line, ...]) -> str | tuple[str | Line, ...]:
        if isinstance(lines, str):
            return lines
        unknown = [line for line in lines if isinstance(line, str) and line not in LINES_BY_NAME]
        if unknown or not lines:
            raise ValueError(f"unknown lines {unknown}; known are {', '.join(LINES_BY_NAME)}")
        names = [line if isinstance(line, str) else line.name for line in lines]
        if len(set(names)) < len(names):
            raise ValueError("a line is named twice")
        return lines

    @model_validator(mode="after")
    def _resolve_half_width(self) -> "WindowConfig":
        """Turns a half width into the sample count or the step, which are all that the rest of the program knows."""
        if self.half_width_kms is None:
            return self
        if {"num_samples", "step_dex"} <= self.model_fields_set:
            raise ValueError("half_width_kms, num_samples and step_dex: give two at most, the third follows")
        width_dex = 2 * self.half_width_kms / (SPEED_OF_LIGHT_KMS * np.log(10))
        if "num_samples" in self.model_fields_set:
            if self.sampling == "nearest":
                raise ValueError(
                    "half_width_kms beside num_samples sets the step, but sampling: nearest has that of the cube; give "
                    "one of the two, or sampling: conserve"
                )
            self.__dict__["step_dex"] = float(width_dex / self.num_samples)
        else:
            self.__dict__["num_samples"] = max(1, round(width_dex / self.step_dex))
        self.__dict__["half_width_kms"] = None
        return self

    @property
    def read_size(self) -> int | None:
        """Spaxels a side that a cube is cropped or padded to while it is read; None where its own grid is needed."""
        return self.size if self.space == "crop" else None

    @property
    def line_list(self) -> list[Line]:
        """The lines, in order."""
        if isinstance(self.lines, str):
            return list(PRESETS[self.lines])
        return [LINES_BY_NAME[line] if isinstance(line, str) else line for line in self.lines]

    @property
    def line_names(self) -> list[str]:
        """Their names."""
        return [line.name for line in self.line_list]

    @property
    def offsets_dex(self) -> np.ndarray:
        """[sample] centre of each sample against its line, in log10 of wavelength."""
        return (np.arange(self.num_samples) - (self.num_samples - 1) / 2) * self.step_dex

    @property
    def velocity_kms(self) -> np.ndarray:
        """[sample] centre of each sample against its line, km/s."""
        return SPEED_OF_LIGHT_KMS * np.log(10) * self.offsets_dex


@dataclass(frozen=True)
class LineWindows:
    """The windows of one galaxy.

    Attributes:
        flux: [line, sample, y, x] float32; NaN where masked.
        ivar: the same shape, of each sample alone; `conserve` correlates neighbours that share a plane, with a
            coefficient of at most 0.5 where steps are alike. 0 where masked.
        mask: the same shape, uint8 bits of `masks.WINDOW_MASK_BITS`.
    """

    flux: np.ndarray
    ivar: np.ndarray
    mask: np.ndarray


def sealed(windows: LineWindows) -> LineWindows:
    """The windows as a store takes them: no good sample whose flux or ivar is not finite, or whose ivar is 0.

    Values were finite when they were read (`cube.screened`); sums over spaxels and planes may not be.
    """
    usable = np.isfinite(windows.flux) & np.isfinite(windows.ivar) & (windows.ivar > 0)
    broken = (windows.mask == 0) & ~usable
    if not broken.any():
        return windows
    mask = np.where(broken, WINDOW_MASK_BITS["NONFINITE"], windows.mask).astype(np.uint8)
    return LineWindows(np.where(broken, np.nan, windows.flux), np.where(broken, 0, windows.ivar), mask)
