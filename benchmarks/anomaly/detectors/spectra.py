"""RX, the anomaly detector of hyperspectral images, on the spectra of spaxels."""

import numpy as np
from sklearn.covariance import LedoitWolf

from benchmarks.anomaly.detectors.detector import Detector, Scored, mapped
from benchmarks.anomaly.detectors.features import normalised
from cubeprep.store import Windows, WindowStore

SPECTRA_PER_SHARD = 2000


class Rx(Detector):
    """Mahalanobis distance of the most unusual spaxel's spectrum, all lines together.

    Source: Reed & Yu 1990, doi:10.1109/29.60107, with the shrunk covariance of Ledoit & Wolf 2004
    (doi:10.1016/S0047-259X(03)00096-4).
    """

    name = "RX on spaxels"
    group = "classical"

    def fit(self, store: WindowStore, split: str) -> None:
        """Estimates mean and covariance of complete spectra, from equally many of each shard."""
        rng = np.random.default_rng(self.run.seed)

        def some(windows: Windows) -> np.ndarray:
            spectra, good = _spectra(windows)
            chosen = spectra[good.all(axis=-1)]
            return chosen[rng.permutation(len(chosen))[:SPECTRA_PER_SHARD]]

        found = LedoitWolf(assume_centered=False).fit(mapped(store, split, some))
        self.mean = found.location_.astype(np.float32)
        # The distance is the squared length of the spectrum times this matrix, the root of the inverse covariance.
        self.whitening = np.linalg.cholesky(found.precision_).astype(np.float32)

    def score_windows(self, windows: Windows) -> Scored:
        """The largest distance; the mean over spaxels is a variant."""
        spectra, good = _spectra(windows)
        covered = good.any(axis=-1)
        # A masked sample counts as the mean.
        offset = np.where(good, spectra - self.mean, 0) @ self.whitening
        spaxels = np.where(covered, np.einsum("nyxs,nyxs->nyx", offset, offset), 0)
        mean = spaxels.sum(axis=(1, 2)) / np.maximum(covered.sum(axis=(1, 2)), 1)
        return Scored(spaxels.max(axis=(1, 2)), spaxels, None, {"mean": mean})


def _spectra(windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """asinh of flux over the galaxy's brightness [row, y, x, line and sample], and good samples of that shape."""
    rows, lines, samples, height, width = windows.flux.shape
    shape = rows, lines * samples, height, width
    arrays = (normalised(windows)[0].reshape(shape), windows.good.reshape(shape))
    spectra, good = (np.ascontiguousarray(np.moveaxis(values, 1, -1)) for values in arrays)
    return spectra, good
