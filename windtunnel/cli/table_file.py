"""Tables as they lie on disk: CSV, JSON lines or Parquet in, columns of raw cells out."""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from windtunnel.errors import ConfigError

MAX_NAMES_SHOWN = 30


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """Cells as the file has them (text in a CSV), and where each row stands, such as `line 7`.

    Attributes:
        stated: columns that are not the file's own, but what an option says of every row.
    """

    path: Path
    columns: Mapping[str, Sequence[object]]
    places: Sequence[str]
    stated: frozenset[str] = frozenset()

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.places)

    @property
    def own(self) -> list[str]:
        """The columns that the file has itself."""
        return [name for name in self.columns if name not in self.stated]

    @property
    def names(self) -> str:
        """The file's own columns, for a message."""
        shown = self.own[:MAX_NAMES_SHOWN]
        more = len(self.own) - len(shown)
        return ", ".join(shown) + (f" and {more} more" if more else "")


def read_file(path: Path) -> TableFile:
    """The table in `path`, told apart by its suffix. Nothing is unpickled.

    Raises:
        ConfigError: The file is missing, empty, damaged or of another kind, or a row is ragged.
    """
    kinds: dict[str, Callable[[Path], TableFile]] = {
        ".csv": _read_csv, ".csv.gz": _read_csv, ".jsonl": _read_jsonl, ".jsonl.gz": _read_jsonl,
        ".parquet": _read_parquet,
    }  # fmt: skip
    read = next((kinds[each] for each in kinds if path.name.lower().endswith(each)), None)
    if read is None:
        hint = "; a fit is for windtunnel predict and optimum" if path.suffix == ".json" else ""
        raise ConfigError(
            f"{path}: not a table that can be read; allowed are {', '.join(kinds)}{hint}"
        )
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; give one table ({', '.join(kinds)})")
    try:
        table = read(path)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (gzip.BadGzipFile, zlib.error, EOFError) as broken:
        raise ConfigError(f"{path}: not a whole gzip file: {broken}") from None
    except OSError as refused:
        raise ConfigError(f"{path}: cannot be read: {refused.strerror or refused}") from None
    if not table.rows:
        raise ConfigError(f"{path}: has no rows; give one row for every finished run")
    return table


def _text(path: Path) -> str:
    packed = path.read_bytes()
    raw = gzip.decompress(packed) if path.name.lower().endswith(".gz") else packed
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as broken:
        raise ConfigError(
            f"{path}: not UTF-8 text (byte {broken.start}); save it as UTF-8"
        ) from None
    if not text.strip():
        raise ConfigError(f"{path}: is empty; give a table with one row for every finished run")
    return text


def _read_csv(path: Path) -> TableFile:
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True, skipinitialspace=True)
    rows: list[tuple[int, list[str]]] = []
    line = 1
    try:
        for cells in reader:
            if cells:  # a blank line is no row
                rows.append((line, [cell.strip() for cell in cells]))
            line = reader.line_num + 1
    except csv.Error as broken:
        raise ConfigError(f"{path}, line {line}: not CSV: {broken}") from None
    (_, names), *body = rows
    for mark in (";", "\t"):
        if len(names) == 1 and mark in names[0]:
            raise ConfigError(f"{path}: columns are separated by {mark!r}; separate them by commas")
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise ConfigError(f"{path}: column {twice[0]!r} stands twice in the header; rename one")
    for line, cells in body:
        if len(cells) != len(names):
            raise ConfigError(
                f"{path}, line {line}: {len(cells)} cells where the header has {len(names)}; a "
                'text that holds a comma is written in quotes, "a,b"'
            )
    columns = zip(names, zip(*(cells for _, cells in body), strict=True), strict=False)
    return TableFile(
        path=path,
        columns={name: values for name, values in columns if name},  # pandas leaves its index bare
        places=[f"line {line}" for line, _ in body],
    )


def _read_jsonl(path: Path) -> TableFile:
    rows: list[dict[str, object]] = []
    places = []
    for line, text in enumerate(_text(path).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as broken:
            raise ConfigError(f"{path}, line {line}: not JSON: {broken}") from None
        if not isinstance(row, dict):
            raise ConfigError(
                f"{path}, line {line}: not a JSON object; write each run as one, for example "
                '{"params": 1e6, "tokens": 2e7, "loss": 3.1}'
            )
        rows.append(row)
        places.append(f"line {line}")
    return TableFile(path=path, columns=_by_column(rows), places=places)


def _by_column(rows: Iterable[dict[str, object]]) -> dict[str, list[object]]:
    kept = list(rows)
    names = dict.fromkeys(name for row in kept for name in row)
    return {name: [row.get(name) for row in kept] for name in names}


def _read_parquet(path: Path) -> TableFile:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    if path.stat().st_size == 0:
        raise ConfigError(f"{path}: is empty; give a table with one row for every finished run")
    try:
        found = pyarrow.parquet.read_table(path)
        columns = {str(name): values for name, values in found.to_pydict().items()}
    except (pyarrow.ArrowException, ValueError) as broken:
        raise ConfigError(f"{path}: not a Parquet table: {broken}") from None
    return TableFile(
        path=path, columns=columns, places=[f"row {row}" for row in range(1, found.num_rows + 1)]
    )
