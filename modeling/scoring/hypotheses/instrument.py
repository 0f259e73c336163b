"""What the instrument or the pipeline does: tests on images and on the whole galaxy.

Shapes: T samples of all windows, Y and X spaxels.
"""

from dataclasses import dataclass

import numpy as np

from modeling.scoring.hypotheses.components import Light, line
from modeling.scoring.hypotheses.extraction import Galaxy
from modeling.scoring.hypotheses.least_squares import Whitened
from modeling.scoring.hypotheses.ordinary import Narrow, flat_starlight
from modeling.scoring.hypotheses.templates import Templates

WIDTHS = np.array([0.35, 0.5, 0.65, 0.8, 0.9, 1.0, 1.15, 1.35, 1.6])
SHARP = 0.88  # of the PSF's width: it is not known better than to a tenth
IMAGE_REACH = 3.5  # of the PSF
SAME_SIGN = 0.7  # share of spaxels: a bright one can set a mean, but not the sign of all


@dataclass(frozen=True)
class Image:
    """Image of a single line.

    Attributes:
        width: standard deviation of the source, in units of the PSF.
        gain_over_psf: chi2 that this width removes beyond the PSF's.
    """

    width: float
    gain_over_psf: float


def image_of(galaxy: Galaxy, templates: Templates, light: Light, y: int, x: int) -> Image:
    """How sharp the image of a line is, by a Gaussian on a plane."""
    profile = templates.profiles(light.parameters[:1], light.parameters[1:2])[0]
    near_samples = np.abs(profile) > 0.05 * np.abs(profile).max()
    profile = profile[near_samples]
    flux, variance, good = (v[near_samples] for v in (galaxy.flux, galaxy.variance, galaxy.good))
    weight = good / variance * profile[:, None, None]
    norm = (weight * profile[:, None, None]).sum(0)
    height, width = flux.shape[1:]
    rows, columns = np.mgrid[:height, :width]
    near = (np.hypot(rows - y, columns - x) <= max(IMAGE_REACH * galaxy.psf_sigma, 2.0)) & (norm > 0)
    values = ((weight * flux).sum(0)[near] / norm[near]).astype(np.float64)
    root = np.sqrt(norm[near])
    dy, dx = rows[near] - y, columns[near] - x
    plane = np.stack([np.ones(len(dy)), dy, dx], 1)
    chi2 = np.full(len(WIDTHS), np.inf)
    for oy in (-0.5, -0.25, 0.0, 0.25, 0.5):
        for ox in (-0.5, -0.25, 0.0, 0.25, 0.5):
            square = (dy - oy) ** 2 + (dx - ox) ** 2
            spots = np.exp(-0.5 * square[None] / (galaxy.psf_sigma * WIDTHS[:, None]) ** 2)
            base, _ = np.linalg.qr(plane * root[:, None])
            data = values * root
            data = data - base @ (base.T @ data)
            spots = spots * root
            spots = spots - (spots @ base) @ base.T
            chi2 = np.minimum(chi2, data @ data - (spots @ data) ** 2 / (spots**2).sum(1))
    best = int(chi2.argmin())
    scale = max(chi2[best] / max(len(values) - 6, 1), 1.0)
    return Image(float(WIDTHS[best]), float((chi2[WIDTHS == 1.0][0] - chi2[best]) / scale))


@dataclass(frozen=True)
class Stripe:
    """A line at one wavelength over the faint half of the galaxy."""

    light: Light
    same_sign: float


def stripe(galaxy: Galaxy, templates: Templates, whole: Narrow) -> Stripe | None:
    """The line that the faint half of the spaxels has beyond the galaxy's own lines and stars."""
    covered = galaxy.good.any(0)
    if covered.sum() < 8:
        return None
    bright = (galaxy.flux**2).sum(0)
    faint = covered & (bright <= np.median(bright[covered]))
    good = galaxy.good[:, faint]
    count = good.sum(1)
    mean = np.where(count > 0, galaxy.flux[:, faint].sum(1, dtype=np.float64) / np.maximum(count, 1), 0)
    variance = np.where(count > 0, np.where(good, galaxy.variance[:, faint], 0).sum(1, dtype=np.float64) / np.maximum(count, 1) ** 2, np.inf)
    # Rotation makes the galaxy's lines in this half as broad as they are: free fluxes at three widths.
    own = templates.component(np.full(3, whole.velocity_kms), np.array([80.0, 140.0, 220.0]))
    own = own.reshape(-1, own.shape[-1])
    size = 30 * np.sqrt((mean**2).sum()) / np.maximum(np.sqrt((own**2).sum(1)), 1e-12)
    nuisances = np.hstack([(own * size[:, None]).T, flat_starlight(templates, mean, 0.0)])
    data = Whitened(mean, variance, nuisances)
    light = line(templates, data)
    residual = data.residual()
    scale = max((data.chi2 - light.gain) / max(data.count - nuisances.shape[1], 1), 1.0)
    profile = templates.profiles(light.parameters[:1], light.parameters[1:2])[0]
    peak = int((np.abs(profile) * (data.weight > 0)).argmax())
    own_sample = (galaxy.flux[peak][faint] - (mean[peak] - residual[peak]))[good[peak]]
    same = float((own_sample * np.sign(light.flux[0]) > 0).mean()) if own_sample.size else 0.0
    gain = light.gain / scale
    return Stripe(Light("stripe", gain, light.num_parameters, light.parameters, light.errors, light.flux, light.flux_error), same)


