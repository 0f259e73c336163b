"""Detectors compared by the benchmark."""
