"""Connections to MLflow: quick to fail, quiet, and with one kind of error.

`Location` is the tracking URI of a store's mirror and its experiment. A sqlite URI is quoted where
the path of its file holds characters that a URI gives a meaning to.
"""

import hashlib
import logging
import os
import re
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from windtunnel.config.study import TrackingConfig
from windtunnel.errors import TrackingError, WindtunnelError, cause_of
from windtunnel.redact import redacted
from windtunnel.runs.store import Store
from windtunnel.user_folders import provide_home, state_home

REFUSED = {"UNAUTHENTICATED": 401, "CUSTOMER_UNAUTHORIZED": 401, "PERMISSION_DENIED": 403}
"""MLflow's error codes for a refused access, with HTTP's."""


def connect(uri: str) -> Any:
    """An MlflowClient for a tracking URI; loads mlflow."""
    provide_home()
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return MlflowClient(tracking_uri=uri)


def place_of(given: str, *, fix: str = "") -> str:
    """The tracking URI, once a database file that it names exists; MLflow would create it.

    Raises:
        TrackingError: There is no such file.
    """
    database = database_of(given)
    if database is not None and not Path(database).exists():
        raise TrackingError(
            "missing-file",
            f"{redacted(given)}: no such database{fix}",
            uri=redacted(given),
            file=database,
        )
    return given


def refuse_deleted(experiment: Any, uri: str) -> None:
    """Refuse an experiment that was deleted in MLflow, which takes no runs until it is restored.

    Raises:
        TrackingError: The experiment was deleted.
    """
    if experiment.lifecycle_stage != "deleted":
        return
    number, place = experiment.experiment_id, redacted(uri)
    raise TrackingError(
        "experiment-deleted",
        f"{place}: experiment {experiment.name!r} was deleted in MLflow; bring it back with "
        f"`MLFLOW_TRACKING_URI={shlex.quote(place)} mlflow experiments restore --experiment-id "
        f"{number}` (or remove it for good with `mlflow gc`, and a new one is made)",
        uri=place,
        experiment=experiment.name,
        experiment_id=number,
    )


