"""From survey FITS cubes to windows around emission lines in a sharded Zarr store."""
