"""Benchmarks of Cubescout: each module prints a table and ends with `name=value` lines."""
