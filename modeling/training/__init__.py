"""From batches to weights: losses, the training loop, Ray Train, Ray Tune, cross-fitting."""
