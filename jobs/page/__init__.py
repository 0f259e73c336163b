"""The page of the most unusual galaxies."""
