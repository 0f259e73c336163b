"""Autoencoder: layers, weights on disk, reconstructions. All but the configuration needs torch and numpy alone."""
