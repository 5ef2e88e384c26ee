"""A text column of a Parquet file, of any type that holds text."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from windtunnel.data.account import Tally
from windtunnel.data.json_lines import JOIN_LIST
from windtunnel.errors import DataError, boundary

_BATCH_ROWS = 1024
_FIX = "is it whole, and may it be read?"


def parquet_texts(path: Path, column: str, tally: Tally) -> Iterator[bytes]:
    """The texts of a column, as UTF-8; nulls are left out.

    Args:
        path: The file.
        column: Its name; a field of a struct by its path, such as `message.content`.
        tally: Counts the nulls.

    Raises:
        DataError: The file is damaged, has no such column, or a value is not UTF-8; names the
            file and the row, counted from 1.
    """
    import pyarrow.parquet  # type: ignore[import-untyped]

    with boundary(path, _FIX, what="not a Parquet file"):
        file = pyarrow.parquet.ParquetFile(path)
    row = 1
    with boundary(lambda: f"{path}: in the rows from {row} on", _FIX), file:
        parts = _parts(file.schema_arrow, column, path)
        for batch in file.iter_batches(columns=[column], batch_size=_BATCH_ROWS):
            for value in _bytes_of(batch, parts).to_pylist():
                if value is None:
                    tally.add("null")
                else:
                    yield _checked(value, path, row, column)
                row += 1


def _parts(schema: Any, column: str, path: Path) -> list[str]:
    """The column, and the nested fields, that a name refers to.

    Raises:
        DataError: There is none, or it holds no text.
    """
    names = list(schema.names)
    if names.count(column) > 1:
        raise DataError(
            "duplicate-column",
            f"{path}: has {names.count(column)} columns {column!r}; rename one",
            path=path,
            column=column,
            count=names.count(column),
        )
    candidates = list(_paths({field.name: field.type for field in schema}, column))
    if not candidates:
        raise DataError(
            "unknown-column",
            f"{path}: no column {column!r}; it has {', '.join(map(repr, names))}; "
            "set text_column to one of them",
            path=path,
            column=column,
            known=names,
        )
    problems = []
    for parts in candidates:
        try:
            _check_text(_kind(schema, parts, path), column, path)
        except DataError as problem:
            problems.append(problem)
        else:
            return parts
    raise problems[0]


def _kind(schema: Any, parts: list[str], path: Path) -> Any:
    """The type of a column, or of a field within it."""
    kind = _plain(schema.field(parts[0]).type)
    for depth, part in enumerate(parts[1:], start=1):
        fields, outer = _fields(kind), ".".join(parts[:depth])
        if _is_list(kind):
            raise DataError(
                "wrong-type",
                f"{path}: column {outer!r} holds {kind}, a list; {JOIN_LIST}",
                path=path,
                column=outer,
                type=str(kind),
            )
        if part not in fields:
            raise DataError(
                "unknown-column",
                f"{path}: column {outer!r} holds {kind}, no field {part!r}; "
                f"set text_column to one of its fields: {', '.join(fields) or 'it has none'}",
                path=path,
                column=outer,
                field=part,
                known=list(fields),
            )
        kind = _plain(kind.field(part).type)
    return kind


def _paths(fields: Mapping[str, Any], column: str) -> Iterator[list[str]]:
    """Paths that a name may mean, also with dots in field names, longest part first.

    If a field has no child of the whole rest, the rest is split at its dots.
    """
    parts = column.split(".")
    for length in range(len(parts), 0, -1):
        first, rest = ".".join(parts[:length]), parts[length:]
        if first not in fields:
            continue
        if not rest:
            yield [first]
            continue
        within = _paths(_fields(_plain(fields[first])), ".".join(rest))
        known = False
        for each in within:
            known = True
            yield [first, *each]
        if not known:
            yield [first, *rest]


def _fields(kind: Any) -> dict[str, Any]:
    from pyarrow import types

    return {field.name: field.type for field in kind} if types.is_struct(kind) else {}


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_nested(kind) and not types.is_struct(kind))


def _plain(kind: Any) -> Any:
    """The type beneath an extension or a dictionary."""
    import pyarrow

    if isinstance(kind, pyarrow.BaseExtensionType):
        return _plain(kind.storage_type)
    return _plain(kind.value_type) if pyarrow.types.is_dictionary(kind) else kind


def _check_text(kind: Any, column: str, path: Path) -> None:
    from pyarrow import types

    text = (
        types.is_string,
        types.is_large_string,
        types.is_string_view,
        types.is_binary,
        types.is_large_binary,
        types.is_binary_view,
        types.is_fixed_size_binary,
        types.is_null,
    )
    if any(each(kind) for each in text):
        return
    fix = "set text_column to a column of text"
    if _is_list(kind):
        fix = JOIN_LIST
    elif fields := _fields(kind):
        fix = f"name a field in it by its path, such as text_column: {column}.{next(iter(fields))}"
    raise DataError(
        "wrong-type",
        f"{path}: column {column!r} holds {kind}; a text column is needed: {fix}",
        path=path,
        column=column,
        type=str(kind),
    )


def _bytes_of(batch: Any, parts: list[str]) -> Any:
    """The values of a batch as an array of bytes."""
    import pyarrow
    import pyarrow.compute  # type: ignore[import-untyped]

    values = batch.column(parts[0])
    for part in parts[1:]:
        values = pyarrow.compute.struct_field(_storage(values), part)
    return _storage(values).cast(pyarrow.large_binary())


def _storage(values: Any) -> Any:
    import pyarrow

    if isinstance(values, pyarrow.ExtensionArray):
        return _storage(values.storage)
    return _storage(values.dictionary_decode()) if _is_dictionary(values) else values


def _is_dictionary(values: Any) -> bool:
    import pyarrow

    return bool(pyarrow.types.is_dictionary(values.type))


def _checked(value: bytes, path: Path, row: int, column: str) -> bytes:
    try:
        value.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            "not-utf8",
            f"{path}: row {row}: byte {error.start} (0x{value[error.start]:02x}) of column "
            f"{column!r} is not UTF-8; convert the column to UTF-8",
            path=path,
            row=row,
            column=column,
            byte=error.start,
        ) from error
    return value
