"""Where the mirror of a store is kept."""

import hashlib
import os
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from windtunnel.errors import TrackingError, cause_of
from windtunnel.redact import redacted
from windtunnel.spec.config import TrackingConfig
from windtunnel.trials.store import Store
from windtunnel.trials.tracking.uris import database_of, kind_of, sqlite_uri
from windtunnel.user_folders import state_home

ARTIFACTS, BESIDE = "artifacts", "mlartifacts"


@dataclass(frozen=True, kw_only=True)
class Location:
    """A tracking server or database, and the experiment of one store in it.

    Attributes:
        uri: What MLflow calls a tracking URI; it may hold a password.
        experiment: One a store; studies are tags.
        folder: The local state folder, when the database is ours; None for a server of the user's.
    """

    uri: str
    experiment: str
    folder: Path | None

    @property
    def shown(self) -> str:
        """The URI for people."""
        return redacted(self.uri)

    @property
    def artifacts(self) -> str | None:
        """Where a new experiment puts its files; None where MLflow's server decides it.

        Beside a database in a file, for MLflow's own choice is the working folder.
        """
        if self.folder is not None:
            return (self.folder / ARTIFACTS).as_uri()
        if (database := database_of(self.uri)) is None:
            return None
        return (Path(database).absolute().parent / BESIDE / self.experiment).as_uri()

    def absolute(self) -> "Location":
        """The same for a process in another working folder."""
        database = database_of(self.uri)
        uri = self.uri
        if database is not None:
            uri = sqlite_uri(Path(database).absolute())
        elif kind_of(uri) == "folder" and "://" not in uri and not uri.startswith("file:"):
            uri = str(Path(uri).absolute())
        return Location(uri=uri, experiment=self.experiment, folder=self.folder)


def locate(store: Store, config: TrackingConfig) -> Location:
    """The study's `tracking.uri`, else MLFLOW_TRACKING_URI, else sqlite in the user's state folder.

    The database lies on the driver's own disk and not in the store, which may be a network file
    system, where sqlite's write-ahead log is unsafe; `sync` rebuilds it.
    """
    digest = hashlib.sha256(os.fsencode(store.root)).hexdigest()[:8]
    name = os.fsencode(store.root.name).decode("utf-8", "backslashreplace")
    experiment = f"windtunnel/{name}-{digest}"
    uri = config.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        return Location(uri=uri, experiment=experiment, folder=None)
    # MLflow makes the folder that the URI spells, so that none of its own may be quoted there.
    folder = state_folder() / f"{re.sub('[%?]', '_', name)}-{digest}"
    return Location(uri=sqlite_uri(folder / "mlflow.db"), experiment=experiment, folder=folder)


def state_folder() -> Path:
    """Where this user's databases lie, a folder a store."""
    return state_home() / "windtunnel"


def create_database(location: Location) -> None:
    """Make a database in a file where there is none yet; MLflow would try it for two minutes.

    Ours has a write-ahead log, so that readers never wait.

    Raises:
        TrackingError: The file cannot be written, or its path begins with ~.
    """
    path = database_of(location.uri)
    if not path or path == ":memory:":
        return
    if path.startswith("~"):
        raise TrackingError(f"{location.shown}: ~ is no home in a URI; write the whole path")
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("PRAGMA schema_version")
            if location.folder is not None:
                database.execute("PRAGMA journal_mode=WAL")
    except (OSError, sqlite3.Error, ValueError) as refused:
        fix = "set XDG_STATE_HOME to a folder of your own, or tracking.uri"
        if location.folder is None:
            fix = "name another file in tracking.uri or MLFLOW_TRACKING_URI"
        raise TrackingError(
            f"{location.shown}: the tracking database cannot be written: {cause_of(refused)}; {fix}"
        ) from None
