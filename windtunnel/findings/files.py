"""Text files of records: CSV tables whose values come back in their types, and JSON."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from windtunnel.errors import ConfigError, Refused, boundary
from windtunnel.laws.table import COPYING
from windtunnel.runs import routing
from windtunnel.runs.dynamics import CHANGE, SERIES
from windtunnel.runs.json_schema import Schema, parse
from windtunnel.runs.schemas import ANYTHING
from windtunnel.runs.table import COLUMNS, OF_EXPERTS, PREFIXES, Row

TEXT = frozenset(
    {"segment", "kind", "parent", "trunk", "experiment", "outcome", "horizon", "size", "variant"}
    | {"label", "source"}  # of imported runs
)
"""Columns that are never numbers, whatever they look like: an id may be all digits."""
WORDS = {"kind": ("trunk", "branch", "imported"), "outcome": ("finished", "diverged")}
FLAGS = frozenset({"decayed", "held_out"})
NUMBERS = (
    (
        frozenset(COLUMNS)
        | {"after", "step", "layer", *SERIES, *routing.SERIES, *COPYING, *OF_EXPERTS}
    )
    - TEXT
    - FLAGS
)
OF_SETS = (*PREFIXES, CHANGE)
"""How the names of further columns of numbers begin."""
LARGEST = 1e300
WRITE_AGAIN = "put back a copy, or write it again: windtunnel records STUDY.yaml --out FOLDER"


def csv_text(rows: list[dict[str, Any]]) -> str:
    """Rows under the columns that any of them has; nothing for None."""
    text = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, list(names), lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def read_rows(path: Path, needs: Mapping[str, bool]) -> Iterator[Row]:
    """Rows that `csv_text` wrote, with each value in its type.

    Args:
        path: The file.
        needs: Columns that it must have where it has rows, and whether each row has a value there.

    Raises:
        ConfigError: It cannot be read, or a line or a value is none that was written; with its
            line and column.
    """
    line = 0

    def place() -> str:
        return f"{path}, line {line}" if line else str(path)

    with boundary(place, WRITE_AGAIN, ConfigError), path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, strict=True)
        for row in reader:
            line = reader.line_num
            names = reader.fieldnames or ()
            if missing := [name for name in needs if name not in names]:
                raise Refused(
                    "missing-column", f"the table has no column {missing[0]!r}", column=missing[0]
                )
            if len(set(names)) < len(names):
                raise Refused(
                    "duplicate-column", "a column stands twice in the table", columns=names
                )
            if None in row or None in row.values():
                raise Refused(
                    "ragged-row",
                    f"the line has other than {len(names)} cells, one a column",
                    expected=len(names),
                )
            found = {name: _parsed(name, text) for name, text in row.items()}
            for name, has_value in needs.items():
                if has_value and found[name] is None:
                    raise Refused("empty", f"column {name!r} is empty", column=name)
            yield found


def read_rows_if_any(path: Path, needs: Mapping[str, bool]) -> Iterator[Row]:
    """Rows as `read_rows`; none where there is no file.

    Raises:
        ConfigError: As `read_rows`.
    """
    return read_rows(path, needs) if path.exists() else iter(())


def json_text(value: object) -> str:
    """A value as JSON, with null for NaN."""
    return json.dumps(_finite(value), indent=1, allow_nan=False) + "\n"


def read_list(path: Path, schema: Schema[dict[str, Any]]) -> list[dict[str, Any]]:
    """The objects in a file, each as its schema has it; none where there is no file.

    Raises:
        ConfigError: It cannot be read, or is damaged: with the place.
    """
    if not path.exists():
        return []
    with boundary(path, WRITE_AGAIN, ConfigError, what="damaged"):
        found = parse(path.read_bytes())
        if not isinstance(found, list):
            raise Refused(
                "wrong-type", "expected a list", expected="list", found=type(found).__name__
            )
        return [schema.at(each, place) for place, each in enumerate(found)]


def read_object(path: Path) -> dict[str, Any]:
    """The object in a file; empty where there is none.

    Raises:
        ConfigError: It cannot be read, or is damaged.
    """
    if not path.exists():
        return {}
    with boundary(path, WRITE_AGAIN, ConfigError, what="damaged"):
        return ANYTHING.read(path.read_bytes())


def _parsed(name: str, text: str) -> Any:
    if name in WORDS and text not in WORDS[name]:
        raise Refused(
            "unknown-value",
            f"column {name!r}: {text[:40]!r}, expected {' or '.join(WORDS[name])}",
            column=name,
            value=text[:40],
            known=list(WORDS[name]),
        )
    if name in TEXT:
        return text or None
    if text in {"", "True", "False"}:
        if name in FLAGS or not text:
            return None if not text else text == "True"
        if name in NUMBERS or name.startswith(OF_SETS):
            raise Refused(
                "not-a-number",
                f"column {name!r}: {text}, expected a number",
                column=name,
                value=text,
            )
        return text == "True"
    if name in FLAGS:
        raise Refused(
            "not-a-boolean",
            f"column {name!r}: {text[:40]!r}, expected True or False",
            column=name,
            value=text[:40],
        )
    for read in (int, float):
        with suppress(ValueError):
            found = cast("Any", read)(text)
            if not abs(found) < LARGEST:
                break
            return found
    if name in NUMBERS or name.startswith(OF_SETS):
        raise Refused(
            "not-a-number",
            f"column {name!r}: {text[:40]!r}, expected a number",
            column=name,
            value=text[:40],
        )
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
