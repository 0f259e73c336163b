"""Clusters started by jobs: Dask on Ray."""
