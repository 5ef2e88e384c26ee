"""Where the mirror of a store is kept."""

import hashlib
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from windtunnel.errors import TrackingError
from windtunnel.spec.config import TrackingConfig
from windtunnel.trials.store import Store


@dataclass(frozen=True, kw_only=True)
class Location:
    """A tracking server or database, and the experiment of one store in it.

    Attributes:
        uri: What MLflow calls a tracking URI.
        experiment: One a store; studies are tags.
        folder: The local state folder, when the database is ours; None for a server of the user's.
    """

    uri: str
    experiment: str
    folder: Path | None


def locate(store: Store, config: TrackingConfig) -> Location:
    """The study's `tracking.uri`, else MLFLOW_TRACKING_URI, else sqlite in the user's state folder.

    The database lies on the driver's own disk and not in the store, which may be a network file
    system, where sqlite's write-ahead log is unsafe; `sync` rebuilds it.
    """
    digest = hashlib.sha256(str(store.root).encode()).hexdigest()[:8]
    experiment = f"windtunnel/{store.root.name}-{digest}"
    uri = config.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        return Location(uri=uri, experiment=experiment, folder=None)
    folder = state_folder() / f"{store.root.name}-{digest}"
    return Location(uri=f"sqlite:///{folder / 'mlflow.db'}", experiment=experiment, folder=folder)


def state_folder() -> Path:
    """Where this user's databases lie, a folder a store."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return state / "windtunnel"


def create_database(folder: Path) -> None:
    """Make the state folder and its database, with a write-ahead log so that readers never wait.

    Raises:
        TrackingError: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with sqlite3.connect(folder / "mlflow.db") as database:
            database.execute("PRAGMA journal_mode=WAL")
    except (OSError, sqlite3.Error) as refused:
        raise TrackingError(
            f"{folder}: the tracking database cannot be written: {refused}; set XDG_STATE_HOME or "
            "tracking.uri"
        ) from None
