"""Detectors that the benchmark compares."""
