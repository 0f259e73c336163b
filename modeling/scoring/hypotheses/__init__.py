"""Hypotheses why a galaxy is unusual: physical templates fitted to its most significant region."""
