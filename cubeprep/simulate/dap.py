"""Measures a simulated cube like the Data Analysis Pipeline (DAP) and writes the results as MAPS and model cubes.

Emission lines are fitted to, and summed over, the noisy spectra of single spaxels (as in the DAP's HYB10), and
absorption indices are measured on the same spectra. Quantities that would need a stellar-population fit are taken from
the truth, with realistic errors: velocity and dispersion of the stars, and the shape (not the scale) of the continuum
below the lines.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cubeprep.lines import DAP_DR17_LINES, LINES_BY_NAME, PAPER_LINES, SPEED_OF_LIGHT_KMS, Line
from cubeprep.masks import DAPPIXMASK, DRP3PIXMASK, bits_value
from cubeprep.simulate.bands import BandSums, absorption_indices
from cubeprep.simulate.config import MapsForm
from cubeprep.simulate.cube import Cube, galactic_transmission, star_spectra
from cubeprep.simulate.dapfile import Measurements, write_maps_file
from cubeprep.simulate.dapmodel import ModelSpectra, fit_models, moved, write_model_cube
from cubeprep.simulate.drp import broad_band
from cubeprep.simulate.galaxy import Galaxy
from cubeprep.simulate.instrument import NUM_WAVES, PIXEL_KMS, lsf_sigma_pixels, pixel_of
from cubeprep.simulate.linefit import LineFit, LineFitter
from cubeprep.simulate.maps import GalaxyMaps
from cubeprep.simulate.spectrum import add_line
from cubeprep.simulate.target import Target

DAPTYPES: dict[MapsForm, str] = {"dr15": "HYB10-GAU-MILESHC", "dr17": "HYB10-MILESHC-MASTARHC2"}

# The 22 lines before DR17: the paper's 19, [O II] 3727 and 3729, and Htheta.
FORM_LINES: dict[MapsForm, tuple[Line, ...]] = {
    "dr15": (*(LINES_BY_NAME[name] for name in ("OII-3727", "OII-3729", "Hthe-3798")), *PAPER_LINES),
    "dr17": DAP_DR17_LINES,
}

# Half widths of the bands over which fluxes are summed, Angstrom, where not 10; and lines whose flux falls into the
# band of a neighbour, which therefore have no sum of their own.
_HALF_BAND = {"OII-3727": 11.0, "H12-3751": 5.0, "NII-6549": 7.0, "Ha-6564": 7.0, "SII-6718": 7.0, "SII-6732": 7.0,
              "SIII-9533": 7.7, "Peps-9548": 7.7}  # fmt: skip
_IN_ANOTHER_BAND = {"OII-3729", "HeI-3889", "NI-5201"}

# Errors of the stellar velocity and dispersion at a signal-to-noise ratio of 1, km/s, as in the real MAPS 7815-3702;
# they scale with its inverse.
_STAR_VELOCITY_ERROR, _STAR_SIGMA_ERROR = 80.0, 115.0
# The templates that the DAP fits are narrower than the instrument by this much in quadrature.
_TEMPLATE_GAIN_KMS = 57.0

# A spaxel takes a bit of the cube's mask if more than _LOWCOV_SHARE of its pixels have it. It is analysed if at least
# _USABLE_SHARE of its pixels are usable (FSPCOV of the DAP) and its S/N in g is at least _MIN_SNR (BINMINSN).
_LOWCOV_SHARE, _USABLE_SHARE, _MIN_SNR = 0.5, 0.8, 1.0
_CHUNK = 512


@dataclass(frozen=True)
class _Spectra:
    """Spectra of the analysed spaxels, corrected for the Milky Way's dust.

    Attributes:
        flux, ivar, stars: [spaxel, wavelength] flux density, its inverse variance (0 where unusable), true starlight.
        velocity_kms, sigma_kms: [spaxel] velocity and dispersion of the stars with measurement errors.
        velocity_error_kms: [spaxel] error of that velocity.
        snr: [spaxel] signal-to-noise ratio per pixel in the g band.
    """

    flux: np.ndarray
    ivar: np.ndarray
    stars: np.ndarray
    velocity_kms: np.ndarray
    velocity_error_kms: np.ndarray
    sigma_kms: np.ndarray
    snr: np.ndarray


def write_maps(
    paths: Mapping[MapsForm, Path],
    target: Target,
    galaxy: Galaxy,
    maps: GalaxyMaps,
    cube: Cube,
    *,
    model_paths: Mapping[MapsForm, Path] | None = None,
    mantissa_bits: int = 10,
) -> None:
    """Measures a cube and writes MAPS and model cubes in the requested forms; the bytes depend only on the arguments.

    Args:
        paths: path of the MAPS in each form.
        target: the observation.
        galaxy: the galaxy.
        maps: its light in each exposure, without noise.
        cube: the observed cube.
        model_paths: path of the model cube in each form; none by default.
        mantissa_bits: significant bits to keep in model cubes.

    Raises:
        OSError: a file cannot be written.
    """
    spaxel_mask = _spaxel_mask(cube)
    usable = spaxel_mask == 0
    spectra = _analysed_spectra(target, galaxy, maps, cube, usable)
    fitter = [
        LineFitter(spectra.flux[rows], spectra.ivar[rows], spectra.stars[rows], galaxy.z)
        for rows in _chunks(len(spectra.snr))
    ]
    parts = [f.velocity(spectra.velocity_kms[rows]) for f, rows in zip(fitter, _chunks(len(spectra.snr)), strict=True)]
    velocity, velocity_ivar = (np.concatenate(part) for part in zip(*parts, strict=True))
    model_paths = model_paths or {}
    for form in dict.fromkeys((*paths, *model_paths)):
        lines = FORM_LINES[form]
        fits = [f.lines(lines, velocity[rows]) for f, rows in zip(fitter, _chunks(len(velocity)), strict=True)]
        fit = LineFit(*(np.concatenate([vars(part)[key] for part in fits], axis=1) for key in vars(fits[0])))
        subject = (form, DAPTYPES[form], target, galaxy, cube)
        if form in paths:
            measured = _measure(form, galaxy, spectra, fit, (velocity, velocity_ivar))
            write_maps_file(paths[form], *subject, spaxel_mask, measured)
        if form in model_paths:
            models = _models(form, galaxy, spectra, _line_model(galaxy, lines, fit, velocity))
            write_model_cube(
                model_paths[form], *subject, spaxel_mask=spaxel_mask, models=models, mantissa_bits=mantissa_bits
            )


def _chunks(count: int) -> list[slice]:
    """Slices of a few hundred spaxels, so that the arrays of a fit stay in the processor's cache."""
    return [slice(start, start + _CHUNK) for start in range(0, max(count, 1), _CHUNK)]


