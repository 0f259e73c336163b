"""Interface of the surveys' readers: targets, and the wavelength planes of their cubes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from cubeprep.masks import WINDOW_MASK_BITS
from cubeprep.redact import redact


class Rejected(ValueError):  # noqa: N818 - about one galaxy, not an error of the program
    """A galaxy that cannot be used; `code` names the kind of problem, `reason` the file and the cause."""

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(code, reason)  # both, so that it can be pickled between processes

    def __str__(self) -> str:
        return f"{self.code}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Target:
    """One observation of one galaxy.

    Attributes:
        plateifu: identifier of the observation (SAMI: CATID and repeat).
        mangaid: identifier of the object; repeat observations share it (SAMI: CATID).
        z: redshift; NaN where the survey has none.
        ra_deg: right ascension, degrees; NaN where unknown.
        dec_deg: declination, degrees.
        paths: cube files, one for each arm of the spectrograph.
        re_arcsec: effective radius, arcsec; NaN where unknown.
        quality: names of the survey's quality bits that are set.
        rejected: code and reason of a rejection known before the data are read; None if there is none.
        maps: file with the fitted velocity field; None where there is none, or none is needed.
        depth: depth of the observation, such as its (S/N)^2, comparable within one survey; NaN where unknown.
        model: file with the survey's own model of the stars; None where there is none, or none is needed.
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
    model: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of all files of the target."""
        return (*self.paths, *(path for path in (self.maps, self.model) if path is not None))

    @property
    def source(self) -> str:
        """Paths of all files without passwords, joined by `;`."""
        return redact(";".join(self.files))


@dataclass(frozen=True)
class Planes:
    """Wavelength planes, or line maps, of one cube.

    Attributes:
        flux: [plane, y, x] float32, in the store's unit; 0 where `mask` is set.
        ivar: [plane, y, x] float32, inverse variance of `flux`; 0 where `mask` is set.
        mask: [plane, y, x] uint8, bits of `masks.WINDOW_MASK_BITS`.
        spaxel_arcsec: side of a spaxel, arcsec; NaN if the file does not give it.
        remarks: differences from the file's own checksums, in words.
        sky: cards of the celestial axes of the planes, of `fits.wcs.placed_sky`; empty if the file does not give them.
    """

    flux: np.ndarray
    ivar: np.ndarray
    mask: np.ndarray
    spaxel_arcsec: float = float("nan")
    remarks: tuple[str, ...] = ()
    sky: Mapping[str, str | float] = field(default_factory=dict)


class Arm(Protocol):
    """Spectra of one arm of a spectrograph, which covers a wavelength range without gaps."""

    @property
    def wave(self) -> np.ndarray:
        """Vacuum wavelengths in the observer's frame, [plane], Angstrom, increasing."""

    def read(self, planes: np.ndarray, size: int | None) -> Planes:
        """Planes of the cube, cropped or padded to a square about the centre.

        Args:
            planes: [n] sorted indices of the planes.
            size: spaxels a side; None pads to the longer side of the cube.

        Raises:
            Rejected: the file is truncated, lacks an HDU, or its arrays differ in shape.
        """


class CubeReader(Protocol):
    """Reader of a survey of spectra."""

    def open(self, target: Target) -> Sequence[Arm]:
        """Arms of a target's cube.

        Raises:
            Rejected: a file is missing or does not belong to this survey.
        """


class MapReader(Protocol):
    """Reader of a survey of fitted line maps, with one sample per line."""

    def read_maps(self, target: Target, line_names: Sequence[str], size: int | None) -> Planes:
        """Maps of the named lines, one plane per line, cropped or padded as by `Arm.read`.

        Raises:
            Rejected: a file is missing or does not belong to this survey, or it lacks the map of a line.
        """


def screened(
    flux: np.ndarray,
    ivar: np.ndarray,
    survey_mask: np.ndarray,
    outside: np.ndarray,
    spaxel_arcsec: float = float("nan"),
) -> Planes:
    """Planes as float32 with bad values masked and set to 0; every reader passes its values through here.

    Finiteness is checked after the cast, since a float64 in a file may exceed the range of float32.

    Args:
        flux: [plane, y, x], in the store's unit. An array that is float32 already is changed in place, to save memory.
        ivar: the same shape, inverse variance; also changed in place.
        survey_mask: [plane, y, x] bool, samples that the survey flags as bad.
        outside: [plane, y, x] or [y, x] bool, spaxels beyond the edge of the cube.
        spaxel_arcsec: side of a spaxel, arcsec.
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
