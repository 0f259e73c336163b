"""Simulates a survey and writes it as MaNGA data products."""
