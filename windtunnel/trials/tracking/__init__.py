"""MLflow is where people look, the store is the truth. Only this folder imports mlflow."""

from windtunnel.trials.tracking.download import download_result
from windtunnel.trials.tracking.location import Location, locate
from windtunnel.trials.tracking.mirror import Mirror, Synced
from windtunnel.trials.tracking.server import serve

__all__ = ["Location", "Mirror", "Synced", "download_result", "locate", "serve"]
