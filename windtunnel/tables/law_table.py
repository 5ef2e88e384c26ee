"""The table of one law from a file or a DataFrame, and its fit: the same for both.

`windtunnel fit TABLE`, `windtunnel.fit("runs.csv")` and `windtunnel.fit(pandas.read_csv(...))` read
rows by the same steps, and so give the same numbers.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from windtunnel.errors import ColumnError, ConfigError, FitError
from windtunnel.laws import Fit, Table, needs_of
from windtunnel.laws import fit as fit_table
from windtunnel.laws.registry import OF_CURVES
from windtunnel.tables.file import TableFile
from windtunnel.tables.formats import read_file
from windtunnel.tables.read import ReadTable, read_table
from windtunnel.tables.warnings import loss_unit, of_unit

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from pandas import DataFrame

OPTIONAL = ("flops", "flops_exact", "params", "tokens", "loss")
"""Columns read if the table has them: for the baselines and the checks of a fit."""

FRAME = Path("DataFrame")
"""Stands for the file in the messages about a DataFrame."""


def fit(
    table: "DataFrame | Path | str | Mapping[str, ArrayLike] | Table",
    law: str | None = None,
    *,
    columns: Mapping[str, str] = MappingProxyType({}),
    where: Sequence[str] | str = (),
    scale: Mapping[str, float] = MappingProxyType({}),
    flop_rule: str = "6ND",
    drop_highest: int = 0,
    **options: Any,
) -> Fit:
    """The law fitted to a table of runs, as `windtunnel fit` does.

    >>> fit("runs.csv", where="flops>=1e18")  # doctest: +SKIP
    >>> fit(pandas.read_csv("runs.csv"), columns={"params": "Model Size"})  # doctest: +SKIP
    >>> fit({"params": n, "tokens": d, "loss": l, "trunk": t})  # doctest: +SKIP

    Args:
        table: a DataFrame, the path of a table (.csv, .tsv, .json, .jsonl, .parquet), a dict of
            arrays by the laws' names, or a Table. One row per run.
        law: one of `windtunnel.laws.LAWS`; None: `auto`, or `chinchilla` for options that `auto`
            does not take.
        columns: the table's column by the law's name, where they differ.
        where: conditions on rows, such as `params<2.4B`; all must hold.
        scale: factors on columns, such as `{"params": 1e9}`.
        flop_rule: k in C = k N D.
        drop_highest: how many of the highest losses are left out.
        options: of `windtunnel.laws.fit`: `objective`, `delta`, `fix`, `tie`, `intervals`,
            `bootstrap`, `seed`, `level`, `holdout`, `interpolate`, `over` and `noise`.

    Raises:
        ConfigError: a column, a condition or a cell that cannot be used as it is.
        FitError: the rows cannot carry the law, or a bad option.
    """
    where = (where,) if isinstance(where, str) else tuple(where)
    reading = {"columns": columns, "where": where, "scale": scale, "drop_highest": drop_highest}
    given = [name for name, value in reading.items() if value]
    given += ["flop_rule"] if flop_rule != "6ND" else []
    if isinstance(table, Table) or (isinstance(table, Mapping) and not given):
        if given:
            raise FitError(
                "contradicting-options",
                f"fit: a Table is read already, and takes no {given[0]}; give a DataFrame or a "
                "file, or select its rows with Table.subset",
                options=given,
            )
        return fit_table(table, law, **options)
    if isinstance(table, str | Path):
        file = _table_file(Path(table))
    elif hasattr(table, "keys"):
        file = frame_file(table)
    else:
        raise FitError(
            "wrong-type",
            f"fit: takes a DataFrame, a path, a dict of arrays or a Table, not "
            f"{type(table).__name__}",
            type=type(table).__name__,
        )
    holdout = options.pop("holdout", "largest")
    read = in_its_units(
        law_table(
            file,
            law or "auto",
            columns=columns,
            where=where,
            scale=scale,
            flop_rule=flop_rule,
            drop_highest=drop_highest,
            holdout=_text_of(holdout),
            over=options.get("over") or (),
        )
    )
    held = read.holdout if isinstance(holdout, str | None) else _of_kept(holdout, file, read.table)
    with naming_source(file.path, read.table):
        fitted = fit_table(read.table, law, holdout=held, **options)
    return fitted.warned(*read.diagnostics)


def law_table(
    file: TableFile,
    law: str,
    *,
    columns: Mapping[str, str] = MappingProxyType({}),
    where: Sequence[str] = (),
    scale: Mapping[str, float] = MappingProxyType({}),
    flop_rule: str = "6ND",
    drop_highest: int = 0,
    holdout: str = "largest",
    over: Sequence[str] = (),
) -> ReadTable:
    """The rows and columns that a law reads.

    Raises:
        ConfigError: as `read_table`.
        FitError: an unknown law.
    """
    needs = needs_of(law)
    return read_table(
        file,
        columns=columns,
        needs=needs,
        optional=[name for name in OPTIONAL if name not in needs],
        where=where,
        drop_highest=drop_highest,
        flop_rule=flop_rule,
        holdout=holdout,
        decayed_only=law not in OF_CURVES,
        scale=scale,
        others=law == "power2",
        categories=(over,) if isinstance(over, str) else over,
    )


def in_its_units(read: ReadTable) -> ReadTable:
    """The table of a foreign source: params as it counts them, losses in the unit of their name."""
    column = read.table.names.get("loss", "loss")
    unit = loss_unit(column)
    table = read.table.stated(
        loss_unit=f"{unit}, by its name" if unit else "nats per token, assumed",
        params_convention="as counted in the table",
    )
    return read._replace(table=table, diagnostics=(*of_unit(column), *read.diagnostics))


def frame_file(frame: "DataFrame | Mapping[str, ArrayLike]") -> TableFile:
    """The cells of a DataFrame or of a dict of arrays; missing ones are None."""
    columns = {
        str(name): [_cell(cell) for cell in np.asarray(cells, object).tolist()]
        for name, cells in frame.items()
    }
    index = getattr(frame, "index", range(len(next(iter(columns.values()), []))))
    return TableFile(path=FRAME, columns=columns, places=[f"row {label}" for label in index])


MISSING_TYPES = {"NAType", "NaTType"}
"""Pandas' own missing values, by the names of their types."""


