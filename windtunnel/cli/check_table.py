"""Cells to numbers, and the questions asked of a column before a law sees it."""

import math
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from windtunnel.cli.table_file import TableFile
from windtunnel.errors import ConfigError
from windtunnel.laws import conditions

Floats = NDArray[np.float64]

MISSING = frozenset({"", "nan", "na", "n/a", "<na>", "#n/a", "null", "none"})
INFINITE = frozenset({"inf", "infinity"})
POSITIVE = frozenset(
    {"params", "tokens", "loss", "flops", "flops_exact", "lr", "batch_tokens", "unique_tokens"}
)
# Assumed: no run that a law is fitted to is smaller than these, so a smaller column has a unit.
SMALLEST_MEDIAN = 1000
SMALLEST_MAX = 1e4
SMALLEST_MAX_FLOPS = 1e6
# Derived: guessing among a vocabulary of 4e8 costs 20 nats.
LARGEST_MEDIAN_LOSS = 20


def is_missing(cell: object) -> bool:
    """Whether a cell holds no value: empty, null, NaN, or a word for it such as `NA`."""
    if isinstance(cell, str):
        return cell.strip().lower() in MISSING
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def number(cell: object) -> float | None:
    """A cell as a number, infinite ones included; None for a missing cell, a truth or a text."""
    if isinstance(cell, str):
        if cell.strip().lower().lstrip("+-") in INFINITE:
            return -math.inf if cell.strip().startswith("-") else math.inf
        return conditions.number(cell)
    if isinstance(cell, bool) or not isinstance(cell, (int, float, Decimal)) or is_missing(cell):
        return None
    try:
        return float(cell)
    except OverflowError:
        return math.inf


def floats(cells: Sequence[object]) -> Floats:
    """A column as numbers, NaN where a cell is none."""
    found = (number(cell) for cell in cells)
    return np.array([math.nan if value is None else value for value in found], np.float64)


def column_for_condition(cells: Sequence[object]) -> Floats | NDArray[np.str_]:
    """Numbers where every cell that is not missing is one, otherwise the text of the cells."""
    numbers = floats(cells)
    if all(is_missing(cells[row]) for row in np.flatnonzero(np.isnan(numbers)).tolist()):
        return numbers
    return np.array([label(cell) for cell in cells], np.str_)


def label(cell: object) -> str:
    """A cell as a label: the empty text for None and NaN."""
    text = "" if cell is None else str(cell).strip()
    return "" if isinstance(cell, float) and math.isnan(cell) else text


def checked(name: str, column: str, table: TableFile, kept: NDArray[np.bool_]) -> Floats:
    """The numbers of a column in the rows kept, where no cell is missing.

    Raises:
        ConfigError: A cell is text, infinite or out of range, or the unit cannot be right.
    """
    cells = table.columns[column]
    values = floats(cells)[kept]
    for row, value in zip(np.flatnonzero(kept).tolist(), values, strict=True):
        if not math.isfinite(value):
            wanted = _how_to_write(cells[row])
        elif name in POSITIVE and value <= 0:
            wanted = (
                f"allowed for {name} are numbers above 0; correct the row or exclude it: --where"
            )
        else:
            continue
        raise ConfigError(
            f"{table.path}, {table.places[row]}, column {column!r}: {_shown(cells[row])}: {wanted}"
        )
    if complaint := _wrong_unit(name, values):
        raise ConfigError(f"{table.path}: column {column!r} {complaint}")
    return values


def _shown(cell: object) -> str:
    return repr(cell) if isinstance(cell, str) and number(cell) is None else str(cell)


def _how_to_write(cell: object) -> str:
    if number(cell) is not None:
        return "not finite; allowed are finite numbers; exclude the row (--where) or leave it empty"
    if isinstance(cell, str) and "," in cell:
        return "not a number; write a decimal point, and no comma: 2.5 or 1000000"
    return "not a number; write it like 3.2e6, and leave the cell empty if it is not known"


def _wrong_unit(name: str, values: Floats) -> str:
    low, high, middle = float(values.min()), float(values.max()), float(np.median(values))
    span = f"runs from {low:.4g} to {high:.4g}"
    small = middle < SMALLEST_MEDIAN or (high < SMALLEST_MAX and bool(np.any(values % 1)))
    if name == "params" and small:
        unit, factor = ("millions", 6) if low >= 1 and middle >= 10 else ("billions", 9)
        other = f"1e{15 - factor} if {'billions' if factor == 6 else 'millions'}"
        return (
            f"{span}: looks like {unit} of parameters, and a law takes parameters: multiply it by "
            f"1e{factor} with --scale params=1e{factor} ({other})"
        )
    if name == "tokens" and small:
        return (
            f"{span}: looks like millions or billions of tokens, and a law takes tokens: multiply "
            "it by 1e9 with --scale tokens=1e9 (1e6 if millions)"
        )
    if name in {"flops", "flops_exact"} and high < SMALLEST_MAX_FLOPS:
        return (
            f"{span}: looks like a multiple of FLOPs, and a law takes FLOPs: multiply it by its "
            f"unit, for example --scale {name}=1e18 for exaFLOPs or 8.64e19 for petaFLOP/s-days"
        )
    if name == "loss" and middle > LARGEST_MEDIAN_LOSS:
        return (
            f"{span}, median {middle:.4g}: looks like per cent or perplexity: give nats per token "
            "(of a perplexity, its natural logarithm)"
        )
    return ""
