"""Reading a table of runs from any file: named columns, selected rows, checked numbers.

The order of the steps is fixed, and the table records every step. Units are scaled, conditions
select rows, and unfinished runs and incomplete rows are dropped. The remaining cells are checked,
columns that follow from C = k N D are derived, and the highest losses are dropped if requested.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from windtunnel.errors import ColumnError, ConfigError, Diagnostic
from windtunnel.laws.conditions import Condition, whole_trunks
from windtunnel.laws.table import COPYING, Table
from windtunnel.tables.check import checked
from windtunnel.tables.columns import (
    derive,
    find_columns,
    flop_factor,
    formula,
    plan_columns,
    scaled,
)
from windtunnel.tables.file import TableFile
from windtunnel.tables.formats import read_file
from windtunnel.tables.numbers import as_numbers
from windtunnel.tables.select import LABELS, Selection, trunk_diagnostics
from windtunnel.tables.warnings import of_curves, of_experts, of_repetition, run_column

OF_DATA = ("unique_tokens", "epochs")
"""Columns that show whether tokens are fresh."""


class ReadTable(NamedTuple):
    """A table, its warnings, and the rows to hold out or the option's word for them.

    `inputs` identifies the study and the runs (`Fit.inputs`); empty for a file.
    """

    table: Table
    diagnostics: tuple[Diagnostic, ...]
    holdout: NDArray[np.bool_] | Literal["largest"] | None
    inputs: Mapping[str, str] = MappingProxyType({})


def numbers_of(file: TableFile, names: Mapping[str, str], scale: Mapping[str, float]) -> TableFile:
    """Cells as numbers, in units of one."""
    return scaled(as_numbers(file, names), names, scale)


def read_table(
    source: Path | TableFile,
    *,
    columns: Mapping[str, str],
    needs: Sequence[str],
    optional: Sequence[str] = (),
    where: Sequence[str] = (),
    drop_highest: int = 0,
    flop_rule: str = "6ND",
    decayed_only: bool = False,
    holdout: str = "largest",
    scale: Mapping[str, float] = MappingProxyType({}),
    others: bool = False,
    categories: Sequence[str] = (),
) -> ReadTable:
    """The table that a law is fitted to, with warnings about how it was read.

    Args:
        source: A file with one row per run (see `formats`), or its cells.
        columns: The file's column by the law's name, where they differ; a column named here must
            exist.
        needs: Number columns that the law reads, by its names. Of params, tokens and flops, one
            that the file lacks is derived from the other two.
        optional: Number columns that are added if the file has them for all rows.
        where: Conditions on any column, by the file's name or the law's; all must hold.
        drop_highest: Number of the highest losses (`y` if there is no loss) to leave out,
            after the conditions.
        flop_rule: `6ND`: k in C = k N D.
        holdout: `largest`, `none`, or a condition on any column.
        decayed_only: Leave out undecayed rows where the table has both kinds.
        scale: Factors on columns, by either name, before anything else reads them.
        others: Add every other column of numbers, by the file's name. A cell without a number is a
            value of its own.
        categories: Columns of text among the others, each text a number of its own.

    Raises:
        ConfigError: The file, a column, a condition or a cell cannot be used as it is.
    """
    factor = flop_factor(flop_rule)
    file = source if isinstance(source, TableFile) else read_file(source)
    names = find_columns(file, columns, (*needs, *optional, *LABELS, "decayed", *COPYING, *OF_DATA))
    file = numbers_of(file, names, scale)
    derived, required = plan_columns(file, names, columns, needs)
    selection = Selection(file, names, np.ones(file.rows, bool))
    conditions = [Condition.parse(text) for text in where]
    for condition in conditions:
        selection.apply(condition, factor)
    diagnostics = [*file.diagnostics]
    diagnostics += selection.drop_unfinished({selection.column_named(c.column) for c in conditions})
    diagnostics += selection.drop_undecayed() if decayed_only else []
    diagnostics += selection.drop_incomplete(required)
    values = {
        name: checked(name, names[name], file, selection.kept, names=names, scale=scale)
        for name in required
    }
    for name in derived:
        values[name] = derive(name, values, factor)
        selection.filters.append(f"{name} = {formula(name, factor)}")
    for name in (each for each in optional if each in names and each not in values):
        found, doubts = selection.take_along(
            name, named=columns.get(name, name) != name, scale=scale
        )
        values |= found
        diagnostics += doubts
    if others:
        values |= selection.other_columns(values, categories)
    if "params" in values:
        diagnostics += of_experts(file, names, selection.kept, values["params"])
    if "tokens" in values and "loss" in values and "unique_tokens" not in needs:
        diagnostics += of_repetition(file, names, selection.kept, values["tokens"])
    if decayed_only and (run := run_column(file, names, selection.kept)):
        selection.names = names = {**names, "run": run}
    highest = selection.drop_highest(values, drop_highest)
    held = selection.held_out(holdout, factor)
    values = {name: column[~highest] for name, column in values.items()}
    labels = selection.labels()
    trunk = labels.pop("trunk", None)
    diagnostics += trunk_diagnostics(file, names, trunk)
    if decayed_only:
        diagnostics += of_curves(file, names, selection.kept, labels.get("run"))
    decayed, doubts = selection.decayed()
    diagnostics += doubts
    known = {name: column for name, column in names.items() if name != column}
    try:
        table = Table(
            values,
            trunk=trunk,
            labels=labels,
            decayed=decayed,
            copying=selection.copying(),
            places=selection.places,
            names={
                name: column
                for name, column in known.items()
                if name in values or name in LABELS or name == "decayed"
            },
            flop_factor=factor,
            filters=tuple(selection.filters),
            dropped=tuple(selection.dropped),
        )
    except ColumnError as wrong:
        place = "" if wrong.row is None else f"{selection.places[wrong.row]}, "
        column = names.get(wrong.column, wrong.column)
        raise ConfigError(
            wrong.code,
            f"{file.path}: {place}column {column!r} {wrong.problem}",
            **{**wrong.values, "path": file.path, "column": column},
        ) from wrong
    if isinstance(held, str) or held is None:
        return ReadTable(table, tuple(diagnostics), held)
    mask, cut = whole_trunks(Condition.parse(holdout), held, table.trunk, of=file.rows)
    return ReadTable(table, (*diagnostics, *cut), mask)
