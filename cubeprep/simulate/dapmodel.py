"""Model cubes of the DAP, `manga-PLATE-IFU-LOGCUBE-DAPTYPE.fits.gz`, in the forms of DR15 and DR17.

The starlight is the true one of the spaxel, moved by the error of its velocity and multiplied by the polynomial that
fits the noisy spectrum best, as in the DAP's emission-line module (Belfiore et al. 2019,
doi:10.3847/1538-3881/ab3e4e). It has no error from the choice of templates. Bins are single spaxels, so STELLAR is the
same model, and EMLINE_BASE is 0.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.polynomial.chebyshev import chebvander

from cubeprep.masks import DAPPIXMASK, DAPSPECMASK, bits_value
from cubeprep.simulate.config import MapsForm
from cubeprep.simulate.cube import Cube, galactic_transmission, keep_bits, line_spread
from cubeprep.simulate.dapfile import DENSITY, primary_cards
from cubeprep.simulate.drp import planes
from cubeprep.simulate.fitsfile import whole_gzip, write_image, write_planes, write_primary
from cubeprep.simulate.galaxy import Galaxy
from cubeprep.simulate.instrument import FIRST_WAVE, LOG_STEP, NUM_WAVES, PIXEL_KMS, WAVE
from cubeprep.simulate.mapswriter import AUTHOR, BIN_STAGES, MapsWriter, inverse_unit, wcs_cards
from cubeprep.simulate.target import Target

# Degree of the multiplicative polynomial, and last rest wavelength of the templates, Angstrom: MILES in DR15, in DR17
# the stars of MaNGA's own library, but MILES for the stellar kinematics, which STELLAR shows.
_DEGREE: dict[MapsForm, int] = {"dr15": 8, "dr17": 14}
_MILES_END = 7400.0
_LAST_REST_WAVE: dict[MapsForm, float] = {"dr15": _MILES_END, "dr17": np.inf}
_REJECT_SIGMAS = 3.0
_EXTENSIONS: dict[MapsForm, tuple[str, ...]] = {
    "dr15": ("FLUX", "IVAR", "MASK", "WAVE", "REDCORR", "MODEL", "EMLINE", "EMLINE_BASE", "EMLINE_MASK", "BINID"),
    "dr17": ("FLUX", "IVAR", "MASK", "LSF", "WAVE", "REDCORR", "MODEL", "MODEL_MASK", "EMLINE", "STELLAR",
             "STELLAR_MASK", "BINID"),
}  # fmt: skip


@dataclass(frozen=True)
class ModelSpectra:
    """Models of the analysed spaxels, [spaxel, wavelength].

    Attributes:
        stars, lines: float32 flux density in the LOGCUBE's unit, with the Milky Way's dust; 0 outside the fitted range.
        ignored: bool, pixels that the fit did not use.
        in_range: bool, pixels within the fitted range.
    """

    stars: np.ndarray
    lines: np.ndarray
    ignored: np.ndarray
    in_range: np.ndarray


def fit_models(
    form: MapsForm, galaxy: Galaxy, flux: np.ndarray, ivar: np.ndarray, stars: np.ndarray, lines: np.ndarray
) -> ModelSpectra:
    """Models of spectra, all [spaxel, wavelength] and corrected for the Milky Way's dust, which the results have again.

    Args:
        form: release, which decides on the templates.
        galaxy: the galaxy.
        flux, ivar: flux density and its inverse variance, 0 where unusable.
        stars: starlight as the templates have it, moved by the error of its velocity.
        lines: fitted emission lines.
    """
    used = (ivar > 0) & (_LAST_REST_WAVE[form] * (1 + galaxy.z) > WAVE)
    from_left, from_right = (np.maximum.accumulate(used[:, ::step], axis=1)[:, ::step] for step in (1, -1))
    in_range = from_left & from_right
    stop = int(np.flatnonzero(in_range.any(axis=0)).max(initial=0)) + 1
    part = (slice(None), slice(stop))
    fitted = np.zeros_like(stars)
    fitted[part] = scaled_starlight((flux - lines)[part], (ivar * used)[part], stars[part], _DEGREE[form])
    ignored = ~used | (np.abs(flux - lines - fitted) * np.sqrt(ivar) > _REJECT_SIGMAS)
    with_dust = in_range * galactic_transmission(galaxy)
    return ModelSpectra(fitted * with_dust, (lines * with_dust).astype(np.float32), ignored, in_range)


def scaled_starlight(flux: np.ndarray, ivar: np.ndarray, stars: np.ndarray, degree: int) -> np.ndarray:
    """Starlight times the polynomial in the pixel number that fits each spectrum best, float32 [spaxel, wavelength].

    Products of Chebyshev polynomials are sums of two, T_k T_l = (T_k+l + T_|k-l|) / 2, so the normal equations take
    2 degree + 1 moments of each spectrum.

    Args:
        flux, ivar: [spaxel, wavelength] flux density without lines and its inverse variance, 0 where unusable.
        stars: [spaxel, wavelength] starlight.
        degree: degree of the polynomial.
    """
    terms = chebvander(np.linspace(-1, 1, flux.shape[1]), 2 * degree)
    few = terms[:, : degree + 1]
    # einsum rather than BLAS, whose sums depend on the number of threads: files must be reproducible to the byte.
    moments = np.einsum("sw,wm->sm", ivar * stars**2, terms)
    vector = np.einsum("sw,wm->sm", ivar * stars * flux, few)
    k, m = np.ogrid[: degree + 1, : degree + 1]
    matrix = (moments[:, k + m] + moments[:, np.abs(k - m)]) / 2
    ridge = (1e-9 * moments[:, 0] + 1e-12)[:, None, None] * np.eye(degree + 1)
    factors = np.linalg.solve(matrix + ridge, vector[:, :, None])[..., 0]
    return np.asarray(stars * np.einsum("sm,wm->sw", factors, few), dtype=np.float32)


def write_model_cube(
    path: Path,
    form: MapsForm,
    daptype: str,
    target: Target,
    galaxy: Galaxy,
    cube: Cube,
    *,
    spaxel_mask: np.ndarray,
    models: ModelSpectra,
    mantissa_bits: int,
) -> None:
    """Writes a model cube.

    Args:
        path: of the file.
        form: set of extensions.
        daptype: name of the analysis, for the header.
        target: the observation.
        galaxy: the galaxy.
        cube: the observed cube.
        spaxel_mask: [covered spaxel] DAP mask; 0 for the spaxels in `models`.
        models: the models, whose values are rounded in place.
        mantissa_bits: significant bits to keep of starlight and lines; MODEL is their sum, not rounded again.

    Raises:
        OSError: the file cannot be written.
    """
    for values in (models.stars, models.lines):
        keep_bits(values, mantissa_bits)
    changed = {"DAPFRMT": "LOGCUBE", "MASKNAME": "MANGA_DAPSPECMASK"}
    with whole_gzip(path) as file:
        cards = primary_cards(daptype, target, galaxy, cube, spaxel_mask)
        write_primary(file, [(card[0], changed.get(card[0], card[1]), *card[2:]) for card in cards])
        writer = MapsWriter(file, target, galaxy, cube, spaxel_mask)
        wcs = {**wcs_cards(target, galaxy, len(cube.covered)), **_WAVE_AXIS}
        for name in _EXTENSIONS[form]:
            if name == "BINID":
                _write_bins(writer)
            elif name in ("WAVE", "REDCORR"):
                vector = WAVE if name == "WAVE" else 1 / galactic_transmission(galaxy)
                write_image(file, name, vector.astype(np.float32))
            else:
                _write_cube(writer, form, name, wcs, models)


def _write_cube(out: MapsWriter, form: MapsForm, name: str, wcs: dict[str, Any], models: ModelSpectra) -> None:
    shape = (NUM_WAVES, *out.mask.shape)
    cards = {**wcs, "AUTHOR": AUTHOR, "MASKNAME": "MANGA_DAPSPECMASK", "HDUCLASS": "SDSS", "HDUCLAS1": "IMAGE"}
    if name.endswith("MASK"):
        data = "FLUX" if name == "MASK" else name.removesuffix("_MASK")
        cards |= {"HDUCLAS2": "QUALITY", "HDUCLAS3": "FLAG16BIT", "SCIDATA": data}
        write_planes(out.file, name, 16, shape, _mask_planes(out, form, name, models), cards)
        return
    unit = {"IVAR": inverse_unit(DENSITY), "LSF": "angstrom"}.get(name, DENSITY)
    cards |= {"BUNIT": (unit, "Unit of pixel value"), "HDUCLAS2": "ERROR" if name == "IVAR" else "DATA"}
    quality = "MASK" if name in ("FLUX", "IVAR") else f"{name}_MASK"
    if quality in _EXTENSIONS[form]:
        cards["QUALDATA"] = quality
    write_planes(out.file, name, -32, shape, planes(out.measured, _values(out, name, models)), cards)


def _values(out: MapsWriter, name: str, models: ModelSpectra) -> np.ndarray:
    """Values of an extension [analysed spaxel, wavelength]."""
    if name in ("FLUX", "IVAR"):
        values: np.ndarray = getattr(out.cube, name.lower())[out.analysed]
        return values
    if name == "MODEL":
        return models.stars + models.lines
    if name == "STELLAR":
        return models.stars * (_MILES_END * (1 + out.galaxy.z) > WAVE)
    constant = line_spread()[1].astype(np.float32) if name == "LSF" else np.zeros(NUM_WAVES, dtype=np.float32)
    return models.lines if name == "EMLINE" else np.broadcast_to(constant, models.stars.shape)


def _mask_planes(out: MapsWriter, form: MapsForm, name: str, models: ModelSpectra) -> Iterator[bytes]:
    """Slabs of a mask, for `write_planes`."""
    bits = {bit: np.int16(1 << number) for bit, number in DAPSPECMASK.items()}
    unusable = out.cube.ivar[out.analysed] == 0
    if name == "MASK":
        skipped = bits["IGNORED"]
        mask = unusable * (skipped | bits["FLUXINVALID"] | bits["IVARINVALID"])
    else:
        skipped = bits["ELIGNORED" if form == "dr15" else "FITIGNORED"]
        last = _MILES_END if name == "STELLAR_MASK" else np.inf
        in_range = models.in_range & (last * (1 + out.galaxy.z) > WAVE)
        mask = (models.ignored | ~in_range) * skipped | unusable * bits["IVARINVALID"]
        if form == "dr17":
            mask |= ~in_range * bits["NOMODEL"]
    star = (out.mask & bits_value(["FORESTAR"], DAPPIXMASK)) != 0
    return planes(out.measured, mask, ">i2", (skipped | star * bits["FORESTAR"]).ravel())


def _write_bins(out: MapsWriter) -> None:
    """Writes the numbers of the bins; as in the DAP's files, the channels of other products are 0."""
    bins = np.zeros((len(BIN_STAGES), *out.mask.shape), dtype=np.int32)
    for stage in ("Binned spectra", "Stellar continua", "Em. line models"):
        bins[BIN_STAGES.index(stage)] = out.bins
    out.write("BINID", bins, channels=BIN_STAGES)


# As astropy writes the wavelengths of the LOGCUBE, in m.
_WAVE_AXIS = {
    "CRPIX3": 1.0, "CDELT3": 1.0, "PC3_3": FIRST_WAVE * 1e-10 * np.log(10) * LOG_STEP, "CRVAL3": FIRST_WAVE * 1e-10,
    "CTYPE3": "WAVE-LOG", "CUNIT3": "m", "WCSAXES": 3,
}  # fmt: skip


def moved(stars: np.ndarray, velocity_kms: np.ndarray) -> np.ndarray:
    """Spectra [spaxel, wavelength] moved by small velocities [spaxel], to first order."""
    return np.asarray(stars - (velocity_kms / PIXEL_KMS).astype(np.float32)[:, None] * np.gradient(stars, axis=1))
