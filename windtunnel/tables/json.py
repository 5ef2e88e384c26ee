"""Tables in JSON: one run per line, one array of runs, or one object of columns.

Nested names are joined: a value of `{"config": {"model": {"params": 1e6}}}` is in column
`config.model.params`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from windtunnel.errors import ConfigError, boundary
from windtunnel.laws.schema import keys_once
from windtunnel.tables.file import TableFile

EXAMPLE = '{"params": 1e6, "tokens": 2e7, "loss": 3.1}'
FIX = f"write each run as one object, for example {EXAMPLE}"
OF_A_FIT = {"law", "coefficients"}


def read_json(path: Path, text: str) -> TableFile:
    """The table in a JSON text: lines of objects, an array of them, or an object of columns.

    Raises:
        ConfigError: Not JSON, or no table.
    """
    lines = [
        (number, line)
        for number, line in enumerate(re.split(r"\r\n|\n|\r", text), start=1)
        if line.strip()
    ]
    name = path.name.lower().removesuffix(".gz")
    of_lines = len(lines) > 1 and _is_json(lines[0][1])
    if text.lstrip().startswith("[") or not (of_lines or name.endswith((".jsonl", ".ndjson"))):
        return _document(path, _parsed(text, str(path)))
    places = [f"line {number}" for number, _ in lines]
    values = [_parsed(line, f"{path}, line {number}") for number, line in lines]
    return _of_runs(path, values, places)


def flat_cells(
    path: Path, columns: Mapping[str, Sequence[object]], places: Sequence[str]
) -> dict[str, Sequence[object]]:
    """Columns, with nested objects flattened under names joined by dots.

    Raises:
        ConfigError: Two columns get the same name.
    """
    out: dict[str, Sequence[object]] = {}
    for name, cells in columns.items():
        if any(isinstance(cell, dict) for cell in cells):
            apart = _by_column(path, [_nested(name, cell) for cell in cells], places)
        else:
            apart = {name: list(cells)}
        if both := sorted(out.keys() & apart.keys()):
            raise ConfigError(
                "duplicate-column",
                f"{path}: column {both[0]!r} occurs twice; rename one",
                path=path,
                column=both[0],
            )
        out |= apart
    return out


def _nested(name: str, cell: object) -> dict[str, object]:
    return {} if cell is None else {name: cell}


def _document(path: Path, found: object) -> TableFile:
    if isinstance(found, list):
        return _of_runs(path, found, [f"element {k}" for k in range(1, len(found) + 1)])
    if not isinstance(found, dict):
        raise ConfigError(
            "wrong-format",
            f"{path}: holds one value and no table; {FIX}",
            path=path,
            found=type(found).__name__,
        )
    if found.keys() >= OF_A_FIT:
        raise ConfigError(
            "wrong-format",
            f"{path}: is a fit and no table of runs; a fit is for windtunnel predict and optimum",
            path=path,
            found="fit",
        )
    columns = {str(name): cells for name, cells in found.items() if isinstance(cells, list)}
    if not columns:
        if all(isinstance(cells, dict) and "0" in cells for cells in found.values()):
            raise ConfigError(
                "wrong-format",
                f"{path}: cells by row; {FIX} (pandas: orient='records')",
                path=path,
                found="cells by row",
            )
        return _of_runs(path, [found], ["the object"])
    lengths = {name: len(cells) for name, cells in columns.items()}
    if len(columns) < len(found) or len(set(lengths.values())) > 1:
        raise ConfigError(
            "ragged-columns",
            f"{path}: not every column has a list of equal length; {FIX}",
            path=path,
            lengths=lengths,
        )
    places = [f"row {k}" for k in range(1, max(lengths.values()) + 1)]
    return TableFile(path=path, columns=flat_cells(path, columns, places), places=places)


def _of_runs(path: Path, found: Sequence[object], places: list[str]) -> TableFile:
    for row, place in zip(found, places, strict=True):
        if not isinstance(row, dict):
            raise ConfigError(
                "wrong-type",
                f"{path}, {place}: not a JSON object; {FIX}",
                path=path,
                place=place,
                type=type(row).__name__,
            )
    rows = cast("Sequence[dict[str, object]]", found)
    return TableFile(path=path, columns=_by_column(path, rows, places), places=places)


def _by_column(
    path: Path, rows: Sequence[Mapping[str, object]], places: Sequence[str]
) -> dict[str, Sequence[object]]:
    flat = []
    for row, place in zip(rows, places, strict=True):
        with boundary(f"{path}, {place}", "nest it less", ConfigError, what="cannot be read"):
            flat.append(dict(_leaves(path, place, row)))
    names = dict.fromkeys(name for row in flat for name in row)
    return {name: [row.get(name) for row in flat] for name in names if name}


def _leaves(path: Path, place: str, row: Mapping[str, object]) -> dict[str, object]:
    """Values by name, nested names joined by dots."""
    out: dict[str, object] = {}
    for key, value in row.items():
        inner = _leaves(path, place, value) if isinstance(value, dict) and value else None
        named = (
            {key: value}
            if inner is None
            else {f"{key}.{name}": each for name, each in inner.items()}
        )
        if both := sorted(out.keys() & named.keys()):
            raise ConfigError(
                "duplicate-column",
                f"{path}, {place}: name {both[0]!r} occurs twice; rename one",
                path=path,
                place=place,
                column=both[0],
            )
        out |= named
    return out


def _parsed(text: str, where: str) -> object:
    with boundary(where, FIX, ConfigError, what="not JSON", code="not-json"):
        return cast("object", json.loads(text, object_pairs_hook=keys_once))


def _is_json(line: str) -> bool:
    """Whether a line is a whole value, as in JSONL files."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
