"""Searches: Optuna behind the graph. The only importer of optuna."""
