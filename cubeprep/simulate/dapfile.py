"""Layout of DAP MAPS: extensions, channels, masks and cards, with 22 lines (before DR17) or 35 (DR17)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cubeprep.lines import SPEED_OF_LIGHT_KMS, Line
from cubeprep.masks import DAPPIXMASK, bits_value
from cubeprep.simulate.bands import INDEX_UNITS
from cubeprep.simulate.config import MapsForm
from cubeprep.simulate.cube import Cube
from cubeprep.simulate.drp import IMAGE_BANDS, broad_band
from cubeprep.simulate.fitsfile import whole_gzip, write_primary
from cubeprep.simulate.footprint import SPAXEL_ARCSEC, spaxel_offsets
from cubeprep.simulate.galaxy import HUBBLE_KMS_MPC, Galaxy, kpc_per_arcsec
from cubeprep.simulate.instrument import WAVE
from cubeprep.simulate.linefit import LineFit
from cubeprep.simulate.mapswriter import AUTHOR, BIN_STAGES, MapsWriter, inverse_unit
from cubeprep.simulate.target import Target, common_cards

_NOVALUE, _MATHERROR, _NEARBOUND = (
    bits_value([name, "DONOTUSE"], DAPPIXMASK) for name in ("NOVALUE", "MATHERROR", "NEARBOUND")
)
DENSITY, _FLUX = "1E-17 erg/s/cm^2/ang/spaxel", "1E-17 erg/s/cm^2/spaxel"
_FIGURES = ("rms", "frms", "rchi2", "68th perc frac resid", "99th perc frac resid", "max frac resid",
            "68th perc per pix chi", "99th perc per pix chi", "max per pix chi")  # fmt: skip


@dataclass(frozen=True)
class Measurements:
    """Measurements in the analysed spaxels.

    Attributes:
        lines: lines in the order of the channels.
        fit: Gaussian fits.
        velocity_kms, velocity_ivar: [spaxel] velocity of the gas relative to the redshift, and its inverse variance.
        sum_flux, sum_variance: [line, spaxel] summed fluxes, 1e-17 erg/s/cm^2/spaxel, and their variance.
        continuum: [line, spaxel] flux density of the continuum below the lines.
        summed: [line, spaxel] whether the sum is usable: the line has its own band, and enough of it was covered.
        instrument_kms, template_kms: [line] resolution (sigma) of the instrument and of the DAP's templates.
        star_velocity_kms, star_velocity_ivar, star_sigma_kms, star_sigma_ivar: [spaxel] velocity and dispersion of the
            stars with their inverse variances.
        indices, index_variance, index_seen: [index, spaxel] absorption indices, their variances, whether covered.
        figures: [figure of merit, spaxel] for stars and lines together.
        line_chi2: [line, spaxel] reduced chi2 around each line.
    """

    lines: tuple[Line, ...]
    fit: LineFit
    velocity_kms: np.ndarray
    velocity_ivar: np.ndarray
    sum_flux: np.ndarray
    sum_variance: np.ndarray
    continuum: np.ndarray
    summed: np.ndarray
    instrument_kms: np.ndarray
    template_kms: np.ndarray
    star_velocity_kms: np.ndarray
    star_velocity_ivar: np.ndarray
    star_sigma_kms: np.ndarray
    star_sigma_ivar: np.ndarray
    indices: np.ndarray
    index_variance: np.ndarray
    index_seen: np.ndarray
    figures: np.ndarray
    line_chi2: np.ndarray


def write_maps_file(
    path: Path,
    form: MapsForm,
    daptype: str,
    target: Target,
    galaxy: Galaxy,
    cube: Cube,
    spaxel_mask: np.ndarray,
    measured: Measurements,
) -> None:
    """Writes a MAPS file.

    Args:
        path: of the file.
        form: number of lines and set of extensions.
        daptype: name of the analysis, for the header.
        target: the observation.
        galaxy: the galaxy.
        cube: the observed cube.
        spaxel_mask: [covered spaxel] DAP mask; 0 for the spaxels in `measured`.
        measured: the measurements.

    Raises:
        OSError: the file cannot be written.
    """
    with whole_gzip(path) as file:
        write_primary(file, primary_cards(daptype, target, galaxy, cube, spaxel_mask))
        writer = MapsWriter(file, target, galaxy, cube, spaxel_mask)
        _write_spaxels(writer, form)
        _write_stars(writer, form, measured)
        _write_lines(writer, form, measured)
        _write_indices(writer, form, measured)


def _write_spaxels(out: MapsWriter, form: MapsForm) -> None:
    """Writes coordinates, images and bins; every bin is one spaxel."""
    size = len(out.mask)
    x, y = spaxel_offsets(size)
    sky = np.stack([-x * SPAXEL_ARCSEC, y * SPAXEL_ARCSEC]).astype(np.float32)
    ellipse = _elliptical(sky, out.galaxy, form)
    kpc: list[tuple[str, str]] = [("R h/kpc", "kpc/h")] if form == "dr17" else []
    kinds = [("Elliptical radius", "arcsec"), ("R/Re", ""), *kpc, ("Elliptical azimuth", "degrees")]
    names, units = tuple(name for name, _ in kinds), tuple(unit for _, unit in kinds)
    flux, ivar, snr = _g_band(out.cube)
    seen = out.mask & bits_value(["NOCOV", "LOWCOV"], DAPPIXMASK) == 0
    out.write("SPX_SKYCOO", sky, "arcsec", ("On-sky X", "On-sky Y"))
    out.write("SPX_ELLCOO", ellipse, channels=names, units=units)
    out.write("SPX_MFLUX", flux * seen, DENSITY, classes={"ERRDATA": "SPX_MFLUX_IVAR"})
    cards = {"HDUCLAS2": "ERROR", "HDUCLAS3": "INVMSE", "SCIDATA": "SPX_MFLUX"}
    out.write("SPX_MFLUX_IVAR", ivar * seen, inverse_unit(DENSITY), classes=cards)
    out.write("SPX_SNR", snr * seen)
    out.write("BINID", np.broadcast_to(out.bins, (len(BIN_STAGES), *out.bins.shape)), channels=BIN_STAGES)
    own = out.measured.astype(np.float32)
    out.write("BIN_LWSKYCOO", sky * own, "arcsec", ("Lum. weighted on-sky X", "Lum. weighted on-sky Y"))
    weighted = tuple(f"Lum. weighted {name[0].lower()}{name[1:]}" if "llip" in name else name for name in names)
    out.write("BIN_LWELLCOO", ellipse * own, channels=weighted, units=units)
    out.write("BIN_AREA", own * np.float32(SPAXEL_ARCSEC**2), "arcsec^2")
    out.write("BIN_FAREA", own)
    out.write_with_errors(
        "BIN_MFLUX", flux[out.measured], ivar[out.measured], np.zeros(int(own.sum()), dtype=np.int32), DENSITY
    )
    out.write("BIN_SNR", snr * own)


def _write_stars(out: MapsWriter, form: MapsForm, measured: Measurements) -> None:
    good = np.zeros(len(measured.velocity_kms), dtype=np.int32)
    for name, values, ivar in (
        ("STELLAR_VEL", measured.star_velocity_kms, measured.star_velocity_ivar),
        ("STELLAR_SIGMA", measured.star_sigma_kms, measured.star_sigma_ivar),
    ):
        out.write_with_errors(name, values, ivar, good, "km/s")
    nothing = np.zeros_like(measured.velocity_kms)
    if form == "dr15":
        out.write("STELLAR_SIGMACORR", out.image(nothing), "km/s")
        out.write(
            "STELLAR_CONT_FRESID", out.image(measured.figures[3:5]), channels=("68th percentile", "99th percentile")
        )
        out.write("STELLAR_CONT_RCHI2", out.image(measured.figures[2]))
    else:
        kinds = ("resolution difference", "fit")
        out.write("STELLAR_SIGMACORR", out.image(np.stack([nothing, nothing])), "km/s", kinds)
        out.write("STELLAR_FOM", out.image(measured.figures), channels=_FIGURES, units=(DENSITY, *[""] * 8))


def _write_lines(out: MapsWriter, form: MapsForm, measured: Measurements) -> None:
    """Writes fluxes, equivalent widths, velocities and widths; channels are named after line and wavelength."""
    fit, continuum = measured.fit, measured.continuum
    names = tuple(line.name for line in measured.lines)
    sum_names = tuple("OIId-3728" if name == "OII-3727" else name for name in names)
    summed, fitted = measured.summed, fit.fitted
    safe = np.where(np.abs(continuum) > 1e-4, continuum, np.inf)
    sum_mask, fit_mask = np.where(summed, 0, _NOVALUE), np.where(fitted, 0, _NOVALUE)

    def pair(kind: str, flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray, channels: tuple[str, ...]) -> None:
        kept = mask == 0
        count = ((f"EMLINE_{kind}EW_CNT", continuum * kept, DENSITY),) if form == "dr17" else ()
        out.write_with_errors(f"EMLINE_{kind}FLUX", flux * kept, ivar * kept, mask, _FLUX, channels)
        wide = flux / safe * kept
        out.write_with_errors(f"EMLINE_{kind}EW", wide, ivar * continuum**2 * kept, mask, "ang", channels, (), count)

    with np.errstate(divide="ignore"):
        pair("S", measured.sum_flux, 1 / np.maximum(measured.sum_variance, 1e-20), sum_mask, sum_names)
    pair("G", fit.flux, fit.flux_ivar, fit_mask, names)
    velocity, velocity_ivar = (
        np.broadcast_to(v, fit.flux.shape) for v in (measured.velocity_kms, measured.velocity_ivar)
    )
    out.write_with_errors("EMLINE_GVEL", velocity * fitted, velocity_ivar * fitted, fit_mask, "km/s", names)
    narrow = fit.sigma_kms <= measured.instrument_kms[:, None]
    sigma_mask = fit_mask | np.where(fitted & (fit.at_bound | (fit.flux == 0)), _NEARBOUND, 0)
    sigma_mask |= np.where((sigma_mask == 0) & narrow, _MATHERROR, 0)
    out.write_with_errors("EMLINE_GSIGMA", fit.sigma_kms * fitted, fit.sigma_ivar * fitted, sigma_mask, "km/s", names)
    for kind, resolution in (("INST", measured.instrument_kms), ("TPL", measured.template_kms)):
        out.write(f"EMLINE_{kind}SIGMA", out.image(resolution[:, None] * fitted), "km/s", names)
    if form == "dr17":
        _write_amplitudes(out, measured, names)


def _write_amplitudes(out: MapsWriter, measured: Measurements, names: tuple[str, ...]) -> None:
    fit = measured.fit
    waves = np.array([line.rest_wave for line in measured.lines])[:, None] * (1 + out.galaxy.z)
    width = np.maximum(fit.sigma_kms, 1.0) / SPEED_OF_LIGHT_KMS * waves * np.sqrt(2 * np.pi)
    amplitude = fit.flux / width * fit.fitted
    # Flux and amplitude of a Gaussian of given width are proportional, and so are their errors.
    noise = np.sqrt(1 / np.maximum(fit.flux_ivar, 1e-20)) / width
    out.write("EMLINE_GA", out.image(amplitude), DENSITY, names)
    out.write("EMLINE_GANR", out.image(amplitude / np.maximum(noise, 1e-20)), "", names)
    out.write("EMLINE_FOM", out.image(measured.figures), channels=_FIGURES, units=(DENSITY, *[""] * 8))
    out.write("EMLINE_LFOM", out.image(measured.line_chi2), "", names)


def _write_indices(out: MapsWriter, form: MapsForm, measured: Measurements) -> None:
    """Writes absorption indices; they are not corrected for velocity dispersion (bit NOCORRECTION)."""
    names, units = tuple(INDEX_UNITS), tuple(INDEX_UNITS.values())
    seen = measured.index_seen
    values, ivar = measured.indices * seen, seen / np.maximum(measured.index_variance, 1e-20)
    uncorrected = bits_value(["NOCORRECTION"], DAPPIXMASK)
    mask = np.where(seen, uncorrected, _NOVALUE)
    # DR17's extensions _BF and _WGT measure the same bands with other definitions; here they repeat the values.
    for kind in ("", "_BF", "_WGT") if form == "dr17" else ("",):
        out.write_with_errors(f"SPECINDEX{kind}", values, ivar, mask, "", names, units)
        out.write(f"SPECINDEX{kind}_CORR", out.image(np.ones_like(values)), "", names)
        if form == "dr17":
            out.write(f"SPECINDEX{kind}_MODEL", out.image(values), "", names)


def _elliptical(sky: np.ndarray, galaxy: Galaxy, form: MapsForm) -> np.ndarray:
    """Elliptical coordinates [channel, y, x] in the plane of the disc.

    Radius in arcsec, radius in half-light radii, in DR17 radius in kpc/h, and azimuth in degrees.
    """
    angle = np.arctan2(sky[0], sky[1]) - np.radians(galaxy.pa_deg)
    radius = np.hypot(sky[0], sky[1])
    along, across = radius * np.cos(angle), radius * np.sin(angle) / galaxy.axis_ratio
    in_plane = np.hypot(along, across)
    azimuth = np.degrees(np.arctan2(across, along)) % 360
    kpc = in_plane * float(kpc_per_arcsec(galaxy.z)) * HUBBLE_KMS_MPC / 100
    parts = [in_plane, in_plane / galaxy.re_arcsec, *([kpc] if form == "dr17" else []), azimuth]
    return np.stack(parts).astype(np.float32)


def _g_band(cube: Cube) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images [y, x] of the g band: flux density, its inverse variance per pixel, and signal-to-noise ratio."""
    values, ratio = broad_band(cube, "G")
    images = np.zeros((3, *cube.covered.shape), dtype=np.float32)
    safe = np.where(np.abs(values) > 1e-12, values, 1e-12)
    images[:, cube.covered] = values, (ratio / safe) ** 2, ratio
    return images[0], images[1], images[2]


