"""The injection benchmark: how well detectors recover signals injected into galaxies. See `docs/benchmark.md`."""
