"""The page: gallery, map and galaxies of a catalog, served or exported as one file."""