def _cell(cell: Any) -> Any:
    """A plain Python value; None where pandas and numpy have a missing one."""
    plain = cell.item() if isinstance(cell, np.generic) else cell
    if type(plain).__name__ in MISSING_TYPES or (isinstance(plain, float) and math.isnan(plain)):
        return None
    return plain


def _table_file(path: Path) -> TableFile:
    if path.suffix in {".yaml", ".yml"}:
        raise ConfigError(
            "wrong-type",
            f"{path}: a study file is no table; windtunnel.open_study(PATH).fit() fits its runs",
            path=path,
        )
    return read_file(path)


def _text_of(holdout: Any) -> str:
    """A hold-out as the reader takes it; a mask or labels are resolved after it."""
    return holdout if isinstance(holdout, str) else "none"


def _of_kept(holdout: Any, file: TableFile, table: Table) -> Any:
    """A mask over the rows of the file as one over the rows that were kept; labels as they are."""
    mask = np.asarray(holdout)
    if mask.dtype != np.bool_ or mask.shape != (file.rows,):
        return holdout
    return mask[np.isin(file.places, table.places)]


@contextmanager
def naming_source(source: Path, table: Table) -> Iterator[None]:
    """Name the file, its columns and its lines in every FitError of the body.

    Raises:
        FitError: The body raised one.
    """
    try:
        yield
    except ColumnError as error:
        column = table.names.get(error.column, error.column)
        place = "" if error.row is None else f"{table.places[error.row]}, "
        raise FitError(
            error.code,
            f"{source}: {place}column {column!r} {error.problem}",
            **{**error.values, "path": source, "column": column},
        ) from error
    except FitError as error:
        values = {"path": source} | error.values
        raise FitError(error.code, f"{source}: {error}", **values) from error
