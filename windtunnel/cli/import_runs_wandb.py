"""A `wandb/` folder as W&B leaves it on disk: one folder a run, with its config and its summary.

    wandb/run-20260301_101500-3f2k9x1a/files/config.yaml            name: {value: ...}
                                            /wandb-summary.json     the last value of each metric

The binary log beside them (`run-ID.wandb`) is not read, and nothing is unpickled.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from windtunnel.cli.import_runs_source import Source, columns_of, left_out
from windtunnel.errors import ConfigError, boundary
from windtunnel.tables.file import TableFile

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
        said = f": {notes[0]}" if notes else f"; it holds none of run-*/files/{SUMMARY}"
        raise ConfigError(f"{folder}: no W&B run to read{said}; {HINT}")
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
    found = RUN_FOLDER.fullmatch(path.name)
    return found.groupdict() if found else {}


def _values(files: Path) -> dict[str, dict[str, object]]:
    config = _read_yaml(files / CONFIG) if (files / CONFIG).is_file() else {}
    stated = {key: _value(each) for key, each in config.items() if key not in OF_WANDB}
    summary = _read_summary(files / SUMMARY)
    found = {}
    for name, file, values in (("config", CONFIG, stated), ("summary", SUMMARY, summary)):
        with boundary(files / file, HINT, ConfigError, what="cannot be read"):
            found[name] = _flat(values)
    return found


def _value(entry: object) -> object:
    """What a key of config.yaml holds, which stands under `value`, older versions beside `desc`."""
    if isinstance(entry, dict) and "value" in entry and entry.keys() <= {"value", "desc"}:
        return entry["value"]
    return entry


def _flat(values: Mapping[str, object], above: str = "") -> dict[str, object]:
    """Nested names joined by dots, as W&B's own table shows them.

    Raises:
        ValueError: Two values have one name.
        RecursionError: They are nested too deep.
    """
    out: dict[str, object] = {}
    for key, value in values.items():
        if not above and key in OF_WANDB:
            continue
        nested = isinstance(value, dict)
        named = _flat(cast("Any", value), f"{above}{key}.") if nested else {f"{above}{key}": value}
        if both := sorted(out.keys() & named.keys()):
            raise ValueError(f"name {both[0]!r} is there twice, once nested")
        out |= named
    return out


def _read_yaml(path: Path) -> Mapping[str, object]:
    from ruamel.yaml import YAML

    with boundary(path, HINT, ConfigError, what="cannot be read"):
        found = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    return _mapping(path, {} if found is None else found)


def _read_summary(path: Path) -> Mapping[str, object]:
    with boundary(path, HINT, ConfigError, what="cannot be read"):
        found = json.loads(path.read_bytes())
    return _mapping(path, found)


def _mapping(path: Path, found: Any) -> Mapping[str, object]:
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: cannot be read: expected names and values; {HINT}")
    return {str(key): value for key, value in found.items()}


def _digest(files: Path) -> str:
    """Of both files of a run."""
    digest = hashlib.sha256()
    with boundary(files, HINT, ConfigError, what="cannot be read"):
        for path in (files / CONFIG, files / SUMMARY):
            digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()
