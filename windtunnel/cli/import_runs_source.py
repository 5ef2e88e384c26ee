"""What `windtunnel import-runs` reads: a table, an MLflow experiment, or an export of W&B."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import Any

from windtunnel.errors import ConfigError, boundary, did_you_mean
from windtunnel.tables.file import TableFile
from windtunnel.tables.formats import read_file

FORMATS = ("csv", "mlflow", "wandb")
MLFLOW = "mlflow:"
SEGMENT_TAG = "windtunnel.segment"
"""Of runs that `windtunnel sync` has mirrored."""
WANDB_COLUMNS = ("Name", "State")
LABELS = ("run", "name", "Name", "label", "segment")
"""Columns of a table that are taken for a run's label where none is named, the first there is."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Cells, and where each row came from.

    Attributes:
        tool: csv, mlflow or wandb.
        name: what people call it.
        origins: by place of the row: what it can be checked by later.
        label: the column that holds the runs' labels; None: the place stands for it.
        notes: what was left out, and why.
    """

    table: TableFile
    tool: str
    name: str
    origins: Mapping[str, Mapping[str, Any]]
    label: str | None
    notes: tuple[str, ...] = field(default=())


def open_source(text: str, *, asked: str | None, tracking_uri: str | None) -> Source:
    """The runs in a source, told apart by what it is, or read as the `asked` format.

    Raises:
        ConfigError: It is not there, damaged, of another kind, or an MLflow experiment without a
            finished run.
        TrackingError: MLflow does not answer, or has no such experiment.
    """
    if asked is not None and asked not in FORMATS:
        raise ConfigError(
            f"--format {asked}: allowed are {', '.join(FORMATS)}{did_you_mean(asked, FORMATS)}"
        )
    if asked == "mlflow" or (asked is None and text.startswith(MLFLOW)):
        return _mlflow(text.removeprefix(MLFLOW), tracking_uri)
    if tracking_uri is not None:
        raise ConfigError(f"--tracking-uri: {text} is no MLflow source; write {MLFLOW}EXPERIMENT")
    path = Path(text)
    with boundary(path, "give a table or a wandb folder", ConfigError, what="cannot be read"):
        is_folder = path.is_dir()
    if asked != "csv" and is_folder:
        from windtunnel.cli.import_runs_wandb import wandb_folder

        return wandb_folder(path)
    table = read_file(path)
    is_export = all(name in table.columns for name in WANDB_COLUMNS)
    if asked == "wandb" and not is_export:
        raise ConfigError(
            f"{path}: no export of a W&B runs table, which has the columns Name and State. There "
            f"are: {table.names}; --format csv reads any table"
        )
    return _table(table, tool="wandb" if is_export and asked != "csv" else "csv")


def columns_of(runs: Sequence[Mapping[str, Mapping[str, object]]]) -> dict[str, list[object]]:
    """One column for each value of each kind, as `metrics.loss`; also `loss` where one kind has it.

    `runs` have values by name by kind, such as params, metrics and tags.
    """
    kinds: dict[str, set[str]] = {}
    for run in runs:
        for kind, values in run.items():
            for name in values:
                kinds.setdefault(name, set()).add(kind)
    columns: dict[str, list[object]] = {}
    for name, of in kinds.items():
        for kind in sorted(of):
            columns[f"{kind}.{name}"] = [run.get(kind, {}).get(name) for run in runs]
        if len(of) == 1:
            columns[name] = columns[f"{next(iter(of))}.{name}"]
    return columns


def only(table: TableFile, keep: Iterable[bool]) -> TableFile:
    """The rows where `keep` is true."""
    mask = list(keep)
    return replace(
        table,
        columns={name: list(compress(cells, mask)) for name, cells in table.columns.items()},
        places=list(compress(table.places, mask)),
    )


def left_out(counts: Mapping[str, int], total: int) -> str:
    """`2 of 5 runs are left out: crashed (1), running (1)`."""
    why = ", ".join(f"{reason} ({count})" for reason, count in counts.items())
    return f"{sum(counts.values())} of {total} runs are left out: {why}"


def _table(table: TableFile, *, tool: str) -> Source:
    """A file's rows, whose origin is the file's content and where in it each stands."""
    with boundary(table.path, "give a file that can be read", ConfigError):
        digest = hashlib.sha256(table.path.read_bytes()).hexdigest()
    return Source(
        table=table,
        tool=tool,
        name=table.path.name,
        origins={place: {"sha256": digest, "place": place} for place in table.places},
        label=next((name for name in LABELS if name in table.columns), None),
    )


def _mlflow(experiment: str, uri: str | None) -> Source:
    from windtunnel.tracking.read import read_experiment

    if not experiment:
        raise ConfigError(f"{MLFLOW}: no experiment; write {MLFLOW}EXPERIMENT_NAME")
    found = read_experiment(experiment, uri=uri)
    where = f"{MLFLOW}{experiment}"
    total = len(found.runs) + sum(found.unfinished.values())
    notes = (left_out(found.unfinished, total),) if found.unfinished else ()
    if not found.runs:
        raise ConfigError(f"{where}: no finished run{': ' + notes[0] if notes else ''}")
    places = [f"run {run.run_id}" for run in found.runs]
    columns = columns_of([run.values for run in found.runs])
    columns["run"] = [run.name for run in found.runs]
    columns["run_id"] = [run.run_id for run in found.runs]
    at = {"experiment_id": found.experiment_id, "uri": found.uri}
    return Source(
        table=TableFile(path=Path(where), columns=columns, places=places),
        tool="mlflow",
        name=experiment,
        origins={
            place: {**at, "run_id": run.run_id, "segment": run.values["tags"].get(SEGMENT_TAG)}
            for place, run in zip(places, found.runs, strict=True)
        },
        label="run",
        notes=notes,
    )
