"""Plots, tables and reports for people."""
