"""The injection benchmark: how well detectors find signals injected into galaxies; see `docs/benchmark.md`."""
