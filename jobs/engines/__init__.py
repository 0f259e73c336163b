"""Clusters that jobs start: Dask on Ray."""
