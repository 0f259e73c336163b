"""FITS as surveys write it: streams, headers, units, world coordinates, cubes."""
