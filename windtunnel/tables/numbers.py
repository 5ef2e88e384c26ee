"""Numbers as people and spreadsheets write them: 10,000,000 or 1.234,5 or 1.3B.

The decimal sign is decided once for a file, from cells that allow only one reading: `1.5` and
`10,000,000` have a decimal point, `6,25` and `10.000.000` a decimal comma. If the file holds cells
of both kinds, or none that decides, ambiguous cells stay text and are refused with their line. A
warning names every column that is read in another spelling.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from windtunnel.errors import ConfigError, Diagnostic
from windtunnel.laws import conditions
from windtunnel.quantities import UNITS
from windtunnel.tables.file import TableFile

COUNTS = frozenset(
    {
        "params",
        "tokens",
        "flops",
        "flops_exact",
        "unique_tokens",
        "sunk_tokens",
        "batch_tokens",
        "x",
        "y",
        "z",
    }
)
"""Laws' columns whose cells may end in a suffix such as 125M."""
NUMBERS = COUNTS | {"loss", "lr", "score", "epochs", "experts"}

_EXPONENT = r"(?:[eE][+-]?\d+)?"
_GROUPS = r"[+-]?[1-9]\d{{0,2}}(?:{0}\d{{3}})+"
_POINT = re.compile(rf"(?:[+-]?\d*|{_GROUPS.format(',')})(?:\.\d*)?{_EXPONENT}")
_COMMA = re.compile(rf"(?:[+-]?\d*|{_GROUPS.format('[.]')})(?:,\d*)?{_EXPONENT}")
# A space of any width, an apostrophe or an underscore groups digits.
_NEUTRAL = re.compile(_GROUPS.format("[_' \u2019\u00a0\u202f\u2009]") + r"(?=$|[.,])")
_UNIT = re.compile(r"(?P<number>.*[\d.,])\s*(?P<unit>[kKmMbBgGtT])")


def as_numbers(file: TableFile, names: Mapping[str, str]) -> TableFile:
    """The file with the laws' columns as numbers in any supported spelling.

    `names` are the file's columns by the laws' names.
    """
    columns = {
        column: name in COUNTS
        for name, column in names.items()
        if name in NUMBERS or name.startswith(("loss_", "weight_"))
    }
    cells = [
        _ungrouped(cell, counts=counts)[0]
        for column, counts in columns.items()
        for cell in file.columns[column]
        if isinstance(cell, str)
    ]
    comma = _decimal_comma(cells)
    _refuse_both_readings(file, columns, cells, comma=comma)
    out, examples = dict(file.columns), dict[str, str]()
    for column, counts in columns.items():
        raw = file.columns[column]
        values, example = _column(raw, counts=counts, comma=None if _both_signs(raw) else comma)
        if example is not None:
            out[column] = values
            examples[column] = example
    if not examples:
        return file
    shown = ", ".join(f"{column!r} (such as {example})" for column, example in examples.items())
    diagnostic = Diagnostic(
        "number-format",
        f"numbers of {shown} are read from another spelling than 3.2e6"
        + (": the decimal sign of this file is a comma" if comma else ""),
        examples=examples,
    )
    return replace(file, columns=out, diagnostics=(*file.diagnostics, diagnostic))


def _refuse_both_readings(
    file: TableFile, columns: Mapping[str, bool], cells: Sequence[str], *, comma: bool | None
) -> None:
    """Refuse a loss or rate of `2.345` in a file where the point groups digits, and the reverse.

    No such number is in the thousands, so the columns more likely use different signs.
    """
    if comma is None:
        return
    sign, other, word = (".", ",", "point") if comma else (",", ".", "comma")
    says = next(cell for cell in cells if set(_votes([cell])) == {comma})
    for column, counts in columns.items():
        if counts or _both_signs(file.columns[column]):
            continue
        for cell, place in zip(file.columns[column], file.places, strict=True):
            if not isinstance(cell, str):
                continue
            if re.fullmatch(rf"[+-]?[1-9]\d{{0,2}}\{sign}\d{{3}}", cell.strip()):
                raise ConfigError(
                    "ambiguous-number",
                    f"{file.path}, {place}, column {column!r}: {cell!r} would be "
                    f"{cell.strip().replace(sign, '')}, as {says!r} says that in this file a "
                    f"{word} groups digits: write {cell.strip().replace(sign, other)!r} there, or "
                    "take the groups out of the other columns",
                    path=file.path,
                    place=place,
                    column=column,
                    cell=cell,
                    read_as=cell.strip().replace(sign, ""),
                )


def _both_signs(cells: Sequence[object]) -> bool:
    """Whether `1.234` and `2,5` occur in one column, where one of the two is a mistake."""
    texts = [cell for cell in cells if isinstance(cell, str)]
    points = any("." in text and "," not in text for text in texts)
    return points and any("," in text and "." not in text for text in texts)


def _column(
    cells: Sequence[object], *, counts: bool, comma: bool | None
) -> tuple[list[object], str | None]:
    """Cells with other spellings read as numbers, and the first one with a word."""
    out: list[object] = []
    changed = None
    for cell in cells:
        value = _value(cell, counts=counts, comma=comma) if isinstance(cell, str) else None
        if value is not None and value != conditions.number(str(cell)):
            changed = changed or f"{cell} = {value:.15g}"
            out.append(value)
        else:
            out.append(cell)
    return out, changed


def _value(cell: str, *, counts: bool, comma: bool | None) -> float | None:
    text, unit = _ungrouped(cell, counts=counts)
    plain = None
    if comma and _COMMA.fullmatch(text):
        plain = conditions.number(text.replace(".", "").replace(",", "."))
    elif comma is False and _POINT.fullmatch(text):
        plain = conditions.number(text.replace(",", ""))
    elif comma is None and "," not in text:
        plain = conditions.number(text)
    if plain is None or unit == 1:
        return plain
    return float(f"{plain * unit:.15g}")  # so that 0.07B is exactly 7e7 parameters


def _ungrouped(cell: str, *, counts: bool) -> tuple[str, float]:
    """The cell without its suffix and its group signs, and the suffix."""
    text, unit = cell.strip(), 1.0
    if counts and (found := _UNIT.fullmatch(text)):
        text, unit = found["number"], UNITS[found["unit"].lower()]
    if grouped := _NEUTRAL.match(text):
        text = re.sub(r"[^\d+-]", "", grouped[0]) + text[grouped.end() :]
    return text, unit


def _decimal_comma(cells: Sequence[str]) -> bool | None:
    """Whether a comma is the decimal sign; None if no cell decides, or cells disagree."""
    votes = set(_votes(cells))
    return votes.pop() if len(votes) == 1 else None


def _votes(cells: Sequence[str]) -> Iterator[bool]:
    for cell in cells:
        if not re.search(r"\d[.,]|[.,]\d", cell):
            continue
        point, comma = bool(_POINT.fullmatch(cell)), bool(_COMMA.fullmatch(cell))
        if point != comma:
            yield comma