@contextmanager
def answers(uri: str, fix: str) -> Iterator[None]:
    """Turn whatever MLflow, requests or SQLAlchemy raise into one error without secrets.

    Args:
        uri: The server or database that the body talks to.
        fix: What the user can do about it.

    Raises:
        TrackingError: The server does not answer, refuses, or is not MLflow.
    """
    try:
        yield
    except (WindtunnelError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as problem:
        code, why = _reason(uri, problem)
        raise TrackingError(
            code, f"{redacted(uri)}: {why}; {fix}", uri=redacted(uri), cause=cause_of(problem)
        ) from None


def _reason(uri: str, problem: BaseException) -> tuple[str, str]:
    """Code and sentence of a failed request, by MLflow's own error code."""
    from mlflow.exceptions import MlflowException, RestException

    cause = f"{type(problem).__name__}: {cause_of(problem)}"
    if not isinstance(problem, MlflowException):
        return "no-answer", cause
    place = kind_of(uri)
    if place == "folder" and not os.environ.get("MLFLOW_ALLOW_FILE_STORE"):
        return (
            "folder-store",
            "a folder, where MLflow 3 keeps no runs any more: write sqlite:///PATH.db for a "
            "database in a file, or set MLFLOW_ALLOW_FILE_STORE=true",
        )
    if (status := REFUSED.get(problem.error_code)) is not None:
        return (
            "access-refused",
            f"access is refused (HTTP {status}): set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
        )
    if problem.error_code == "ENDPOINT_NOT_FOUND":
        return "not-mlflow", "no MLflow server answers at this address (HTTP 404)"
    if place == "http" and not isinstance(problem, RestException):
        return (
            "not-mlflow",
            "the server at this address does not answer as MLflow does: check the address, or "
            f"sign in there first ({cause})",
        )
    return "mlflow-error", cause


SQLITE = "sqlite:///"
DATABASES = frozenset({"sqlite", "postgresql", "mysql", "mssql"})


def sqlite_uri(path: Path) -> str:
    """The URI of a database file; most paths need no quoting."""
    text = str(path)
    if not re.search(r"[%?]", text):
        return f"{SQLITE}{text}"
    from sqlalchemy.engine import URL  # quotes as this version of it reads

    return URL.create("sqlite", database=text).render_as_string()


def database_of(uri: str) -> str | None:
    """The path of the file that a sqlite URI names, None for any other URI."""
    if not uri.startswith(SQLITE):
        return None
    if not re.search(r"[%?]", uri):
        return uri.removeprefix(SQLITE)
    from sqlalchemy.engine import make_url

    return make_url(uri).database or ""


def kind_of(uri: str) -> str:
    """The kind of a tracking URI: `http`, `database`, `folder` or `other`."""
    scheme = urlsplit(uri).scheme.partition("+")[0].lower()
    if scheme in {"http", "https"}:
        return "http"
    if scheme in DATABASES:
        return "database"
    return "folder" if scheme in {"", "file"} and uri != "databricks" else "other"


ARTIFACTS, BESIDE = "artifacts", "mlartifacts"


@dataclass(frozen=True, kw_only=True)
class Location:
    """A tracking server or database, and the experiment of one store in it.

    Attributes:
        uri: MLflow's tracking URI; it may hold a password.
        experiment: One for each store; studies are tags.
        folder: The local state folder of our own database; None for the user's server.
    """

    uri: str
    experiment: str
    folder: Path | None

    @property
    def shown(self) -> str:
        """The URI without its secrets."""
        return redacted(self.uri)

    @property
    def artifacts(self) -> str | None:
        """URI of the folder for a new experiment's files; None where MLflow's server decides.

        For a database file it lies beside it, since MLflow would choose the working folder.
        """
        if self.folder is not None:
            return (self.folder / ARTIFACTS).as_uri()
        if (database := database_of(self.uri)) is None:
            return None
        return (Path(database).absolute().parent / BESIDE / self.experiment).as_uri()

    def absolute(self) -> "Location":
        """The same location for a process in another working folder."""
        database = database_of(self.uri)
        uri = self.uri
        if database is not None:
            uri = sqlite_uri(Path(database).absolute())
        elif kind_of(uri) == "folder" and "://" not in uri and not uri.startswith("file:"):
            uri = str(Path(uri).absolute())
        return Location(uri=uri, experiment=self.experiment, folder=self.folder)


def locate(store: Store, config: TrackingConfig) -> Location:
    """The study's `tracking.uri`, else MLFLOW_TRACKING_URI, else sqlite in the user's state folder.

    The database lies on the driver's own disk: a store may lie on a network file system, where
    sqlite's write-ahead log is unsafe. `sync` rebuilds the database. A store is known by its
    path and its own id, so that a copy, and one made anew at an old path, have experiments of their
    own; stores of earlier versions have no id.
    """
    digest = hashlib.sha256(os.fsencode(store.root) + (store.id or "").encode()).hexdigest()[:8]
    name = os.fsencode(store.root.name).decode("utf-8", "backslashreplace")
    experiment = f"windtunnel/{name}-{digest}"
    uri = config.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        return Location(uri=uri, experiment=experiment, folder=None)
    # MLflow makes the folder that the URI spells, so that none of its own may be quoted there.
    folder = state_folder() / f"{re.sub('[%?]', '_', name)}-{digest}"
    return Location(uri=sqlite_uri(folder / "mlflow.db"), experiment=experiment, folder=folder)


def state_folder() -> Path:
    """The folder of this user's databases, with one subfolder for each store."""
    return state_home() / "windtunnel"


def create_database(location: Location) -> None:
    """Create a missing database file; MLflow would retry for two minutes.

    Our own has a write-ahead log, so that readers never wait.

    Raises:
        TrackingError: The file cannot be written, or its path begins with ~.
    """
    path = database_of(location.uri)
    if not path or path == ":memory:":
        return
    if path.startswith("~"):
        raise TrackingError(
            "home-in-uri",
            f"{location.shown}: ~ does not stand for the home in a URI; write the whole path",
            uri=location.shown,
        )
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
            "cannot-write",
            f"{location.shown}: the tracking database cannot be written: {cause_of(refused)}; "
            f"{fix}",
            uri=location.shown,
            file=path,
            cause=cause_of(refused),
        ) from None
