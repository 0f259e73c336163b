"""The registered model: MLflow runs this file to make it, so that nothing of ours is pickled."""

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Scorer:
    """Windows in, anomaly score and latent out; needs the package `cubescout` where it is loaded."""

    def load_context(self, context: Any) -> None:
        """Reads the checkpoint that was registered."""
        from modeling.checkpoint import load_model

        self._model, self.metadata = load_model(Path(context.artifacts["checkpoint"]))

    # No hint on the input: MLflow would try to make a schema of it, and warn that it cannot.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Scores windows.

        Args:
            context: MLflow's; not used.
            model_input: `flux` (NaN where masked), `ivar` and `mask` [N, line, sample, y, x], as in a window store.
            params: not used.

        Returns:
            `score` [N], the mean absolute error in normalised units, and `latent` [N, D].
        """
        from modeling.inference import infer

        flux, ivar, mask = (np.asarray(model_input[name]) for name in ("flux", "ivar", "mask"))
        inference = infer(self._model, flux, ivar, mask)
        return {"score": inference.mae, "latent": inference.latent}


class CubescoutModel(Scorer, PythonModel):
    """MLflow's part. It warns of a `predict` here whose hints give no schema, so that is inherited."""


set_model(CubescoutModel())
