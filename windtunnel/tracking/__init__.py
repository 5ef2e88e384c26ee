"""The MLflow mirror of a store; the store is the truth. Only this package imports mlflow."""

from windtunnel.tracking.mirror import Mirror, Synced
from windtunnel.tracking.mlflow import Location, locate
from windtunnel.tracking.read import download_result
from windtunnel.tracking.server import serve

__all__ = ["Location", "Mirror", "Synced", "download_result", "locate", "serve"]
