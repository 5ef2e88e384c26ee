"""From MLflow back: the files that `sync` logged of a study, found by its name."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windtunnel.errors import TrackingError, did_you_mean
from windtunnel.trials.tracking.client import answers, connect, place_of
from windtunnel.trials.tracking.location import state_folder
from windtunnel.trials.tracking.uris import sqlite_uri

FIX = "try again once it answers, or give another tracking URI"

PLAIN_NAME = re.compile(r"[\w-]+\.\w+", re.ASCII)
"""A server names its files, and only such a name is sure to stay inside a folder."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """One study's run of a kind of result, and the experiment (one a store) that it lies in."""

    client: Any
    place: str
    run_id: str
    study: str
    experiment: str
    written: int


def download_result(
    study: str, kind: str, folder: Path, *, uri: str | None = None, experiment: str | None = None
) -> None:
    """Put the files of a study's result into `folder`, and nothing anywhere else.

    Args:
        study: its name, as in the study file.
        kind: such as `records` or `report`.
        folder: must exist.
        uri: a tracking URI. None: MLFLOW_TRACKING_URI, else every database in the state folder.
        experiment: which one, where several stores have a study of that name.

    Raises:
        TrackingError: No such study, several of them, or a server that does not answer.
    """
    known = [each for place in _places(uri) for each in _results(place, kind)]
    mine = [each for each in known if each.study == study]
    if not mine:
        names = sorted({each.study for each in known})
        raise TrackingError(
            f"MLflow has no {kind} of a study {study!r}{did_you_mean(study, names) or '.'} "
            f"It has {', '.join(names) or 'none at all'}; `windtunnel sync STUDY.yaml` logs them"
        )
    chosen = [each for each in mine if experiment in {None, each.experiment}]
    if len({each.experiment for each in chosen}) != 1:
        stores = ", ".join(sorted({each.experiment for each in mine}))
        why = (
            f"it is in {stores}" if chosen else f"not in experiment {experiment!r}, but in {stores}"
        )
        raise TrackingError(f"study {study!r}: {why}; choose one by experiment=NAME")
    newest = max(chosen, key=lambda each: each.written)
    with answers(newest.place, FIX):
        for file in newest.client.list_artifacts(newest.run_id):
            if not file.is_dir and PLAIN_NAME.fullmatch(file.path):
                newest.client.download_artifacts(newest.run_id, file.path, str(folder))


def _places(uri: str | None) -> list[str]:
    """Tracking URIs to look at."""
    given = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not given:
        return [sqlite_uri(path) for path in sorted(state_folder().glob("*/mlflow.db"))]
    return [place_of(given)]


def _results(uri: str, kind: str) -> list[Found]:
    """Every study's run of a kind at one URI."""
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
            Found(
                client=client,
                place=uri,
                run_id=run.info.run_id,
                study=run.data.tags.get("study", ""),
                experiment=names[run.info.experiment_id],
                written=run.info.end_time or run.info.start_time or 0,
            )
            for run in runs
        ]