def _spaxel_mask(cube: Cube) -> np.ndarray:
    """DAP mask [covered spaxel]; 0 for spaxels that are analysed."""
    bad = DRP3PIXMASK
    share = {name: (cube.mask >> bad[name] & 1).mean(axis=1) for name in ("NOCOV", "LOWCOV", "DEADFIBER", "FORESTAR")}
    mask = np.zeros(len(cube.mask), dtype=np.int32)
    for name, value in share.items():
        mask[value > _LOWCOV_SHARE] |= bits_value([name, "DONOTUSE"], DAPPIXMASK)
    good = ((cube.mask >> bad["DONOTUSE"] & 1) == 0).mean(axis=1)
    unfit = (good < _USABLE_SHARE) | (broad_band(cube, "G")[1] < _MIN_SNR)
    mask[(mask == 0) & unfit] |= bits_value(["NOVALUE", "DONOTUSE"], DAPPIXMASK)
    return mask


def _analysed_spectra(target: Target, galaxy: Galaxy, maps: GalaxyMaps, cube: Cube, usable: np.ndarray) -> _Spectra:
    """Spectra of the usable spaxels, with the kinematics of their stars."""
    weights = maps.sampling.weights[usable]
    transmission = galactic_transmission(galaxy)
    good = (cube.mask[usable] >> DRP3PIXMASK["DONOTUSE"] & 1) == 0
    light = [part.light.sum(axis=0) for part in maps.stars]
    velocity = sum(a * part.velocity_kms for a, part in zip(light, maps.stars, strict=True)) / np.sum(light, axis=0)
    sigma = sum(a * part.sigma_kms for a, part in zip(light, maps.stars, strict=True)) / np.sum(light, axis=0)
    snr = np.maximum(broad_band(cube, "G")[1][usable], 1.0)
    # A generator seeded by the observation's name, so that the LOGCUBE does not depend on whether MAPS are written.
    rng = np.random.default_rng([target.plate, int(target.ifudsgn), int(target.mangaid.split("-")[1])])
    noise = rng.standard_normal((2, len(snr))) / snr
    return _Spectra(
        flux=cube.flux[usable] / transmission,
        ivar=cube.ivar[usable] * good * transmission**2,
        stars=(weights @ star_spectra(galaxy, maps)) / transmission,
        velocity_kms=weights @ velocity + _STAR_VELOCITY_ERROR * noise[0],
        velocity_error_kms=_STAR_VELOCITY_ERROR * noise[0],
        sigma_kms=np.maximum(weights @ sigma + _STAR_SIGMA_ERROR * noise[1], 1.0),
        snr=snr,
    )


