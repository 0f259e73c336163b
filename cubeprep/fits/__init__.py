"""FITS files as surveys write them: streams, headers, units, world coordinates, cubes."""
