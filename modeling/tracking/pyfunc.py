"""Registered model: MLflow runs this file to build it, so that none of our classes is pickled."""

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Scorer:
    """Model from windows to anomaly score and latent; needs the package `cubescout` where it is loaded."""

    def load_context(self, context: Any) -> None:
        """Loads the registered checkpoint."""
        from modeling.network.checkpoint import load_model

        self._model, self.metadata = load_model(Path(context.artifacts["checkpoint"]))

    # No hint on the input: MLflow would try to make a schema of it, and warn that it cannot.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Anomaly scores and latents of windows.

        Args:
            context: MLflow's; not used.
            model_input: `flux` (NaN where masked), `ivar` and `mask` [N, line, sample, y, x], as in a window store.
            params: not used.

        Returns:
            `score` [N], the mean absolute error in normalised units, and `latent` [N, D].
        """
        from modeling.network.inference import infer

        flux, ivar, mask = (np.asarray(model_input[name]) for name in ("flux", "ivar", "mask"))
        inference = infer(self._model, flux, ivar, mask)
        return {"score": inference.mae, "latent": inference.latent}


class CubescoutModel(Scorer, PythonModel):
    """`Scorer` as MLflow expects it; `predict` is inherited, since MLflow warns of one here without type hints."""


set_model(CubescoutModel())
