"""How often prediction intervals hold on real tables: hold out the top, fit the rest, compare.

    python analysis/real_coverage.py FOLDER_OR_TABLE ... --law auto --law chinchilla

Every table is a CSV with the columns params, tokens and loss (or N, D, loss), and trunk if
`--trunk` asks for it. The top 3, 10 and 30 times of compute and 2, 4 and 8 times of size are held
out in turn, where at least 9 rows of 3 sizes stay. Printed are the share of all held-out runs
inside their 90% intervals, the mean error over hold-outs, and the median half-width over them.
"""

import argparse
import csv
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from windtunnel.errors import FitError
from windtunnel.laws import Table, fit

TOPS = {"compute": (3, 10, 30), "size": (2, 4, 8)}
MIN_ROWS, MIN_SIZES = 9, 3
NAMES = {"params": ("params", "N"), "tokens": ("tokens", "D"), "loss": ("loss",)}
LAWS = ("auto", "coupled", "chinchilla")


@dataclass(frozen=True)
class Result:
    """One hold-out of one table under one law; shares and relative errors."""

    table: str
    axis: str
    factor: int
    law: str
    rows: int
    inside: int
    error: float
    half_width: float


def read(path: Path, *, with_trunk: bool) -> Table:
    """The table of a file."""
    with path.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    columns = {}
    for name, spellings in NAMES.items():
        (column,) = (each for each in spellings if each in rows[0])
        columns[name] = [float(row[column]) for row in rows]
    has_trunk = with_trunk and "trunk" in rows[0]
    return Table(columns, trunk=[row["trunk"] for row in rows] if has_trunk else None)


def hold_outs(table: Table) -> Iterator[tuple[str, int, NDArray[np.bool_]]]:
    """Axis, factor, and the rows that are held out; whole trunks."""
    for axis, values in (("compute", table.budget), ("size", table.params)):
        for factor in TOPS[axis]:
            top = values > values.max() / factor * (1 + 1e-9)
            held = np.isin(table.trunk_index, table.trunk_index[top])
            kept = np.unique(np.round(np.log(table.params[~held]), 2))
            if (~held).sum() >= MIN_ROWS and kept.size >= MIN_SIZES:
                yield axis, factor, held


def score(
    name: str, table: Table, law: str, hold_out: tuple[str, int, NDArray[np.bool_]]
) -> Result:
    """Fit the rest and predict the rows that are held out."""
    axis, factor, held = hold_out
    rest, top = table.subset(~held), table.subset(held)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = fit(rest, law, holdout=None)
    found = [
        fitted.predict(params, tokens)
        for params, tokens in zip(top.params, top.tokens, strict=True)
    ]
    values, low, high = np.array([(each.value, each.low, each.high) for each in found]).T
    return Result(
        table=name,
        axis=axis,
        factor=factor,
        law=law,
        rows=top.rows,
        inside=int(np.sum((low <= top.loss) & (top.loss <= high))),
        error=float(np.mean(np.abs(values / top.loss - 1))),
        half_width=float(np.median((high - low) / 2 / values)),
    )


def say(line: str) -> None:
    """One line of the output."""
    sys.stdout.write(line + "\n")


def show(found: list[Result]) -> None:
    """Pooled and by table, for each law and axis."""
    groups = defaultdict(list)
    for each in found:
        groups[each.law, each.axis, "all"].append(each)
        groups[each.law, each.axis, each.table].append(each)
    say(f"{'law':12}{'held out by':12}{'table':34}{'n':>4}{'inside':>8}{'error':>8}{'half':>8}")
    for (law, axis, table), results in sorted(groups.items()):
        inside = sum(each.inside for each in results) / sum(each.rows for each in results)
        error = np.mean([each.error for each in results])
        half = np.median([each.half_width for each in results])
        say(f"{law:12}{axis:12}{table:34}{len(results):4}{inside:8.0%}{error:8.2%}{half:8.2%}")


def main() -> None:
    """Read the tables, try every law on every hold-out, and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="+", type=Path)
    parser.add_argument("--law", action="append", choices=LAWS)
    parser.add_argument("--trunk", action="store_true")
    options = parser.parse_args()
    paths = [path for given in options.tables for path in (sorted(given.glob("*.csv")) or [given])]
    found = []
    for path in paths:
        table = read(path, with_trunk=options.trunk)
        for hold_out in hold_outs(table):
            axis, factor, _ = hold_out
            for law in options.law or LAWS:
                try:
                    found.append(score(path.stem, table, law, hold_out))
                except FitError as refused:
                    say(f"{path.stem}, {axis} {factor}x, {law}: {refused} [{refused.code}]")
    show(found)


if __name__ == "__main__":
    main()
