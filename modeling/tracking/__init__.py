"""MLflow: runs, registered models and catalogs, and the links between them."""
