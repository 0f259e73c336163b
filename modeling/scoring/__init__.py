"""From residuals to scores: artefacts, significance, calibration, explanations, the survey shard by shard."""
