"""Rows and values of records as text: CSV that knows ids from numbers, JSON without NaN."""

import csv
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from windtunnel.trials.gather import Row

TEXT = frozenset(
    {"segment", "kind", "parent", "trunk", "experiment", "outcome", "horizon", "size", "variant"}
    | {"label", "source"}  # of imported runs
)
"""Columns that are never numbers, whatever they look like: an id may be all digits."""


def rounded(row: Row) -> Row:
    """Seven digits: a thousandth of the noise between seeds."""
    return {
        key: float(f"{value:.7g}") if isinstance(value, float) else value
        for key, value in row.items()
    }


def csv_text(rows: list[dict[str, Any]]) -> str:
    """Rows under the columns that any of them has; nothing for None."""
    text = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, list(names), lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def read_rows(path: Path) -> Iterator[Row]:
    """What `csv_text` wrote, each value as what it was."""
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield {name: _parsed(name, text) for name, text in row.items()}


def read_rows_if_any(path: Path) -> Iterator[Row]:
    """Nothing where there is no file."""
    return read_rows(path) if path.exists() else iter(())


def json_text(value: object) -> str:
    """JSON, which has no NaN: null."""
    return json.dumps(_finite(value), indent=1, allow_nan=False) + "\n"


def read_json(path: Path, default: Any) -> Any:
    """The value in a file, or the default where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else default


def _parsed(name: str, text: str) -> Any:
    if name in TEXT:
        return text or None
    if text in {"", "True", "False"}:
        return None if not text else text == "True"
    for read in (int, float):
        try:
            return cast("Any", read)(text)
        except ValueError:
            continue
    return text


def _finite(value: Any) -> Any:
    match value:
        case dict():
            return {key: _finite(each) for key, each in value.items()}
        case list() | tuple():
            return [_finite(each) for each in value]
        case float():
            return value if math.isfinite(value) else None
    return value
