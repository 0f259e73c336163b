"""MLflow: runs, registered models and catalogs, and how they are linked."""
