"""Measurements behind the figures in the documentation: each module prints a table and then `name=value` lines."""
