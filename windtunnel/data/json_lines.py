"""JSON records: one per line, or in a `.json` file also one array or one object."""

import json
import math
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from windtunnel.data.account import Tally
from windtunnel.data.opening import opened
from windtunnel.errors import DataError, boundary, cause_of

# An array is read at once; more than this would not fit into memory beside the build.
_LARGEST_ARRAY = 1 << 30
_HEAD_BYTES = 1 << 16
_MISSING = object()
JOIN_LIST = (
    "join its items into one text (the turns of a chat by its template, such as transformers' "
    "apply_chat_template), or name another field in text_column"
)
_PANDAS = (
    "it is a table of columns; write it with pandas: to_json(NEW, orient='records', lines=True)"
)


def json_texts(path: Path, columns: tuple[str, ...], tally: Tally) -> Iterator[list[bytes]]:
    """The text of each record's columns, as UTF-8; a record with a null in one is left out.

    Raises:
        DataError: A record is damaged or lacks a column; names the file and its line.
    """
    with opened(path) as file:
        for place, record in _records(file, path):
            texts = [field_of(record, column) for column in columns]
            if not all(isinstance(text, str) for text in texts):
                if None in texts and all(text is None or isinstance(text, str) for text in texts):
                    tally.add("null")
                    continue
                raise _no_text(f"{path}:{place}", record, columns, texts)
            yield [_encoded(text, tally) for text in texts]


def field_of(record: Any, column: str) -> Any:
    """A field of a record, also by a dotted name; _MISSING if there is none."""
    if not isinstance(record, dict):
        return _MISSING
    if column in record:
        return record[column]
    first, dot, rest = column.partition(".")
    while dot:
        if first in record:
            within = record[first]
            return None if within is None else field_of(within, rest)
        more, dot, rest = rest.partition(".")
        first = f"{first}.{more}"
    return _MISSING


def lacks_fields(path: Path, columns: tuple[str, ...]) -> bool:
    """Whether the first record of a file can be read and has none of the columns."""
    try:
        with opened(path) as file:
            _, record = next(_records(file, path))
    except (DataError, StopIteration):
        return False
    return all(field_of(record, column) is _MISSING for column in columns)


def _records(file: BufferedReader, path: Path) -> Iterator[tuple[int | str, Any]]:
    """Each record with its place, a line or ` record N`."""
    whole = path.name.lower().removesuffix(".gz").removesuffix(".zst").endswith(".json")
    head = file.peek(_HEAD_BYTES)
    if b"\r" in head and b"\n" not in head and head.count(b"}\r"):
        raise DataError(
            "cr-line-ends",
            f"{path}:1: its lines end in CR alone; convert it to LF: tr '\\r' '\\n' < OLD > NEW",
            path=path,
        )
    if whole and _is_one_value(head):
        yield from _of_one_value(file, path)
        return
    for number, line in enumerate(file, start=1):
        if line.isspace():
            continue
        try:
            record = json.loads(line)
        except Exception as error:
            raise DataError(
                "not-json",
                f"{path}:{number}: not a line of JSON in UTF-8: {cause_of(error)}; repair or "
                "remove the line",
                path=path,
                line=number,
                cause=cause_of(error),
            ) from error
        yield number, record


def _is_one_value(head: bytes) -> bool:
    """Whether a `.json` file holds one array or one object over several lines."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"["):
        return True
    line, end, _ = text.partition(b"\n")
    if not end:
        return False
    try:
        json.loads(line)
    except ValueError:
        return text.startswith(b"{")
    return False


def _of_one_value(file: BufferedReader, path: Path) -> Iterator[tuple[str, Any]]:
    text = file.read(_LARGEST_ARRAY + 1)
    fix = "write it as JSON lines: jq -c '.[]' OLD.json > NEW.jsonl"
    if len(text) > _LARGEST_ARRAY:
        raise DataError(
            "too-large",
            f"{path}: one JSON value of more than {_LARGEST_ARRAY:,} bytes; {fix}",
            path=path,
            limit=_LARGEST_ARRAY,
        )
    with boundary(
        path,
        f"repair it, or {fix}",
        what="no JSON lines, and not one JSON value either",
        code="not-json",
    ):
        value = json.loads(text)
    records = value if isinstance(value, list) else [value]
    for number, record in enumerate(records, start=1):
        yield f" record {number}", record


def _encoded(text: str, tally: Tally) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        # A lone surrogate escape cannot be written as UTF-8 and becomes a question mark.
        tally.add("lone-surrogates", sum("\ud800" <= char <= "\udfff" for char in text))
        return text.encode("utf-8", "replace")


def _no_text(where: str, record: Any, columns: tuple[str, ...], texts: list[Any]) -> DataError:
    """The error for a field without text, with the record's fields and the fix."""
    wrong = next(n for n, text in enumerate(texts) if not isinstance(text, str | None))
    value = texts[wrong]
    fields = record if isinstance(record, dict) else {}
    names = [*map(repr, list(fields)[:_FIELDS]), *["..."] * (len(fields) > _FIELDS)]
    kind = "NaN" if _is_nan(value) else _NAMES.get(type(value), "no text")
    missing = value is _MISSING
    return DataError(
        "unknown-column" if missing else "wrong-type",
        f"{where}: no text in field {columns[wrong]!r}{'' if missing else f' but {kind}'}; the "
        f"line has {', '.join(names) or 'no fields'}; {_right_fields(fields, columns, value)}",
        where=where,
        column=columns[wrong],
        known=list(fields),
        **({} if missing else {"type": kind}),
    )


_FIELDS = 20
_NAMES = {list: "a list", dict: "an object", int: "a number", float: "a number", bool: "a boolean"}


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _is_table(fields: dict[str, Any], value: Any) -> bool:
    """Whether a record is a whole pandas table: by columns, by rows, or split."""
    if isinstance(value, dict) and value and all(map(str.isdecimal, value)):
        return True
    by_rows = all(name.isdecimal() and isinstance(row, dict) for name, row in fields.items())
    return (bool(fields) and by_rows) or fields.keys() in _TABLES


_TABLES = ({"columns", "index", "data"}, {"columns", "data"}, {"schema", "data"})


def _list_within(fields: dict[str, Any], column: str) -> str | None:
    """The list on a column's path, if there is one."""
    parts = column.split(".")
    outers = (".".join(parts[:length]) for length in range(1, len(parts)))
    return next((outer for outer in outers if isinstance(field_of(fields, outer), list)), None)


def _right_fields(fields: dict[str, Any], columns: tuple[str, ...], value: Any) -> str:
    if isinstance(value, list):
        return JOIN_LIST
    if _is_nan(value):
        return "NaN is no JSON, and pandas' mark of a missing value: write null, or drop the record"
    if _is_table(fields, value):
        return _PANDAS
    if outer := next(filter(None, (_list_within(fields, name) for name in columns)), None):
        return f"{outer!r} is a list: {JOIN_LIST}"
    if isinstance(value, dict):
        inner = next(iter(value), "FIELD")
        return f"name a field in it by its path, such as {columns[0]}.{inner}"
    if len(columns) == 2:
        return "set pairs to the fields that hold a prompt and its completion"
    if {"prompt", "completion"} <= fields.keys():
        return "set pairs: [prompt, completion]"
    return "set text_column to the field that holds the text"
