"""The autoencoder: layers, weights on disk, reconstructions. All but configuration needs torch and numpy alone."""
