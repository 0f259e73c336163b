"""The interface of every survey's reader: targets, and the wavelength planes of their cubes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cubeprep.masks import WINDOW_MASK_BITS


class Rejected(ValueError):  # noqa: N818 - a verdict on one galaxy, not a fault of the program
    """This galaxy cannot be used and is set aside; `code` names the kind, the message the file and the cause."""

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(code, reason)  # both, so that it survives pickling between processes

    def __str__(self) -> str:
        return f"{self.code}: {self.reason}"


@dataclass(frozen=True)
class Target:
    """One observation of one galaxy.

    Attributes:
        plateifu: identifier of the observation (SAMI: CATID and repeat).
        mangaid: identifier of the object; repeat observations share it (SAMI: CATID).
        z: redshift; NaN where the survey has none.
        ra_deg: right ascension, degrees; NaN where unknown.
        dec_deg: declination, degrees.
        paths: the files, one for each arm of the spectrograph.
        re_arcsec: effective radius, arcsec; NaN where unknown.
        quality: names of the survey's quality bits that are set.
        rejected: why the target cannot be used, known before its data are read; None if it can.
        maps: its file of fitted velocities; None where there is none, or none is wanted.
        depth: how deep the observation is, such as its (S/N)^2, for comparison within one survey; NaN where unknown.
    """

    plateifu: str
    mangaid: str
    z: float
    ra_deg: float
    dec_deg: float
    paths: tuple[str, ...]
    re_arcsec: float = float("nan")
    quality: tuple[str, ...] = ()
    rejected: tuple[str, str] | None = None
    maps: str | None = None
    depth: float = float("nan")

    @property
    def files(self) -> tuple[str, ...]:
        """All of its files."""
        return self.paths if self.maps is None else (*self.paths, self.maps)


@dataclass(frozen=True)
class Planes:
    """Wavelength planes, or line maps, of one cube.

    Attributes:
        flux: [plane, y, x] float32, in the store's unit; 0 where `mask` is set.
        ivar: [plane, y, x] float32, inverse variance of `flux`; 0 where `mask` is set.
        mask: [plane, y, x] uint8, bits of `masks.WINDOW_MASK_BITS`.
        spaxel_arcsec: side of a spaxel; NaN where the file does not say.
    """

    flux: np.ndarray
    ivar: np.ndarray
    mask: np.ndarray
    spaxel_arcsec: float = float("nan")


class Arm(Protocol):
    """The spectra of one arm of a spectrograph: a stretch of wavelengths without a gap."""

    @property
    def wave(self) -> np.ndarray:
        """[plane] vacuum wavelengths in the observer's frame, Angstrom, increasing."""

    def read(self, planes: np.ndarray, size: int | None) -> Planes:
        """The planes of a sorted index array, cropped or padded to `size` x `size` spaxels about the centre.

        Without `size` they are padded to a square.

        Raises:
            Rejected: the file is truncated, lacks an HDU, or its arrays do not fit each other.
        """


class CubeReader(Protocol):
    """A survey whose spectra are read: one module of `cubeprep.readers` each."""

    def open(self, target: Target) -> Sequence[Arm]:
        """The arms of a target's cube.

        Raises:
            Rejected: a file is missing or is not of this survey.
        """


class MapReader(Protocol):
    """A survey whose fitted line maps are read: one sample a line."""

    def read_maps(self, target: Target, line_names: Sequence[str], size: int | None) -> Planes:
        """The maps of the named lines, one plane a line, on a square as `Arm.read` gives it.

        Raises:
            Rejected: a file is missing or not of this survey, or has no map of a line.
        """


def screened(
    flux: np.ndarray,
    ivar: np.ndarray,
    survey_mask: np.ndarray,
    outside: np.ndarray,
    spaxel_arcsec: float = float("nan"),
) -> Planes:
    """Planes in which nothing bad keeps a value: the one place where values become those of the store.

    Whether they are finite is decided after the cast to float32, which has less range than files may have.

    Args:
        flux: [plane, y, x], any value where bad; float32 is screened in place, since it may be large.
        ivar: the same.
        survey_mask: [plane, y, x] bool, what the survey says not to use.
        outside: [plane, y, x] or [y, x] bool, beyond the edge of the cube.
        spaxel_arcsec: side of a spaxel.
    """
    with np.errstate(over="ignore", under="ignore"):
        flux, ivar = (values.astype(np.float32, copy=False) for values in (flux, ivar))
    finite = np.isfinite(flux) & np.isfinite(ivar)
    inside = ~np.broadcast_to(outside, flux.shape)
    mask = np.zeros(flux.shape, dtype=np.uint8)
    mask[~inside] = WINDOW_MASK_BITS["OUTSIDE"]
    mask[inside & ~finite] |= WINDOW_MASK_BITS["NONFINITE"]
    with np.errstate(invalid="ignore"):
        mask[inside & (survey_mask | (finite & (ivar <= 0)))] |= WINDOW_MASK_BITS["SURVEY"]
    for values in (flux, ivar):
        np.copyto(values, 0, where=mask != 0)
    return Planes(flux, ivar, mask, spaxel_arcsec)
