"""Tests of images: whether one is sharper than the PSF, and whether blue and red images are displaced.

Shapes: T samples of all windows, L lines, Y and X spaxels, K spaxels near a place.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion

from modeling.scoring.hypotheses.components import Light
from modeling.scoring.hypotheses.extraction import Galaxy
from modeling.scoring.hypotheses.templates import Templates

WIDTHS = np.array([0.35, 0.5, 0.65, 0.8, 0.9, 1.0, 1.15, 1.35, 1.6])  # of the PSF
OFFSETS = np.linspace(-0.5, 0.5, 5)  # spaxels
SHARPEST = 0.88  # of the PSF's width, which is not known better than to a tenth
SHARP_GAIN = 9.0  # chi2, three standard deviations
REACH_SIGMA = 3.5
BLUE_BELOW = 5600.0  # rest wavelength, Angstrom: a spectrograph's arms meet between Hbeta and Halpha
NUM_RED = 4  # images that blue ones are mixtures of; more would follow noise
MIN_SNR = 30.0  # of a line's image
MIN_SPAXELS = 20
RATIO_SCATTER = 0.1  # of the ratio of two lines between spaxels
SHIFT_FLOOR = 0.06  # spaxels, by which gradients of dust and metallicity displace images
SHIFT_SIGMA = 5.0


@dataclass(frozen=True)
class Sharpness:
    """Sharpness of the image of a line.

    Attributes:
        width: standard deviation of the source, in units of the PSF's.
        gain: chi2 that this width removes beyond the PSF's.
    """

    width: float
    gain: float

    @property
    def is_sharp(self) -> bool:
        """Whether no light that passed the telescope can be that sharp."""
        return self.width < SHARPEST and self.gain > SHARP_GAIN


def line_images(galaxy: Galaxy, profiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fluxes [L, Y, X] of lines of profiles [L, T] and their inverse variances, each spaxel by itself."""
    sizes = np.abs(profiles)
    profiles = np.where(sizes > 0.02 * sizes.max(1, keepdims=True), profiles, 0)
    norm, total = (
        np.tensordot(shape, values, 1) for shape, values in ((profiles**2, galaxy.ivar), (profiles, galaxy.weighted))
    )
    return np.divide(total, norm, out=np.zeros_like(norm), where=norm > 0), norm


def sharpness(galaxy: Galaxy, templates: Templates, light: Light, y: int, x: int) -> Sharpness:
    """Sharpness of a line's image around a place: a Gaussian of free width on a plane."""
    (flux,), (ivar,) = line_images(galaxy, templates.profiles(light.parameters[:1], light.parameters[1:]))
    rows, columns = np.mgrid[: flux.shape[0], : flux.shape[1]]
    reach = max(REACH_SIGMA * galaxy.psf_sigma, 2.0)
    near = (np.hypot(rows - y, columns - x) <= reach) & (ivar > 0)
    root, dy, dx = np.sqrt(ivar[near]), rows[near] - y, columns[near] - x
    if near.sum() <= 6:
        return Sharpness(1.0, 0.0)
    plane, _ = np.linalg.qr(np.stack([np.ones(len(dy)), dy, dx], axis=1) * root[:, None])
    data = flux[near] * root
    data = data - plane @ (plane.T @ data)
    oy, ox = (grid.ravel()[:, None] for grid in np.meshgrid(OFFSETS, OFFSETS))
    square = (dy - oy) ** 2 + (dx - ox) ** 2
    spots = np.exp(-0.5 * square / (galaxy.psf_sigma * WIDTHS[:, None, None]) ** 2) * root
    spots = spots - (spots @ plane) @ plane.T
    chi2 = (data @ data - (spots @ data) ** 2 / np.maximum((spots**2).sum(-1), 1e-300)).min(1)
    best = int(chi2.argmin())
    scale = max(chi2[best] / (len(data) - 6), 1.0)
    return Sharpness(float(WIDTHS[best]), float((chi2[WIDTHS == 1.0][0] - chi2[best]) / scale))


@dataclass(frozen=True)
class Shift:
    """Displacement of the images of blue lines against those of red ones.

    Attributes:
        size: spaxels.
        error: spaxels; the scatter between lines and `SHIFT_FLOOR` included.
        gain: chi2 that it removes.
    """

    size: float
    error: float
    gain: float


def arm_shift(galaxy: Galaxy, templates: Templates, narrow_kms: tuple[float, float], use: np.ndarray) -> Shift | None:
    """Displacement that maps red images on blue ones best; None where the lines of an arm are too faint.

    A blue image is a mixture of the red ones, whose lines respond to dust and metallicity differently, plus the
    displacement times its own gradient.

    Args:
        galaxy: the galaxy.
        templates: of the survey.
        narrow_kms: velocity and standard deviation of its lines.
        use: [Y, X] bool, spaxels to use.
    """
    profiles = templates.component(np.array(narrow_kms[:1]), np.array([max(narrow_kms[1], 100.0)]))[0]
    images, ivars = line_images(galaxy, profiles)
    snr = np.sqrt((images**2 * ivars).sum((1, 2)))
    strong = snr > MIN_SNR
    wave = np.array(templates.rest_wave)
    blue, red = (np.flatnonzero(strong & side) for side in (wave < BLUE_BELOW, wave > BLUE_BELOW))
    red = red[np.argsort(-snr[red])[:NUM_RED]]
    known = (ivars[np.concatenate([blue, red])] > 0).all(0)
    inner = use & binary_erosion(known)  # whose gradients are known
    if not len(blue) or not len(red) or inner.sum() < MIN_SPAXELS:
        return None
    grams, rights = [], []
    for index in blue:
        root = 1 / np.sqrt(1 / ivars[index][inner] + (RATIO_SCATTER * images[index][inner]) ** 2)
        base, _ = np.linalg.qr(images[red][:, inner].T * root[:, None])
        columns = np.stack([images[index], *np.gradient(images[index])])[:, inner].T * root[:, None]
        data, *slopes = (columns - base @ (base.T @ columns)).T
        slope = np.stack(slopes, axis=1)
        grams.append(slope.T @ slope)
        rights.append(slope.T @ data)
    return _combined(np.array(grams), np.array(rights))


def _combined(grams: np.ndarray, rights: np.ndarray) -> Shift:
    """Common displacement of several lines; where they disagree it is less certain."""
    tiny = 1e-9 * np.eye(2)
    each = np.array([np.linalg.solve(gram + tiny, right) for gram, right in zip(grams, rights, strict=True)])
    covariance = np.linalg.inv(grams.sum(0) + tiny)
    move = covariance @ rights.sum(0)
    weight = np.array([np.trace(gram) for gram in grams])
    scatter = (weight[:, None] * (each - move) ** 2).sum() / weight.sum() / max(len(grams) - 1, 1) / 2
    error = float(np.sqrt(np.trace(covariance) / 2 + scatter + SHIFT_FLOOR**2))
    size = float(np.hypot(*move))
    return Shift(size, error, float(rights.sum(0) @ move) if size > SHIFT_SIGMA * error else 0.0)
