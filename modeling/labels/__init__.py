"""Labels of galaxies: stored, compared with scores, used to rerank."""
