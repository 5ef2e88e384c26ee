"""A connection to MLflow that neither waits long nor talks; one error for all that it raises."""

import logging
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from windtunnel.errors import TrackingError, WindtunnelError, cause_of
from windtunnel.redact import redacted
from windtunnel.trials.tracking.uris import database_of, kind_of
from windtunnel.user_folders import provide_home

REFUSED = {"UNAUTHENTICATED": 401, "CUSTOMER_UNAUTHORIZED": 401, "PERMISSION_DENIED": 403}
"""MLflow's codes of an answer to somebody who may not ask, and HTTP's."""


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
    """A tracking URI whose database, if it names one in a file, is there; MLflow would make it.

    Raises:
        TrackingError: There is no such file.
    """
    database = database_of(given)
    if database is not None and not Path(database).exists():
        raise TrackingError(f"{redacted(given)}: no such database{fix}")
    return given


def refuse_deleted(experiment: Any, uri: str) -> None:
    """Nothing, where an experiment was not deleted in MLflow.

    Raises:
        TrackingError: It was, and takes nothing until it is restored.
    """
    if experiment.lifecycle_stage != "deleted":
        return
    number, place = experiment.experiment_id, redacted(uri)
    raise TrackingError(
        f"{place}: experiment {experiment.name!r} was deleted in MLflow; bring it back with "
        f"`MLFLOW_TRACKING_URI={shlex.quote(place)} mlflow experiments restore --experiment-id "
        f"{number}` (or remove it for good with `mlflow gc`, and a new one is made)"
    )


@contextmanager
def answers(uri: str, fix: str) -> Iterator[None]:
    """Turn whatever MLflow, requests or SQLAlchemy raise into one error without secrets.

    Args:
        uri: Whom the body asks.
        fix: What to do about it.

    Raises:
        TrackingError: The server does not answer, refuses, or is none.
    """
    try:
        yield
    except (WindtunnelError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as problem:
        raise TrackingError(f"{redacted(uri)}: {_reason(uri, problem)}; {fix}") from None


def _reason(uri: str, problem: BaseException) -> str:
    """Why MLflow did not do what it was asked, by its own code of errors."""
    from mlflow.exceptions import MlflowException, RestException

    cause = f"{type(problem).__name__}: {cause_of(problem)}"
    if not isinstance(problem, MlflowException):
        return cause
    place = kind_of(uri)
    if place == "folder" and not os.environ.get("MLFLOW_ALLOW_FILE_STORE"):
        return (
            "a folder, where MLflow 3 keeps no runs any more: write sqlite:///PATH.db for a "
            "database in a file, or set MLFLOW_ALLOW_FILE_STORE=true"
        )
    if (status := REFUSED.get(problem.error_code)) is not None:
        return (
            f"access is refused (HTTP {status}): set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        )
    if problem.error_code == "ENDPOINT_NOT_FOUND":
        return "no MLflow server answers at this address (HTTP 404)"
    if place == "http" and not isinstance(problem, RestException):
        return (
            "the server at this address does not answer as MLflow does: check the address, or "
            f"sign in there first ({cause})"
        )
    return cause