@dataclass(frozen=True)
class Shift:
    """Displacement of the blue lines' images against the red lines', spaxels."""

    dy: float
    dx: float
    error: float
    gain: float


BLUE_BELOW = 5400.0  # rest wavelength, Angstrom: arms of a spectrograph meet between Hbeta and Halpha
RATIO_SCATTER = 0.1  # between spaxels, of the ratio of two lines
SHIFT_FLOOR = 0.05  # spaxels: gradients of dust and metallicity displace images by that much


def arm_shift(galaxy: Galaxy, templates: Templates, narrow: Narrow) -> Shift | None:
    """Shift of blue images that best maps red ones on them."""
    profile = templates.component(np.array([narrow.velocity_kms]), np.array([max(narrow.sigma_kms, 100.0)]))[0]
    images, variances = [], []
    weight = np.where(galaxy.good, 1 / galaxy.variance, 0)
    for row in profile:
        used = np.abs(row) > 0.02 * np.abs(row).max()
        t = row[used][:, None, None]
        norm = (weight[used] * t * t).sum(0)
        images.append(np.divide((weight[used] * t * galaxy.flux[used]).sum(0), norm, out=np.zeros_like(norm), where=norm > 0))
        variances.append(np.divide(1, norm, out=np.full_like(norm, np.inf), where=norm > 0))
    images, variances = np.array(images, dtype=np.float64), np.array(variances, dtype=np.float64)
    waves = np.array([dict(zip(templates.names, templates.rest_wave))[name] for name in templates.names])
    known = np.isfinite(variances).all(0)
    snr = np.sqrt((np.where(known, images, 0) ** 2 / np.where(np.isfinite(variances), variances, np.inf)).sum((1, 2)))
    strong = snr > 30
    blue, red = np.flatnonzero(strong & (waves < BLUE_BELOW)), np.flatnonzero(strong & (waves > BLUE_BELOW))
    if not len(blue) or not len(red):
        return None
    inner = known.copy()
    inner[[0, -1]] = inner[:, [0, -1]] = False
    inner &= np.roll(known, 1, 0) & np.roll(known, -1, 0) & np.roll(known, 1, 1) & np.roll(known, -1, 1)
    if inner.sum() < 20:
        return None
    gram, right = np.zeros((2, 2)), np.zeros(2)
    chi2 = dof = 0.0
    base = images[red].reshape(len(red), -1)[:, inner.ravel()].T
    for b in blue:
        gy, gx = np.gradient(images[b])
        root = 1 / np.sqrt(variances[b][inner] + (RATIO_SCATTER * images[b][inner]) ** 2)
        q, _ = np.linalg.qr(base * root[:, None])

        def clean(values, q=q):
            return values - q @ (q.T @ values)

        data = clean(images[b][inner] * root)
        slopes = np.stack([clean(g[inner] * root) for g in (gy, gx)], 1)
        gram += slopes.T @ slopes
        right += slopes.T @ data
        chi2 += data @ data
        dof += len(data) - len(red)
    move = np.linalg.solve(gram + 1e-9 * np.eye(2), right)
    gain = float(right @ move)
    scale = max((chi2 - gain) / max(dof - 2, 1), 1.0)
    error = np.sqrt(scale * np.linalg.inv(gram).trace() / 2 + SHIFT_FLOOR**2)
    size = float(np.hypot(*move))
    # Shrunk to what the floor leaves: gain of a shift whose error is that of noise and floor together.
    kept = float((size / error) ** 2) if error > 0 else 0.0
    return Shift(float(-move[0]), float(-move[1]), float(error), min(gain / scale, kept * 1e9) if size > 3 * error else 0.0)
