"""Latent space: nearest neighbours, regions of galaxies, UMAP."""
