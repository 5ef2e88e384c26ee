"""Tables in text with separators: commas, or the separators of Excel and trackers."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from windtunnel.errors import ConfigError, Diagnostic, boundary
from windtunnel.laws import conditions
from windtunnel.tables.file import TableFile

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_SEP_LINE = re.compile(r"[\"']?sep=(?P<separator>[^\r\n]?)[\"']?", re.IGNORECASE)
Row = tuple[int, list[str]]
"""The first line of a row, and its cells."""


def read_csv(path: Path, text: str) -> TableFile:
    """The table in a text with cells separated by commas, semicolons or tabs.

    A warning names every difference from plain CSV: another separator, Excel's line `sep=;`,
    comment lines that begin with `#`.

    Raises:
        ConfigError: No separator fits, or a row is ragged.
    """
    notes = []
    first, *rest = re.split(r"(?<=\n)|(?<=\r)(?!\n)", text, maxsplit=1)
    separator = None
    if stated := _SEP_LINE.fullmatch(first.strip()):
        separator = stated["separator"] or ","
        text = "".join(("\n", *rest))  # line numbers are those of the file
        notes.append(f"its first line says {first.strip()}")
    if separator is None:
        separator = _separator(path, text)
        usual = "\t" if ".tsv" in path.name.lower() else ","
        if separator != usual:
            notes.append(f"its columns are separated by {SEPARATORS[separator]}")
    (line, names), body, comments = _without_comments(_rows(path, text, separator))
    if comments:
        notes.append(f"lines that begin with # are left out as comments: {comments}")
    if re.match(r"#\s*\S", names[0]):
        names = [names[0].lstrip("# "), *names[1:]]
        notes.append("its header begins with #")
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise ConfigError(
            "duplicate-column",
            f"{path}: column {twice[0]!r} occurs twice in the header; rename one",
            path=path,
            column=twice[0],
        )
    _refuse_quoted_lines(path, names, body)
    if len(names) == 1 and (len(names[0].split()) > 1 or "|" in names[0]):
        _refuse_other_separators(path, names[0], body)
    for line, cells in body:
        if len(cells) != len(names):
            raise ConfigError(
                "ragged-row",
                f"{path}, line {line}: {len(cells)} cells where the header has {len(names)}; a "
                'text that holds a comma is written in quotes, "a,b"',
                path=path,
                line=line,
                cells=len(cells),
                columns=len(names),
            )
    unnamed = [k for k, name in enumerate(names) if k and not name]
    if any(cells[k] for k in unnamed for _, cells in body):
        which = ", ".join(str(k + 1) for k in unnamed)
        notes.append(f"columns without a name are left out: {which}")
    columns = zip(names, zip(*(cells for _, cells in body), strict=True), strict=False)
    diagnostics = [Diagnostic("table-format", f"{path.name}: {note}", path=path) for note in notes]
    return TableFile(
        path=path,
        columns={
            name: values for name, values in columns if name
        },  # pandas gives its index no name
        places=[f"line {line}" for line, _ in body],
        diagnostics=tuple(diagnostics),
    )


def _separator(path: Path, text: str) -> str:
    """The separator that gives all rows as many cells as the header; a comma if none does."""
    fits: dict[str, int] = {}
    for separator in SEPARATORS:
        try:
            header, body, _ = _without_comments(_rows(path, text, separator))
        except ConfigError:  # raised again when the chosen separator is read
            continue
        width = len(header[1])
        if width > 1 and all(len(cells) == width for _, cells in body):
            fits[separator] = width
    if len(fits) > 1:
        separators = [SEPARATORS[each] for each in fits]
        raise ConfigError(
            "ambiguous-separator",
            f"{path}: it splits into whole rows by {' and '.join(separators)} alike; save it with "
            "commas alone",
            path=path,
            separators=separators,
        )
    return next(iter(fits), None) or _of_header(text)


def _of_header(text: str) -> str:
    """The commonest separator of the first line, which the message about a ragged row names."""
    lines = [line for line in text.splitlines() if line.strip()]
    line = next((line for line in lines if not line.startswith("#")), lines[0] if lines else "")
    return max(SEPARATORS, key=line.count)


def _rows(path: Path, text: str, separator: str) -> list[Row]:
    rows: list[Row] = []
    line, longest = 1, csv.field_size_limit(max(len(text), 131_072))

    def where() -> str:
        return f"{path}, line {line}"

    try:
        with boundary(where, "close every quote", ConfigError, what="not CSV", code="not-csv"):
            reader = csv.reader(
                io.StringIO(text, newline=""),
                strict=True,
                skipinitialspace=True,
                delimiter=separator,
            )
            for cells in reader:
                if any(cells) or len(cells) > 1:  # blank line
                    rows.append((line, [cell.strip() for cell in cells]))
                line = reader.line_num + 1
    finally:
        csv.field_size_limit(longest)
    if not rows:
        raise ConfigError(
            "too-few-rows",
            f"{path}: has no rows; give one row for every finished run",
            path=path,
            rows=0,
        )
    return rows


def _without_comments(rows: Sequence[Row]) -> tuple[Row, list[Row], int]:
    """The header, the rows below it, and the number of comment lines that begin with `#`.

    A header may begin with `#` itself, as numpy writes it: then it has as many cells as the row of
    numbers after it. So may every row, if `#` belongs to a name.
    """
    top = next((k for k, (_, cells) in enumerate(rows) if not cells[0].startswith("#")), len(rows))
    if top and _is_header(rows[top - 1], rows[top : top + 1]):
        top -= 1
    if top == len(rows):
        top = 0
    header, *body = rows[top:]
    marked = [cells[0].startswith("#") for _, cells in body]
    if not all(marked):
        body = [row for row, comment in zip(body, marked, strict=True) if not comment]
    return header, body, top + (0 if all(marked) else sum(marked))


def _is_header(row: Row, below: Sequence[Row]) -> bool:
    if not below or len(row[1]) < 2 or len(row[1]) != len(below[0][1]):
        return False
    return any(conditions.number(cell) is not None for cell in below[0][1])


def _refuse_quoted_lines(path: Path, names: Sequence[str], body: Sequence[Row]) -> None:
    """Refuse lines that are quoted as a whole, which makes each a single cell."""
    for separator in SEPARATORS:
        width = max(len(names), len(names[0].split(separator)) if len(names) == 1 else 0)
        whole = [line for line, cells in body if len(cells) == 1
                 and len(cells[0].split(separator)) == width]  # fmt: skip
        if len(names) == 1 < width and all(len(cells) == width for _, cells in body):
            raise ConfigError(
                "quoted-lines",
                f"{path}: the whole header is quoted, which makes it one cell: remove the quotes",
                path=path,
            )
        if width > 1 and whole and len(whole) == len(body):
            raise ConfigError(
                "quoted-lines",
                f"{path}, line {whole[0]}: the whole line is quoted, which makes it one cell: "
                "remove the quotes around whole lines",
                path=path,
                line=whole[0],
            )


def _refuse_other_separators(path: Path, header: str, body: Sequence[Row]) -> None:
    """Refuse a header of several words over rows of as many, separated by spaces or bars."""
    for name, parts in (("bars", header.split("|")), ("spaces", header.split())):
        if len(parts) > 1 and all(
            len(cells[0].split("|" if name == "bars" else None)) == len(parts) for _, cells in body
        ):
            raise ConfigError(
                "unknown-separator",
                f"{path}: columns are separated by {name}; separate them by commas",
                path=path,
                separator=name,
            )
