"""Cells as numbers, and the checks of a column before a law reads it."""

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from windtunnel.errors import ConfigError
from windtunnel.laws import conditions
from windtunnel.laws.table import Floats, camel_apart
from windtunnel.laws.table_warnings import likely_scale, written
from windtunnel.tables.file import TableFile

MISSING = frozenset({"", "nan", "na", "n/a", "<na>", "#n/a", "null", "none"})
INFINITE = frozenset({"inf", "infinity"})
POSITIVE = frozenset(
    {"params", "tokens", "loss", "flops", "flops_exact", "lr", "batch_tokens", "unique_tokens"}
)
# Assumed: no fitted run is smaller than these, so a smaller column has a unit.
SMALLEST_MEDIAN = 1000
SMALLEST_MAX = 1e4
SMALLEST_MAX_FLOPS = 1e6
LONGEST_CELL = 80
"""Characters of a cell that a message quotes, because a cell may hold a whole configuration."""
UNITS = {1e3: "thousands", 1e6: "millions", 1e9: "billions"}
# Derived: guessing among a vocabulary of 4e8 costs 20 nats.
LARGEST_MEDIAN_LOSS = 20
# Assumed: where logarithms of what runs have lie, by base: 1e4 to 1e14 parameters or tokens, 1e12
# to 1e30 FLOPs.
LOGARITHMS: dict[str, dict[float, tuple[float, float]]] = {
    "counts": {10.0: (4, 14), math.e: (11, 33)},
    "flops": {10.0: (12, 30), math.e: (28, 70)},
}
FEWEST_LOGARITHMS = 3
"""Distinct values; fewer may be a few sizes in billions."""
# From 20 tokens per parameter and C = 6ND.
MAX_DECADES_OFF = 3.0


def is_missing(cell: object) -> bool:
    """Whether a cell has no value: empty, null, NaN, or a word such as `NA`."""
    if isinstance(cell, str):
        return cell.strip().lower() in MISSING
    return cell is None or (isinstance(cell, (float, Decimal)) and math.isnan(cell))


def number(cell: object) -> float | None:
    """A cell as a number, infinite ones included; None for a missing cell, a boolean or a text."""
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
    """A column as numbers, NaN where a cell is not a number."""
    numbers = (number(cell) for cell in cells)
    return np.array([math.nan if value is None else value for value in numbers], np.float64)


def column_for_condition(cells: Sequence[object]) -> Floats | NDArray[np.str_]:
    """Numbers if every present cell is one, otherwise the text of the cells."""
    numbers = floats(cells)
    if all(is_missing(cells[row]) for row in np.flatnonzero(np.isnan(numbers)).tolist()):
        return numbers
    return np.array([label(cell) for cell in cells], np.str_)


def label(cell: object) -> str:
    """A cell as a label: the empty text for None and NaN."""
    text = "" if cell is None else str(cell).strip()
    return "" if isinstance(cell, float) and math.isnan(cell) else text


def is_perplexity(column: str) -> bool:
    """Whether a column's name means perplexity, and not its logarithm."""
    for name in (column.lower(), camel_apart(column)):
        if re.search(r"(?<![a-z])(?:log|ln)[_ (-]*(?:ppl|perplex)", name):
            return False
    pattern = r"perplex|(?<![a-z])ppl|ppl[sx]?(?![a-z])"
    return any(re.search(pattern, name) for name in (column.lower(), camel_apart(column)))


def checked(
    name: str,
    column: str,
    table: TableFile,
    kept: NDArray[np.bool_],
    *,
    names: Mapping[str, str] = MappingProxyType({}),
    scale: Mapping[str, float] = MappingProxyType({}),
) -> Floats:
    """Numbers of a column in the kept rows, without missing cells.

    Args:
        name: The law's name of the column.
        column: The column's name in the file.
        table: The file.
        kept: The rows to read.
        names: The file's columns by the laws' names; params and tokens decide units together.
        scale: Factors, by either name, that were already applied to the table.

    Raises:
        ConfigError: A cell is text, infinite or out of range, or the unit cannot be right.
    """
    cells = table.columns[column]
    if name.startswith("loss") and is_perplexity(column):
        raise ConfigError(
            "perplexity-column",
            f"{table.path}: column {column!r} is a perplexity by its name, and a law takes nats "
            "per token: add a column of its natural logarithm and name that one",
            path=table.path,
            column=column,
        )
    values = floats(cells)[kept]
    for row, value in zip(np.flatnonzero(kept).tolist(), values, strict=True):
        if not math.isfinite(value):
            code, wanted = _how_to_write(cells[row])
        elif name in POSITIVE and value <= 0:
            code, wanted = "out-of-range", _how_to_be_positive(name, values)
        else:
            continue
        place, shown = table.places[row], _shown(cells[row])
        raise ConfigError(
            code,
            f"{table.path}, {place}, column {column!r}: {shown}: {wanted}",
            path=table.path,
            place=place,
            column=column,
            cell=cells[row] if isinstance(cells[row], str) or math.isfinite(value) else shown,
        )
    pair = {each: names[each] for each in ("params", "tokens") if each in names}
    beside = {each: floats(table.columns[own])[kept] for each, own in pair.items()}
    given = {each: scale.get(each, 1.0) for each in ("params", "tokens")}
    given |= {each: given[each] * scale[own] for each, own in pair.items()
              if own != each and own in scale}  # fmt: skip
    if wrong := _wrong_unit(name, values, beside, given):
        low, high = float(values.min()), float(values.max())
        raise ConfigError(
            wrong.code,
            f"{table.path}: column {column!r} runs from {low:.4g} to {high:.4g}{wrong.text}",
            path=table.path,
            column=column,
            range=[low, high],
            **wrong.values,
        )
    return values


