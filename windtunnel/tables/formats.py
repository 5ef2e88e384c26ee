"""Formats of tables: text, JSON or Parquet, compressed or not. Nothing is unpickled."""

import gzip
import re
from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from windtunnel.errors import ConfigError, Diagnostic, boundary
from windtunnel.tables.csv import read_csv
from windtunnel.tables.file import TableFile
from windtunnel.tables.json import flat_cells, read_json

Text = Callable[[Path, str], TableFile]

TEXTS: dict[str, Text] = {
    ".csv": read_csv, ".tsv": read_csv, ".jsonl": read_json, ".ndjson": read_json,
    ".json": read_json,
}  # fmt: skip
GZIP = b"\x1f\x8b"
NO_TEXT = {
    b"PAR1": "is a Parquet file; name it .parquet",
    b"PK\x03\x04": "is a workbook or a zip archive; export the sheet as CSV, or unpack it",
    b"\xd0\xcf\x11\xe0": "is a workbook; export the sheet as CSV",
    b"\xfd7zXZ": "is packed with xz; unpack it, or pack it with gzip",
    b"\x28\xb5\x2f\xfd": "is packed with zstd; unpack it, or pack it with gzip",
    b"BZh": "is packed with bzip2; unpack it, or pack it with gzip",
}
"""First bytes of file types that users rename, with the fix."""
OTHER_TEXT = {
    r"<(?:!doctype|!--|\?xml|html|head|body|table|div)\b": "is a web page or XML and no table; "
    "download the table itself (a raw or export link), or export it as CSV",
    r"version https://git-lfs": "is a pointer of Git LFS and not the file; fetch it with "
    "`git lfs pull`",
}
"""Beginnings of texts that are not tables, with the fix."""
MARKS = {
    b"\xff\xfe\x00\x00": "utf-32", b"\x00\x00\xfe\xff": "utf-32", b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}  # fmt: skip
"""Byte order marks of encodings other than UTF-8, the longest first."""
ALLOWED = f"{', '.join(TEXTS)}, each with .gz or without, and .parquet"


def _instead(path: Path) -> str:
    """What to do about a missing table: the file of nearly the same name, else what is allowed."""
    beside = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
    near = get_close_matches(path.name, beside, n=1)
    if near:
        return f"did you mean {path.with_name(near[0])}?"
    return f"give the path of a table ({ALLOWED}), from the folder that you are in"


def read_file(path: Path) -> TableFile:
    """The table in `path`, read by its suffix.

    Raises:
        ConfigError: The file is missing, empty, damaged or of another kind, or a row is ragged.
    """
    name = path.name.lower()
    read = next((TEXTS[each] for each in TEXTS if name.removesuffix(".gz").endswith(each)), None)
    with boundary(path, "give a file that can be read", ConfigError, what="cannot be read"):
        if path.is_dir():
            raise ConfigError(
                "not-a-file", f"{path}: is a folder; give one table ({ALLOWED})", path=path
            )
        if not path.exists():
            raise ConfigError("missing-file", f"{path}: no such file; {_instead(path)}", path=path)
        if read is None and not name.endswith(".parquet"):
            raise ConfigError(
                "unknown-format",
                f"{path}: not a table that can be read; allowed are {ALLOWED}",
                path=path,
            )
        if path.stat().st_size == 0:
            raise _empty(path)
        raw = b"" if read is None else path.read_bytes()
    table = _parquet(path) if read is None else _text_table(path, raw, read)
    if not table.rows:
        raise ConfigError(
            "too-few-rows",
            f"{path}: has no rows; give one row for every finished run",
            path=path,
            rows=0,
        )
    return table


def _empty(path: Path) -> ConfigError:
    return ConfigError(
        "empty", f"{path}: is empty; give a table with one row for every finished run", path=path
    )


def _text_table(path: Path, raw: bytes, read: Text) -> TableFile:
    notes = []
    packed, named = raw.startswith(GZIP), path.name.lower().endswith(".gz")
    if packed:
        with boundary(path, "copy it again", ConfigError, what="not a whole gzip file"):
            raw = gzip.decompress(raw)
    if packed != named:
        notes.append("packed with gzip" if packed else "not packed, whatever its name says")
    for mark, problem in NO_TEXT.items():
        if raw.startswith(mark):
            raise ConfigError("wrong-format", f"{path}: {problem}", path=path)
    encoding = next((MARKS[mark] for mark in MARKS if raw.startswith(mark)), "utf-8-sig")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as broken:
        what = "UTF-8" if encoding == "utf-8-sig" else encoding.upper()
        raise ConfigError(
            "not-utf8",
            f"{path}: not {what} text (byte {broken.start}); save it as UTF-8",
            path=path,
            encoding=what,
            byte=broken.start,
        ) from None
    if encoding != "utf-8-sig":
        notes.append(f"{encoding.upper()} text")
    if "\0" in text:
        raise ConfigError(
            "not-utf8",
            f"{path}: holds zero bytes, as UTF-16 without its mark or a damaged file does; save it "
            "as UTF-8",
            path=path,
            byte=raw.find(b"\0"),
        )
    if not text.strip():
        raise _empty(path)
    for pattern, problem in OTHER_TEXT.items():
        if re.match(pattern, text.lstrip(), re.IGNORECASE):
            raise ConfigError("wrong-format", f"{path}: {problem}", path=path)
    table = read(path, text)
    if not notes:
        return table
    diagnostic = Diagnostic(
        "table-format", f"{path.name} is read as {', '.join(notes)}", path=path, read_as=notes
    )
    return replace(table, diagnostics=(diagnostic, *table.diagnostics))


def _parquet(path: Path) -> TableFile:
    import pyarrow.parquet  # type: ignore[import-untyped]

    fix = "write the table again, or name the file by what it is"
    with boundary(path, fix, ConfigError, what="not a Parquet table"):
        # One file, not a dataset: a folder named `params=1` is not a column.
        table = pyarrow.parquet.ParquetFile(path).read()
        names = [str(name) for name in table.column_names]
        columns = dict(zip(names, (column.to_pylist() for column in table.columns), strict=True))
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(
            "duplicate-column",
            f"{path}: column {twice[0]!r} occurs twice; rename one",
            path=path,
            column=twice[0],
        )
    cells = {
        name: [_decoded(cell) for cell in column] if bytes in set(map(type, column)) else column
        for name, column in columns.items()
    }
    places = [f"row {row}" for row in range(1, table.num_rows + 1)]
    return TableFile(path=path, columns=flat_cells(path, cells, places), places=places)


def _decoded(cell: object) -> object:
    """Text of bytes that hold text; other bytes unchanged."""
    try:
        return cell.decode() if isinstance(cell, bytes) else cell
    except UnicodeDecodeError:
        return cell
