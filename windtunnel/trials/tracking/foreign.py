"""Runs of anybody's MLflow experiment, as MLflow has them; ours come back by `download`."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from windtunnel.errors import TrackingError, did_you_mean
from windtunnel.redact import HIDDEN, redacted
from windtunnel.trials.tracking.client import answers, connect, place_of, refuse_deleted

FINISHED = "FINISHED"


@dataclass(frozen=True, kw_only=True)
class ForeignRun:
    """One finished run: `params`, `metrics` (the last value of each) and `tags` by kind."""

    run_id: str
    name: str
    values: Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, kw_only=True)
class ForeignExperiment:
    """The finished runs of an experiment, oldest first, and how many others there are by status."""

    name: str
    experiment_id: str
    uri: str
    """Without user name, password and other secrets."""
    runs: tuple[ForeignRun, ...]
    unfinished: Mapping[str, int]


def read_experiment(name: str, *, uri: str | None = None) -> ForeignExperiment:
    """The runs of an experiment that ended well; deleted ones are not there.

    Args:
        name: as MLflow shows it.
        uri: a tracking URI. None: MLFLOW_TRACKING_URI.

    Raises:
        TrackingError: No URI, an experiment that is not there or was deleted, or no answer.
    """
    place = _place(uri)
    with answers(place, "try again once it answers, or give another --tracking-uri"):
        client = connect(place)
        found = client.get_experiment_by_name(name)
        if found is None:
            names = [each.name for each in client.search_experiments()]
            raise TrackingError(
                f"{redacted(place)}: no experiment {name!r}{did_you_mean(name, names) or '.'} "
                f"There are: {', '.join(names) or 'none'}"
            )
        refuse_deleted(found, place)
        runs = list(_all_runs(client, found.experiment_id))
    return ForeignExperiment(
        name=name,
        experiment_id=str(found.experiment_id),
        uri=redacted(place).replace(f"{HIDDEN}@", ""),
        runs=tuple(
            ForeignRun(
                run_id=str(run.info.run_id),
                name=str(run.info.run_name or run.info.run_id),
                values={
                    "params": dict(run.data.params),
                    "metrics": dict(run.data.metrics),
                    "tags": dict(run.data.tags),
                },
            )
            for run in runs
            if run.info.status == FINISHED
        ),
        unfinished=Counter(
            str(run.info.status).lower() for run in runs if run.info.status != FINISHED
        ),
    )


def _all_runs(client: Any, experiment_id: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_runs(
            [experiment_id],
            max_results=1000,
            page_token=token,
            order_by=["attributes.start_time ASC"],
        )
        yield from page
        token = page.token
        if not token:
            return


def _place(uri: str | None) -> str:
    given = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not given:
        raise TrackingError(
            "no tracking URI: give --tracking-uri, for example http://127.0.0.1:5000 or "
            "sqlite:///mlflow.db, or set MLFLOW_TRACKING_URI"
        )
    return place_of(given, fix="; give --tracking-uri sqlite:///PATH")