class _WrongUnit(NamedTuple):
    """Evidence that the unit of a column is wrong: a code, the end of a sentence, its values."""

    code: str
    text: str
    values: Mapping[str, object] = MappingProxyType({})


def _shown(cell: object) -> str:
    text = repr(cell) if isinstance(cell, str) and number(cell) is None else str(cell)
    return text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}..."


def _how_to_write(cell: object) -> tuple[str, str]:
    """Code and advice for a cell that is not a finite number."""
    if number(cell) is not None:
        return "not-finite", (
            "not finite; allowed are finite numbers; exclude the row (--where) or leave it empty"
        )
    if isinstance(cell, str) and "," in cell:
        advice = "write a decimal point, and no comma: 2.5 or 1000000"
    else:
        advice = "write it like 3.2e6, and leave the cell empty if it is not known"
    return "not-a-number", f"not a number; {advice}"


def _how_to_be_positive(name: str, values: Floats) -> str:
    advice = f"allowed for {name} are numbers above 0; correct the row or exclude it: --where"
    if np.all(values < 0):
        advice += ". All are below 0: of logarithms, add a column of 10^x (or e^x)"
    return advice


def _wrong_unit(
    name: str, values: Floats, beside: Mapping[str, Floats], given: Mapping[str, float]
) -> _WrongUnit | None:
    """The error in a column's unit, judged by its numbers; None if they look right."""
    high, middle = float(values.max()), float(np.median(values))
    small = middle < SMALLEST_MEDIAN or (high < SMALLEST_MAX and bool(np.any(values % 1)))
    if logarithm := _logarithm(name, values, beside):
        return logarithm
    if name in {"params", "tokens"} and small:
        return _count_unit(name, values, beside, given)
    if name in {"flops", "flops_exact"} and high < SMALLEST_MAX_FLOPS:
        return _WrongUnit(
            "wrong-unit",
            ": looks like a multiple of FLOPs, and a law takes FLOPs: multiply it by its unit, "
            f"for example --scale {name}=1e18 for exaFLOPs or 8.64e19 for petaFLOP/s-days",
        )
    if name == "loss" and middle > LARGEST_MEDIAN_LOSS:
        return _WrongUnit(
            "wrong-unit",
            f", median {middle:.4g}: looks like per cent or perplexity: give nats per token (of a "
            "perplexity, its natural logarithm)",
            {"median": middle},
        )
    return None


def _logarithm(name: str, values: Floats, beside: Mapping[str, Floats]) -> _WrongUnit | None:
    """The error and fix for a column of logarithms; None if it looks like none.

    No scaling study varies sizes or budgets by less than a factor of three. So numbers this close
    together are exponents, if their powers fit the other columns.
    """
    kind = "flops" if name.startswith("flops") else "counts"
    base = next((base for base in LOGARITHMS[kind] if _is_logarithm(name, values, base)), None)
    if base is None or name not in {"params", "tokens", "flops", "flops_exact"}:
        return None
    varied = (
        [values]
        if kind == "flops"
        else [values, *(each for own, each in beside.items() if _is_logarithm(own, each, base))]
    )
    if max(np.unique(each).size for each in varied) < FEWEST_LOGARITHMS:
        return None
    raised = base**values
    if len(beside) == 2:
        counts = {}
        for each, column in beside.items():
            also = _is_logarithm(each, column, base)
            counts[each] = base**column if also else column
            if not also and each != name and np.median(column) < SMALLEST_MEDIAN:
                return None
        if kind == "flops":
            off = np.log10(raised / (6 * counts["params"] * counts["tokens"]))
        else:
            off = np.log10(counts["tokens"] / counts["params"]) - np.log10(20)
        if not np.median(np.abs(off)) < MAX_DECADES_OFF:
            return None
    sign, power = ("log10", "10^x") if base == 10 else ("ln", "e^x")
    what = {"params": "parameters", "tokens": "tokens"}.get(name, "FLOPs")
    return _WrongUnit(
        "logarithm-column",
        f": looks like {sign} of {what}, and a law takes {what}: add a column of {power} and name "
        f"that one (if they are not logarithms: --scale {name}=FACTOR)",
        {"base": base},
    )


def _is_logarithm(name: str, values: Floats, base: float) -> bool:
    low, high = LOGARITHMS["flops" if name.startswith("flops") else "counts"][base]
    smallest, largest = float(values.min()), float(values.max())
    return low <= smallest and largest <= high and largest < 2.5 * smallest


def _count_unit(
    name: str, values: Floats, beside: Mapping[str, Floats], given: Mapping[str, float]
) -> _WrongUnit:
    """The likely unit of a column of params or tokens, judged with the other one if known."""
    in_millions = values.min() >= 1 and np.median(values) >= 10 and name == "params"
    factors = {name: 1e6 if in_millions else 1e9}
    if len(beside) == 2 and name in (likely := likely_scale(**beside) or {}):
        factors = dict(likely)
    by = factors[name]
    other = 1e9 if by == 1e6 else 1e6
    scale = {each: to * given[each] for each, to in factors.items()}
    options = (f"--scale {each}={written(to)}" for each, to in scale.items())
    what = "parameters" if name == "params" else "tokens"
    return _WrongUnit(
        "wrong-unit",
        f": looks like {UNITS[by]} of {what}, and a law takes {what}: multiply it by {written(by)} "
        f"with {' '.join(options)} ({written(other * given[name])} if {UNITS[other]})",
        {"scale": scale},
    )
