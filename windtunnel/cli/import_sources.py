"""Sources of `windtunnel import-runs`: a table, an MLflow experiment, or an export of W&B.

A `wandb/` folder has one folder per run, with its config and its summary:

    wandb/run-20260301_101500-3f2k9x1a/files/config.yaml            name: {value: ...}
                                            /wandb-summary.json     the last value of each metric

The binary log beside them (`run-ID.wandb`) is not read, and nothing is unpickled.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import Any, cast

from windtunnel.cli.options import check_choice
from windtunnel.errors import ConfigError, Refused, boundary
from windtunnel.tables.file import TableFile
from windtunnel.tables.formats import read_file

FORMATS = ("csv", "mlflow", "wandb")
MLFLOW = "mlflow:"
SEGMENT_TAG = "windtunnel.segment"
"""MLflow tag of runs that `windtunnel sync` mirrored."""
WANDB_COLUMNS = ("Name", "State")
LABELS = ("run", "name", "Name", "label", "segment")
"""Columns that are taken for the label of a run if none is named; the first that exists."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Rows of a source, with the origin of each.

    Attributes:
        tool: csv, mlflow or wandb.
        name: The name of the file, experiment or folder.
        origins: Hashes and ids by place of the row, to check it later.
        label: The column with the labels of the runs, or None.
        notes: What was left out, and why.
    """

    table: TableFile
    tool: str
    name: str
    origins: Mapping[str, Mapping[str, Any]]
    label: str | None
    notes: tuple[str, ...] = field(default=())


def open_source(text: str, *, file_format: str | None, tracking_uri: str | None) -> Source:
    """The runs in a source, told apart by what it is, or read as `file_format`.

    Raises:
        ConfigError: It is not there, damaged, of another kind, or an MLflow experiment without a
            finished run.
        TrackingError: MLflow does not answer, or has no such experiment.
    """
    if file_format is not None:
        check_choice("--format", file_format, FORMATS)
    if file_format == "mlflow" or (file_format is None and text.startswith(MLFLOW)):
        return _mlflow(text.removeprefix(MLFLOW), tracking_uri)
    if tracking_uri is not None:
        raise ConfigError(
            "contradicting-options",
            f"--tracking-uri: {text} is no MLflow source; write {MLFLOW}EXPERIMENT",
            options=["--tracking-uri", "SOURCE"],
            source=text,
        )
    path = Path(text)
    with boundary(path, "give a table or a wandb folder", ConfigError, what="cannot be read"):
        is_folder = path.is_dir()
    if file_format != "csv" and is_folder:
        return wandb_folder(path)
    table = read_file(path)
    is_export = all(name in table.columns for name in WANDB_COLUMNS)
    if file_format == "wandb" and not is_export:
        raise ConfigError(
            "unknown-format",
            f"{path}: no export of a W&B runs table, which has the columns Name and State. There "
            f"are: {table.names}; --format csv reads any table",
            path=path,
            columns=list(table.columns),
        )
    return _table(table, tool="wandb" if is_export and file_format != "csv" else "csv")


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
    """The rows for which `keep` is true."""
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
    """The rows of a file; the origin of a row is the hash of the file and its place."""
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
        raise ConfigError(
            "missing-name", f"{MLFLOW}: no experiment; write {MLFLOW}EXPERIMENT_NAME", source=MLFLOW
        )
    experiment_runs = read_experiment(experiment, uri=uri)
    where = f"{MLFLOW}{experiment}"
    total = len(experiment_runs.runs) + sum(experiment_runs.unfinished.values())
    notes = (left_out(experiment_runs.unfinished, total),) if experiment_runs.unfinished else ()
    if not experiment_runs.runs:
        raise ConfigError(
            "too-few-rows",
            f"{where}: no finished run{': ' + notes[0] if notes else ''}",
            source=where,
            rows=0,
            unfinished=dict(experiment_runs.unfinished),
        )
    places = [f"run {run.run_id}" for run in experiment_runs.runs]
    columns = columns_of([run.values for run in experiment_runs.runs])
    columns["run"] = [run.name for run in experiment_runs.runs]
    columns["run_id"] = [run.run_id for run in experiment_runs.runs]
    at = {"experiment_id": experiment_runs.experiment_id, "uri": experiment_runs.uri}
    return Source(
        table=TableFile(path=Path(where), columns=columns, places=places),
        tool="mlflow",
        name=experiment,
        origins={
            place: {**at, "run_id": run.run_id, "segment": run.values["tags"].get(SEGMENT_TAG)}
            for place, run in zip(places, experiment_runs.runs, strict=True)
        },
        label="run",
        notes=notes,
    )


CONFIG, SUMMARY = "config.yaml", "wandb-summary.json"
RUN_FOLDER = re.compile(r"(?:offline-)?run-(?:(?P<begun>\d{8}_\d{6})-)?(?P<id>.+)")
OF_WANDB = {"_wandb", "wandb_version"}
HINT = "export the runs table as CSV from the project's page instead"


def wandb_folder(root: Path) -> Source:
    """The runs of a `wandb` folder, or of the folder that holds one.

    A run that was resumed has several folders, of which the last counts. Whether a run finished is
    nowhere on disk.

    Raises:
        ConfigError: No run in it, or a damaged file.
    """
    inner = root / "wandb"
    folder = inner if inner.is_dir() else root
    runs: dict[str, Path] = {}
    gone: Counter[str] = Counter()
    for path in sorted(_run_folders(folder), key=lambda each: _parts(each)["begun"] or ""):
        if not (path / "files" / SUMMARY).is_file():
            gone[f"no files/{SUMMARY}, as of a run that was offline or died at once"] += 1
            continue
        run_id = str(_parts(path)["id"])
        if run_id in runs:
            gone["earlier part of a resumed run"] += 1
        runs[run_id] = path
    total = len(runs) + sum(gone.values())
    notes = [left_out(gone, total)] if gone else []
    if not runs:
        why = f": {notes[0]}" if notes else f"; it holds none of run-*/files/{SUMMARY}"
        raise ConfigError(
            "too-few-rows",
            f"{folder}: no W&B run to read{why}; {HINT}",
            path=folder,
            rows=0,
            left_out=dict(gone),
        )
    notes.append(
        f"{folder} does not say whether a run finished: the last value of each metric is taken; "
        "leave out those that did not finish with --where or --exclude"
    )
    places = [path.name for path in runs.values()]
    columns = columns_of([_values(path / "files") for path in runs.values()])
    return Source(
        table=TableFile(path=folder, columns=columns | {"run_id": list(runs)}, places=places),
        tool="wandb",
        name=folder.name if folder.name != "wandb" else f"{folder.resolve().parent.name}/wandb",
        origins={
            path.name: {"run_id": run_id, "sha256": _digest(path / "files")}
            for run_id, path in runs.items()
        },
        label="run_id",
        notes=tuple(notes),
    )


def _run_folders(folder: Path) -> Iterator[Path]:
    with boundary(folder, HINT, ConfigError, what="cannot be read"):
        there = sorted(folder.iterdir())
    for path in there:
        if RUN_FOLDER.fullmatch(path.name) and path.is_dir():
            yield path


def _parts(path: Path) -> dict[str, str | None]:
    match = RUN_FOLDER.fullmatch(path.name)
    return match.groupdict() if match else {}


def _values(files: Path) -> dict[str, dict[str, object]]:
    config = _read_yaml(files / CONFIG) if (files / CONFIG).is_file() else {}
    stated = {key: _value(each) for key, each in config.items() if key not in OF_WANDB}
    summary = _read_summary(files / SUMMARY)
    values_of = {}
    for name, file, values in (("config", CONFIG, stated), ("summary", SUMMARY, summary)):
        with boundary(files / file, HINT, ConfigError, what="cannot be read"):
            values_of[name] = _flat(values)
    return values_of


def _value(entry: object) -> object:
    """The value of a key of config.yaml; it is under `value`, in older versions beside `desc`."""
    if isinstance(entry, dict) and "value" in entry and entry.keys() <= {"value", "desc"}:
        return entry["value"]
    return entry


def _flat(values: Mapping[str, object], above: str = "") -> dict[str, object]:
    """Nested names joined by dots, as W&B's own table shows them.

    Raises:
        Refused: Two values have one name.
        RecursionError: They are nested too deep.
    """
    out: dict[str, object] = {}
    for key, value in values.items():
        if not above and key in OF_WANDB:
            continue
        nested = isinstance(value, dict)
        named = _flat(cast("Any", value), f"{above}{key}.") if nested else {f"{above}{key}": value}
        if both := sorted(out.keys() & named.keys()):
            raise Refused(
                "duplicate-name", f"name {both[0]!r} occurs twice, once nested", name=both[0]
            )
        out |= named
    return out


def _read_yaml(path: Path) -> Mapping[str, object]:
    from ruamel.yaml import YAML

    with boundary(path, HINT, ConfigError, what="cannot be read"):
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    return _mapping(path, {} if content is None else content)


def _read_summary(path: Path) -> Mapping[str, object]:
    with boundary(path, HINT, ConfigError, what="cannot be read"):
        content = json.loads(path.read_bytes())
    return _mapping(path, content)


def _mapping(path: Path, content: Any) -> Mapping[str, object]:
    if not isinstance(content, dict):
        raise ConfigError(
            "wrong-type", f"{path}: cannot be read: expected names and values; {HINT}", path=path
        )
    return {str(key): value for key, value in content.items()}


def _digest(files: Path) -> str:
    """SHA-256 of both files of a run."""
    digest = hashlib.sha256()
    with boundary(files, HINT, ConfigError, what="cannot be read"):
        for path in (files / CONFIG, files / SUMMARY):
            digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()
