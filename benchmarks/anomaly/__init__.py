"""The injection benchmark: how well detectors find what was put into galaxies. `docs/benchmark.md` is its one page."""
