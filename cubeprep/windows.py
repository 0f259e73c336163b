"""Windows around emission lines: their configuration, and the arrays cut from one galaxy."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from cubeprep.config import Config
from cubeprep.lines import LINES_BY_NAME, PRESETS, SPEED_OF_LIGHT_KMS, Line
from cubeprep.masks import WINDOW_MASK_BITS, good_samples


class WindowConfig(Config):
    """Lines, samples and spaxel grid of the windows that are cut from each galaxy."""

    lines: Literal["paper", "dap-dr17"] | tuple[str | Line, ...] = Field(
        "paper", description="A preset, or a list of names of known lines and of your own lines"
    )
    num_samples: int = Field(
        10, ge=1, description="Samples per window; 10 as in the paper, 1 for surveys of fitted maps"
    )
    step_dex: float = Field(1e-4, gt=0, description="Step between samples in log10 of wavelength; MaNGA's is 1e-4")
    half_width_kms: float | None = Field(
        None,
        gt=0,
        exclude=True,
        description="Half width of a window in km/s. It sets num_samples, rounded to a whole number, or step_dex if "
        "num_samples is given too; default: not used",
    )
    size: int = Field(32, ge=8, description="Side of the windows", json_schema_extra={"unit": "spaxel"})
    space: Literal["crop", "bin", "scale-to-re"] = Field(
        "crop",
        description="Crop or pad about the centre (as in the paper), sum blocks of spaxels, or resample to a grid in "
        "units of Re",
    )
    bin_factor: int = Field(2, ge=1, description="bin: side of a block", json_schema_extra={"unit": "spaxel"})
    extent_re: float = Field(4.0, gt=0, description="scale-to-re: side of the grid in effective radii (Re)")
    sampling: Literal["nearest", "conserve"] = Field(
        "nearest",
        description="Copy the nearest planes (as in the paper; needs a cube with the same step), or resample them and "
        "conserve the flux",
    )
    continuum: Literal["none", "sidebands", "stars", "dap"] = Field(
        "none",
        description="Leave the continuum in (as in the paper); subtract a straight line through the line's two "
        "sidebands; or first subtract the stars, fitted by Cubescout (`stars`) or by MaNGA's DAP (`dap`, from its "
        "model cubes below survey.maps_root), and then such a line",
    )
    min_lines: int | None = Field(
        None, ge=1, description="Lines that must be in range, else the galaxy is rejected; default: all"
    )

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
        """Replaces the half width by the number of samples or the step, which alone the rest of the program uses."""
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
    def subtracts_stars(self) -> bool:
        """Whether starlight is subtracted, rather than a straight line alone."""
        return self.continuum in ("stars", "dap")

    @property
    def read_size(self) -> int | None:
        """Side in spaxels to which a cube is cropped or padded while it is read; None if its whole grid is needed."""
        return self.size if self.space == "crop" else None

    @property
    def line_list(self) -> list[Line]:
        """Lines of the windows, in the order of the store."""
        if isinstance(self.lines, str):
            return list(PRESETS[self.lines])
        return [LINES_BY_NAME[line] if isinstance(line, str) else line for line in self.lines]

    @property
    def line_names(self) -> list[str]:
        """Names of the lines, in the order of the store."""
        return [line.name for line in self.line_list]

    @property
    def offsets_dex(self) -> np.ndarray:
        """Offset of the centre of each sample from its line, [sample], in log10 of wavelength."""
        return (np.arange(self.num_samples) - (self.num_samples - 1) / 2) * self.step_dex

    @property
    def velocity_kms(self) -> np.ndarray:
        """Offset of the centre of each sample from its line, [sample], km/s."""
        return SPEED_OF_LIGHT_KMS * np.log(10) * self.offsets_dex


@dataclass(frozen=True)
class LineWindows:
    """Windows of one galaxy.

    Attributes:
        flux: [line, sample, y, x] float32, in the store's unit; NaN where masked.
        ivar: the same shape, inverse variance of each sample alone; 0 where masked. With `conserve` neighbours that
            share a plane have correlated errors (coefficient at most 0.5 if cube and window have similar steps).
        mask: the same shape, uint8, bits of `masks.WINDOW_MASK_BITS`.
    """

    flux: np.ndarray
    ivar: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class Continuum:
    """Continuum at the lines of one galaxy, before its subtraction.

    Attributes:
        flux: [line, y, x] float32, in the store's unit: the straight line through the line's bands, at the line; NaN
            where unknown.
        ivar: the same shape, inverse variance; 0 where unknown.
        stars: [y, x] bool, spaxels whose starlight was subtracted before the bands' line; False where there is the
            line alone.
    """

    flux: np.ndarray
    ivar: np.ndarray
    stars: np.ndarray


def sealed(windows: LineWindows) -> LineWindows:
    """Windows for the store, in which samples that are not finite or have no positive ivar are masked (`NONFINITE`).

    Values were finite when they were read (`cube.screened`); their sums over spaxels and planes may overflow.
    """
    broken = (windows.mask == 0) & ~good_samples(windows.flux, windows.ivar, windows.mask)
    if not broken.any():
        return windows
    mask = np.where(broken, WINDOW_MASK_BITS["NONFINITE"], windows.mask).astype(np.uint8)
    return LineWindows(np.where(broken, np.nan, windows.flux), np.where(broken, 0, windows.ivar), mask)