def primary_cards(
    daptype: str, target: Target, galaxy: Galaxy, cube: Cube, spaxel_mask: np.ndarray
) -> list[tuple[Any, ...]]:
    """Cards of the DRP followed by those of the analysis, in the order of the real files."""
    critical = target.defects.flags(30)
    # DAPQUAL: DRPCRIT and CRITICAL; FORESTAR.
    quality = (1 << 28 | 1 << 30 if critical else 0) | int(target.defects.star_arcsec is not None)
    index = int(np.argmin(np.abs(np.mean(IMAGE_BANDS["G"]) - WAVE)))
    num = int((spaxel_mask == 0).sum())
    snr: list[tuple[str, float, str]] = []
    for band in "GRIZ":
        values = _ring(galaxy, cube, broad_band(cube, band)[1])
        snr.append((f"SNR{band}MED", float(np.median(values)), f"Median {band.lower()}-band SNR from 1-1.5 Re"))
    return [
        ("AUTHOR", AUTHOR),
        *common_cards(target, galaxy),
        ("MASKNAME", "MANGA_DAPPIXMASK", "Bits in sdssMaskbits.par used by mask extension"),
        ("VERSDAP", "3.1.0", "MaNGA DAP version"),
        ("DAPTYPE", daptype, "DAP analysis method"),
        ("DAPFRMT", "MAPS", "DAP data file format"),
        ("RDXQAKEY", "SNRG", "Method keyword"),
        ("ECOOPA", galaxy.pa_deg % 180, "Position angle for ellip. coo"),
        ("ECOOELL", 1 - galaxy.axis_ratio, "Ellipticity (1-b/a) for ellip. coo"),
        ("BBWAVE", float(WAVE[index]), "Covariance channel wavelength"),
        ("BBINDEX", index, "Covariance channel index"),
        ("REFF", galaxy.re_arcsec),
        ("BINKEY", "HYB10", "Spectal binning method keyword"),
        ("BINMINSN", 1.0, "Minimum S/N of spectrum to include"),
        ("FSPCOV", 0.8, "Minimum allowed fraction of good pixels"),
        ("NBINS", num, "Number of unique spatial bins"),
        ("BINTYPE", "none", "Binning method"),
        ("GEXTLAW", "CCM", "Galactic extinction law"),
        ("RVGAL", 3.1, "Ratio of total to selective extinction, R(V)"),
        ("VSTEP", SPEED_OF_LIGHT_KMS * np.log(10) * 1e-4, "Velocity step per spectral channel."),
        ("SCINPVEL", SPEED_OF_LIGHT_KMS * galaxy.z, "Initial guess velocity"),
        ("SCINPSIG", 100.0, "Initial guess velocity dispersion"),
        ("NSCMOD", num, "Number of unique stellar-continuum models"),
        ("NELMOD", num, "Number of unique emission-line models"),
        ("ELREBIN", False, "Bin IDs disconnected from SC binning"),
        *snr,
        ("DAPQUAL", quality, "DAP quality bitmask"),
    ]


def _ring(galaxy: Galaxy, cube: Cube, values: np.ndarray) -> np.ndarray:
    """Those values [covered spaxel] that lie between 1 and 1.5 half-light radii; all values if none does."""
    x, y = spaxel_offsets(cube.covered.shape[0])
    sky = np.stack([-x * SPAXEL_ARCSEC, y * SPAXEL_ARCSEC]).astype(np.float32)
    radius = _elliptical(sky, galaxy, "dr15")[1][cube.covered]
    inside = (radius > 1) & (radius < 1.5)
    return values[inside] if inside.any() else values