def _models(form: MapsForm, galaxy: Galaxy, spectra: _Spectra, lines: np.ndarray) -> ModelSpectra:
    """Models of the spectra with these emission lines [spaxel, wavelength]."""
    stars = moved(spectra.stars, spectra.velocity_error_kms)
    parts = [
        fit_models(form, galaxy, spectra.flux[rows], spectra.ivar[rows], stars[rows], lines[rows])
        for rows in _chunks(len(stars))
    ]
    return ModelSpectra(*(np.concatenate([vars(part)[key] for part in parts]) for key in vars(parts[0])))


def _measure(
    form: MapsForm, galaxy: Galaxy, spectra: _Spectra, fit: LineFit, velocity: tuple[np.ndarray, np.ndarray]
) -> Measurements:
    """All measurements of lines and indices, [channel, spaxel]."""
    lines = FORM_LINES[form]
    redshift = (1 + galaxy.z) * (1 + velocity[0] / SPEED_OF_LIGHT_KMS) - 1
    with np.errstate(divide="ignore"):
        variance = 1 / spectra.ivar
    data = BandSums(spectra.flux, variance, redshift)
    gas = data.of(spectra.flux - spectra.stars)
    star_redshift = (1 + galaxy.z) * (1 + spectra.velocity_kms / SPEED_OF_LIGHT_KMS) - 1
    model = _line_model(galaxy, lines, fit, velocity[0])
    without_lines = data.of(spectra.flux - model, star_redshift)
    model += spectra.stars
    residual = spectra.flux - model
    summed = [_summed(line, data, gas) for line in lines]
    instrument = np.array([lsf_sigma_pixels(line.rest_wave * (1 + galaxy.z), with_pixel=True) for line in lines])
    sums, sum_variance, continuum, seen = (np.stack(part) for part in zip(*summed, strict=True))
    indices, index_variance, index_seen = absorption_indices(without_lines)
    return Measurements(
        lines=lines,
        fit=fit,
        velocity_kms=velocity[0],
        velocity_ivar=velocity[1],
        sum_flux=sums,
        sum_variance=sum_variance,
        continuum=continuum,
        summed=seen > _USABLE_SHARE,
        instrument_kms=instrument * PIXEL_KMS,
        template_kms=np.sqrt(np.maximum((instrument * PIXEL_KMS) ** 2 - _TEMPLATE_GAIN_KMS**2, 1.0)),
        star_velocity_kms=spectra.velocity_kms,
        star_velocity_ivar=(spectra.snr / _STAR_VELOCITY_ERROR) ** 2,
        star_sigma_kms=spectra.sigma_kms,
        star_sigma_ivar=(spectra.snr / _STAR_SIGMA_ERROR) ** 2,
        indices=indices,
        index_variance=index_variance,
        index_seen=index_seen > _USABLE_SHARE,
        figures=_figures_of_merit(residual, model, spectra.ivar),
        line_chi2=np.stack([_chi2_around(line, galaxy.z, residual, spectra.ivar) for line in lines]),
    )


