"""Physical features of galaxies, as an astronomer would measure them, with the outlier detectors of `outliers`.

The stores of the benchmark hold no continuum, so there are no equivalent widths.

Shapes: N galaxies, L lines, S samples, Y and X spaxels.
"""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import uniform_filter

from benchmarks.anomaly.detectors.detector import mapped
from benchmarks.anomaly.detectors.features import good_flux
from benchmarks.anomaly.detectors.outliers import Ecod, Forest, Outliers
from cubeprep.store import Windows, WindowStore

RATIOS = (
    ("NII-6585", "Ha-6564"),
    ("SII-6718", "Ha-6564"),
    ("OI-6302", "Ha-6564"),
    ("OIII-5008", "Hb-4862"),
    ("NeIII-3869", "Hb-4862"),
    ("HeII-4687", "Hb-4862"),
    ("Ha-6564", "Hb-4862"),
)
PROFILES = ("Hb-4862", "OIII-5008", "Ha-6564", "NII-6585", "SII-6718")
SOFTENING = 0.01  # fraction of the total flux below which a line is noise
LEAST_SNR = 5.0  # of the second line of a ratio, in 3 x 3 spaxels
CORE_RADIUS = 1.5  # spaxels, within which the light of a point source lies


class Physical(Outliers):
    """Outlier detector on physical features, each in units of its robust spread among the training galaxies."""

    def prepare(self, store: WindowStore, split: str) -> np.ndarray:
        """Measures the training galaxies; features [row, feature] in units of their spread."""
        self.lines = store.line_names
        features = mapped(store, split, lambda windows: measured(windows, self.lines))
        self.centre = np.nan_to_num(np.nanmedian(features, axis=0))
        spread = 1.4826 * np.nanmedian(np.abs(features - self.centre), axis=0)
        self.spread = np.where(spread > 0, spread, 1.0)
        return self._scaled(features)

    def latent(self, windows: Windows) -> np.ndarray:
        """Features [row, feature] in units of their spread."""
        return self._scaled(measured(windows, self.lines))

    def _scaled(self, features: np.ndarray) -> np.ndarray:
        # Unmeasurable features get the typical value.
        return np.nan_to_num((features - self.centre) / self.spread)


class PhysicalForest(Physical, Forest):
    """Isolation forest on physical features."""

    name = "physical features + IsolationForest"


class PhysicalEcod(Physical, Ecod):
    """ECOD on physical features."""

    name = "physical features + ECOD"


def measured(windows: Windows, lines: Sequence[str]) -> np.ndarray:
    """Features [row, feature] of galaxies; NaN where one cannot be measured."""
    flux, ivar, good = good_flux(windows)
    variance = np.divide(1, ivar, out=np.zeros(flux.shape, np.float32), where=good)
    maps, noise = flux.sum(axis=2, dtype=np.float64), np.sqrt(variance.sum(axis=2, dtype=np.float64))
    index = {name: i for i, name in enumerate(lines)}
    ratios = [(index[first], index[second]) for first, second in RATIOS if {first, second} <= set(lines)]
    profiles = [index[name] for name in PROFILES if name in index]
    return np.column_stack(
        [
            _ratios(maps, ratios),
            _highest_ratios(maps, noise, ratios),
            *(_moments(flux[:, i]) for i in profiles),
            *(_shape(maps[:, i]) for i in profiles),
            _apart(maps, profiles),
        ]
    )


def _ratios(maps: np.ndarray, ratios: list[tuple[int, int]]) -> np.ndarray:
    """Logarithms [N, ratio] of ratios of the galaxy's integrated lines."""
    sums = maps.sum(axis=(2, 3))
    least = SOFTENING * np.abs(sums).sum(axis=1, keepdims=True) + 1e-30
    logarithms = np.log(np.maximum(sums, 0) + least)
    return np.column_stack([logarithms[:, first] - logarithms[:, second] for first, second in ratios])


def _highest_ratios(maps: np.ndarray, noise: np.ndarray, ratios: list[tuple[int, int]]) -> np.ndarray:
    """Logarithms [N, ratio] of the highest ratio in any 3 x 3 spaxels in which the second line is significant."""
    near = [uniform_filter(values, size=(1, 1, 3, 3), mode="constant") for values in (maps, noise**2)]
    flux, noise = near[0], np.sqrt(np.maximum(near[1], 0) / 9)  # the noise of a mean of nine
    columns = []
    for first, second in ratios:
        use = flux[:, second] > LEAST_SNR * np.maximum(noise[:, second], 1e-30)
        ratio = np.divide(flux[:, first], flux[:, second], out=np.full(use.shape, -np.inf), where=use)
        highest = ratio.max(axis=(1, 2))
        columns.append(np.where(highest > 0, np.log(np.maximum(highest, 1e-3)), np.nan))
    return np.column_stack(columns)


def _moments(flux: np.ndarray) -> np.ndarray:
    """Width, asymmetry and share of the wings [N, 3] of a line [N, S, Y, X], around its brightest spaxel."""
    image = uniform_filter(flux.sum(axis=1), size=(1, 3, 3), mode="constant")
    row, column = np.unravel_index(image.reshape(len(flux), -1).argmax(axis=1), image.shape[1:])
    y, x = np.indices(image.shape[1:])
    core = (np.abs(y - row[:, None, None]) <= 1) & (np.abs(x - column[:, None, None]) <= 1)
    weight = np.maximum((flux * core[:, None]).sum(axis=(2, 3)), 0)
    total = weight.sum(axis=1)
    place = np.linspace(-1, 1, flux.shape[1])
    mean = _divided(weight @ place, total)
    offset = place - mean[:, None]
    width = np.sqrt(_divided((weight * offset**2).sum(axis=1), total))
    skewness = _divided((weight * offset**3).sum(axis=1), total * width**3)
    wings = _divided(weight[:, np.abs(place) > 0.5].sum(axis=1), total)
    return np.column_stack([width, skewness, wings])


def _shape(image: np.ndarray) -> np.ndarray:
    """Asymmetry, compactness and half-light radius [N, 3] of a line's image [N, Y, X]."""
    light = np.maximum(image, 0)
    total = light.sum(axis=(1, 2))
    asymmetry = _divided(np.abs(light - light[:, ::-1, ::-1]).sum(axis=(1, 2)), 2 * total)
    row, column = np.unravel_index(light.reshape(len(light), -1).argmax(axis=1), light.shape[1:])
    y, x = np.indices(light.shape[1:])
    radius = np.hypot(y - row[:, None, None], x - column[:, None, None]).reshape(len(light), -1)
    compactness = _divided((light.reshape(len(light), -1) * (radius <= CORE_RADIUS)).sum(axis=1), total)
    order = radius.argsort(axis=1, kind="stable")
    grown = np.take_along_axis(light.reshape(len(light), -1), order, axis=1).cumsum(axis=1)
    half = (grown >= 0.5 * total[:, None]).argmax(axis=1)
    return np.column_stack(
        [asymmetry, compactness, np.take_along_axis(radius, order, axis=1)[np.arange(len(half)), half]]
    )


def _apart(maps: np.ndarray, profiles: list[int]) -> np.ndarray:
    """Distance [N, line] of the peak of each line from that of the first, spaxels."""
    peaks = [np.unravel_index(maps[:, i].reshape(len(maps), -1).argmax(axis=1), maps.shape[2:]) for i in profiles]
    return np.column_stack([np.hypot(row - peaks[0][0], column - peaks[0][1]) for row, column in peaks])


def _divided(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)
