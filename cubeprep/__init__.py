"""Cuts windows around emission lines out of survey FITS cubes and writes them to a sharded Zarr store."""