def _summed(line: Line, data: BandSums, gas: BandSums) -> tuple[np.ndarray, ...]:
    """Summed flux of a line, its variance, the continuum below it, and the usable fraction of the bands, each [spaxel].

    The flux is summed on the spectrum without stars, less a straight line through the sidebands; the continuum for the
    equivalent width is measured with them.
    """
    half = _HALF_BAND.get(line.name, 10.0)
    # [O II] is summed as a doublet, under the name of its first line.
    centre = 3727.3 if line.name == "OII-3727" else line.rest_wave
    flux, variance, share = gas.integrate(centre - half, centre + half)
    middles = [np.mean(side) for side in (line.blueside, line.redside)]
    place = (centre - middles[0]) / (middles[1] - middles[0])

    def between(sums: BandSums) -> tuple[np.ndarray, np.ndarray]:
        (blue, _, blue_share), (red, _, red_share) = sums.mean(*line.blueside), sums.mean(*line.redside)
        return (1 - place) * blue + place * red, np.minimum(blue_share, red_share)

    baseline, side_share = between(gas)
    flux = flux - baseline * 2 * half * (1 + gas.redshift)
    seen = np.where(line.name in _IN_ANOTHER_BAND, 0.0, np.minimum(share, side_share))
    return flux, variance, between(data)[0], seen


def _figures_of_merit(residual: np.ndarray, model: np.ndarray, ivar: np.ndarray) -> np.ndarray:
    """Figures of merit [figure, spaxel] in the order of `dapfile`'s channels, from every fourth pixel.

    Root mean square of the residual and of the residual over the model, reduced chi2, then percentiles 68, 99 and 100
    of the residual over the model and over the noise.
    """
    part = (slice(None), slice(2, -8, 4))
    off, weight = np.abs(residual[part]), ivar[part]
    relative = off / np.maximum(np.abs(model[part]), 1e-3)
    chi = off * np.sqrt(weight)
    rms, relative_rms = (np.sqrt((values**2).mean(axis=1)) for values in (off, relative))
    growth = [values for array in (relative, chi) for values in np.percentile(array, [68, 99, 100], axis=1)]
    return np.stack([rms, relative_rms, (chi**2).mean(axis=1), *growth])


def _chi2_around(line: Line, z: float, residual: np.ndarray, ivar: np.ndarray) -> np.ndarray:
    """Reduced chi2 [spaxel] within 15 pixels of a line."""
    centre = int(np.clip(pixel_of(line.rest_wave * (1 + z)), 15, NUM_WAVES - 16))
    near = (slice(None), slice(centre - 15, centre + 16))
    return (residual[near] ** 2 * ivar[near]).mean(axis=1)


def _line_model(galaxy: Galaxy, lines: tuple[Line, ...], fit: LineFit, velocity_kms: np.ndarray) -> np.ndarray:
    """Sum of the fitted lines [spaxel, wavelength]."""
    model = np.zeros((len(velocity_kms), NUM_WAVES), dtype=np.float32)
    for line, flux, sigma in zip(lines, fit.flux, fit.sigma_kms, strict=True):
        add_line(model, line.rest_wave, flux, galaxy.z, velocity_kms, sigma, with_instrument=False)
    return model
