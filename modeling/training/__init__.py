"""Training: batches, losses, the training loop, Ray Train, Ray Tune, cross-fitting."""
