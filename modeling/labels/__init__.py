"""Labels of galaxies: kept, measured against scores, used to rank anew."""
