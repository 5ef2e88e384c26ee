"""Reading from MLflow: the files that `sync` logged for a study, and the runs of any experiment."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windtunnel.errors import TrackingError, did_you_mean
from windtunnel.redact import HIDDEN, redacted
from windtunnel.tracking.mlflow import (
    answers,
    connect,
    place_of,
    refuse_deleted,
    sqlite_uri,
    state_folder,
)

FIX = "try again once it answers, or give another tracking URI"

PLAIN_NAME = re.compile(r"[\w-]+\.\w+", re.ASCII)
"""A file name that is sure to stay inside a folder; the server chooses the names."""


@dataclass(frozen=True, kw_only=True)
class ResultRun:
    """The MLflow run that holds one kind of result of a study."""

    client: Any
    place: str
    run_id: str
    study: str
    experiment: str
    written: int


def download_result(
    study: str, kind: str, folder: Path, *, uri: str | None = None, experiment: str | None = None
) -> None:
    """Download the files of a study's result into `folder`.

    Args:
        study: Its name, as in the study file.
        kind: Such as `records` or `report`.
        folder: An existing folder; nothing is written outside it.
        uri: A tracking URI. None: MLFLOW_TRACKING_URI, else every database in the state folder.
        experiment: The MLflow experiment, where several stores have a study of that name.

    Raises:
        TrackingError: There is no such study, there are several, or the server does not answer.
    """
    known = [each for place in _places(uri) for each in _results(place, kind)]
    mine = [each for each in known if each.study == study]
    if not mine:
        names = sorted({each.study for each in known})
        raise TrackingError(
            "unknown-study",
            f"MLflow has no {kind} of a study {study!r}{did_you_mean(study, names) or '.'} "
            f"It has {', '.join(names) or 'none at all'}; `windtunnel sync STUDY.yaml` logs them",
            study=study,
            kind=kind,
            known=names,
        )
    chosen = [each for each in mine if experiment in {None, each.experiment}]
    if len({each.experiment for each in chosen}) != 1:
        experiments = sorted({each.experiment for each in mine})
        stores = ", ".join(experiments)
        why = (
            f"it is in {stores}" if chosen else f"not in experiment {experiment!r}, but in {stores}"
        )
        raise TrackingError(
            "several-studies" if chosen else "unknown-experiment",
            f"study {study!r}: {why}; choose one by experiment=NAME",
            study=study,
            experiment=experiment,
            known=experiments,
        )
    newest = max(chosen, key=lambda each: each.written)
    with answers(newest.place, FIX):
        for file in newest.client.list_artifacts(newest.run_id):
            if not file.is_dir and PLAIN_NAME.fullmatch(file.path):
                newest.client.download_artifacts(newest.run_id, file.path, str(folder))


def _places(uri: str | None) -> list[str]:
    """Tracking URIs to search."""
    given = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not given:
        return [sqlite_uri(path) for path in sorted(state_folder().glob("*/mlflow.db"))]
    return [place_of(given)]


def _results(uri: str, kind: str) -> list[ResultRun]:
    """The runs of one kind of result at one URI, of all studies."""
    with answers(uri, FIX):
        client = connect(uri)
        names = {
            each.experiment_id: each.name
            for each in client.search_experiments(filter_string="name LIKE 'windtunnel/%'")
        }
        runs = client.search_runs(
            list(names), filter_string=f"tags.kind = '{kind}'", max_results=10_000
        )
        return [
            ResultRun(
                client=client,
                place=uri,
                run_id=run.info.run_id,
                study=run.data.tags.get("study", ""),
                experiment=names[run.info.experiment_id],
                written=run.info.end_time or run.info.start_time or 0,
            )
            for run in runs
        ]


FINISHED = "FINISHED"


@dataclass(frozen=True, kw_only=True)
class ForeignRun:
    """One finished run; `values` holds its `params`, `metrics` (the last of each) and `tags`."""

    run_id: str
    name: str
    values: Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, kw_only=True)
class ForeignExperiment:
    """The finished runs of an experiment, oldest first, and the number of others by status."""

    name: str
    experiment_id: str
    uri: str
    """Without user name, password and other secrets."""
    runs: tuple[ForeignRun, ...]
    unfinished: Mapping[str, int]


def read_experiment(name: str, *, uri: str | None = None) -> ForeignExperiment:
    """The finished runs of an experiment, without deleted ones.

    Args:
        name: The experiment's name in MLflow.
        uri: A tracking URI. None: MLFLOW_TRACKING_URI.

    Raises:
        TrackingError: No URI, an unknown or deleted experiment, or no answer.
    """
    place = _place(uri)
    with answers(place, "try again once it answers, or give another --tracking-uri"):
        client = connect(place)
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            names = [each.name for each in client.search_experiments()]
            raise TrackingError(
                "unknown-experiment",
                f"{redacted(place)}: no experiment {name!r}{did_you_mean(name, names) or '.'} "
                f"There are: {', '.join(names) or 'none'}",
                uri=redacted(place),
                experiment=name,
                known=names,
            )
        refuse_deleted(experiment, place)
        runs = list(_all_runs(client, experiment.experiment_id))
    return ForeignExperiment(
        name=name,
        experiment_id=str(experiment.experiment_id),
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
            "missing-option",
            "no tracking URI: give --tracking-uri, for example http://127.0.0.1:5000 or "
            "sqlite:///mlflow.db, or set MLFLOW_TRACKING_URI",
            option="--tracking-uri",
        )
    return place_of(given, fix="; give --tracking-uri sqlite:///PATH")
