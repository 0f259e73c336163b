"""Stellar continua fitted to a galaxy's spectra, to be subtracted before windows are cut."""
