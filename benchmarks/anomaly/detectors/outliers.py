"""Classical outlier detectors on principal components.

All but ECOD are from scikit-learn. PyOD's ECOD includes the scored galaxies in its empirical distribution, so that a
score would depend on the rest of the batch; here the distribution is that of the training galaxies alone.
"""

import numpy as np
from scipy.stats import skew
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

from benchmarks.anomaly.detectors.components import principal_components
from benchmarks.anomaly.detectors.detector import Detector, Scored, mapped, register
from benchmarks.anomaly.detectors.features import normalised
from cubeprep.store import Windows, WindowStore

NUM_COMPONENTS = 32


class Outliers(Detector):
    """Outlier detector on 32 whitened principal components."""

    group = "classical"

    def learn(self, latent: np.ndarray) -> None:
        """Fits the detector to whitened components [row, component]; each subclass defines it."""
        raise NotImplementedError

    def outlyingness(self, latent: np.ndarray) -> np.ndarray:
        """Outlyingness [row] of whitened components, higher is more unusual; each subclass defines it."""
        raise NotImplementedError

    def fit(self, store: WindowStore, split: str) -> None:
        """Learns the components, then fits the detector."""
        self.learn(self.prepare(store, split))

    def score_windows(self, windows: Windows) -> Scored:
        """Outlyingness of the detector."""
        return Scored(np.asarray(self.outlyingness(self.latent(windows)), dtype=np.float64))

    def prepare(self, store: WindowStore, split: str) -> np.ndarray:
        """Computes the components; those of the training galaxies, whitened, [row, component]."""
        features = mapped(store, split, lambda windows: normalised(windows)[0])
        self.mean, self.components = principal_components(features, NUM_COMPONENTS)
        latent = (features - self.mean) @ self.components.T
        self.sigma = latent.std(axis=0)
        return latent / self.sigma

    def latent(self, windows: Windows) -> np.ndarray:
        """Whitened components [row, component]."""
        return (normalised(windows)[0] - self.mean) @ self.components.T / self.sigma


@register
class Forest(Outliers):
    """Isolation forest: Liu, Ting & Zhou 2008, doi:10.1109/ICDM.2008.17."""

    name = "PCA + IsolationForest"

    def learn(self, latent: np.ndarray) -> None:
        """Fits 200 trees."""
        self.forest = IsolationForest(n_estimators=200, random_state=self.run.seed).fit(latent)

    def outlyingness(self, latent: np.ndarray) -> np.ndarray:
        """Anomaly score, high for short mean path lengths."""
        return -self.forest.score_samples(latent)


@register
class Ecod(Outliers):
    """ECOD, empirical tail probabilities of each component: Li et al. 2022, arXiv:2201.00382."""

    name = "PCA + ECOD"

    def learn(self, latent: np.ndarray) -> None:
        """Stores the empirical distribution and the skewness of each component."""
        self.sorted = np.sort(latent, axis=0)
        self.skewness = skew(latent, axis=0)

    def outlyingness(self, latent: np.ndarray) -> np.ndarray:
        """Maximum of three sums of -log tail probabilities: left tails, right tails, and those on the skewed side."""
        count = len(self.sorted)
        columns = range(latent.shape[1])
        below = np.stack([np.searchsorted(self.sorted[:, i], latent[:, i], side="right") for i in columns], axis=1)
        above = count - np.stack([np.searchsorted(self.sorted[:, i], latent[:, i]) for i in columns], axis=1)
        left, right = (-np.log((tail + 1) / (count + 1)) for tail in (below, above))
        skewed = np.where(self.skewness < 0, left, right)
        return np.max([tail.sum(axis=1) for tail in (left, right, skewed)], axis=0)


@register
class Knn(Outliers):
    """Distance to the fifth-nearest training galaxy."""

    name = "PCA + KNN"
    num_neighbours = 5

    def learn(self, latent: np.ndarray) -> None:
        """Stores the training galaxies."""
        self.neighbours = NearestNeighbors(n_neighbors=min(self.num_neighbours, len(latent))).fit(latent)

    def outlyingness(self, latent: np.ndarray) -> np.ndarray:
        """Distance to the fifth neighbour."""
        return self.neighbours.kneighbors(latent)[0][:, -1]


@register
class Lof(Outliers):
    """Local outlier factor: Breunig et al. 2000, doi:10.1145/342009.335388."""

    name = "PCA + LOF"
    num_neighbours = 20

    def learn(self, latent: np.ndarray) -> None:
        """Measures the density around each training galaxy."""
        neighbours = min(self.num_neighbours, len(latent) - 1)
        self.factor = LocalOutlierFactor(n_neighbors=neighbours, novelty=True).fit(latent)

    def outlyingness(self, latent: np.ndarray) -> np.ndarray:
        """Density around the neighbours relative to that around the galaxy."""
        return -self.factor.score_samples(latent)
