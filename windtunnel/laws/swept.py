"""The axes that a table of trials sweeps beside y, and the lowest loss of every y over them.

A law of the best batch needs the loss of each batch at its own best learning rate: the mean over
the rates tried says how bad the bad ones are. Seeds of one full setting are noise and are averaged.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from windtunnel.errors import Diagnostic, FitError, did_you_mean
from windtunnel.laws.table import Floats, Table, name_words

CELL = ("x", "z")
OF_LAW = (*CELL, "y", "loss")
OF_SIZE = frozenset({"params", "parameters", "tokens", "flop", "flops"})
"""More of these lowers the loss whatever y is, so none is an axis to take the best over."""
OF_SIZE_ALONE = frozenset({"n", "d", "c", "compute", "size"})
NOT_OF_SIZE = frozenset({"batch", "per", "unique", "warmup", "decay", "context", "window"})
ROUNDING = 1.1
"""Tokens are rounded to whole updates, which differ between batches."""
NO_AXIS = frozenset(
    {"seed", "seeds", "rep", "replica", "replicate", "replication", "repetition", "trial", "run",
     "runs", "id", "uid", "uuid", "index", "idx", "row", "job", "rank", "node", "host", "gpu",
     "gpus", "device", "worker", "time", "timestamp", "date", "created", "started", "ended",
     "duration", "seconds", "minutes", "hours", "runtime", "restart", "restarts", "loss", "losses",
     "ppl", "perplexity", "acc", "accuracy", "bpb", "bpc", "score", "error", "mfu", "throughput",
     "memory"}
)  # fmt: skip
"""Words of a column's name that counts repeats or records a result, whatever its values are."""
HALF = 0.5


def settings_of(
    table: Table, over: Sequence[str] | None
) -> tuple[tuple[str, ...], tuple[Diagnostic, ...]]:
    """Columns to take the best over: those of `over`, else those that look swept, with a warning.

    Args:
        table: x, z, y, loss, and other columns of the trials.
        over: columns by the table's names; empty: none, all rows of one (x, z, y) are seeds.

    Raises:
        FitError: No such column, a column of the law itself, or size or data that varies in a cell.
    """
    if over is not None:
        return tuple(dict.fromkeys(_named(table, name) for name in over)), ()
    axes = tuple(name for name in table.columns if _is_axis(table, name))
    for name in filter(_is_size, axes):
        if _varies_by_more_than_rounding(table, name):
            raise FitError(
                "mixed-sizes",
                f"power2: {name} varies among rows of the same x, z and y, and more of it lowers "
                "the loss whatever y is: select one value with --where, or make it x or z. To take "
                f"the best over it all the same: --over {name!r}",
                column=name,
                option="--over",
            )
    axes = tuple(name for name in axes if not _is_size(name))
    if not axes:
        return (), ()
    named = " and ".join(axes)
    options = " ".join(f"--over {name!r}" for name in axes)
    return axes, (
        Diagnostic(
            "best-over",
            f"{named} look swept beside y (rows of the same x, z and y differ in them, on a "
            f"grid): the loss of each y is the best over them. To say so yourself: {options}. If "
            "they are repeats of one setting, average them: --over none",
            columns=list(axes),
            option="--over",
        ),
    )


def best_trials(
    table: Table, mask: NDArray[np.bool_], axes: Sequence[str]
) -> tuple[Floats, Floats]:
    """Ln y tried (ascending) and the lowest loss of each over `axes`, of the rows in `mask`.

    Rows that agree in y and in all axes are seeds and are averaged first.
    """
    log_y, loss = np.log(table["y"][mask]), table.loss[mask]
    stacked = np.stack([log_y, *(table[name][mask] for name in axes)], axis=1)
    settings, seeds = np.unique(stacked, axis=0, return_inverse=True)
    seeds = seeds.reshape(-1)
    mean = np.bincount(seeds, loss) / np.bincount(seeds)
    rates, index = np.unique(settings[:, 0], return_inverse=True)
    lowest = np.full(rates.size, np.inf)
    np.minimum.at(lowest, index, mean)
    return rates, lowest


def _named(table: Table, name: str) -> str:
    """The table's column for a name of the table or of its source.

    Raises:
        FitError: There is none, or it is one of the law's own.
    """
    spelled = {column: law for law, column in table.names.items()}
    column = spelled.get(name, name)
    if column in OF_LAW:
        raise FitError(
            "contradicting-options",
            f"--over {name}: the law itself reads that column; name another that was swept",
            options=["--over", f"--{column}"],
            column=name,
        )
    others = sorted(table.names.get(each, each) for each in table.columns if each not in OF_LAW)
    if column not in table:
        raise FitError(
            "unknown-column",
            f"--over: no column {name!r} beside those of the law; there are: "
            f"{', '.join(others) or 'none'}{did_you_mean(name, others)}",
            column=name,
            known=others,
        )
    return column


def _is_axis(table: Table, name: str) -> bool:
    """Whether a column is a setting on a grid: it varies among rows of one (x, z, y), mostly.

    A grid takes the same values again at other y of the same (x, z); a measurement, an id or a time
    does not. Names tell repeats apart, such as `seed`, which are crossed with y as a grid is.
    """
    if name in OF_LAW or NO_AXIS.intersection(name_words(table.names.get(name, name))):
        return False
    cell, setting = table.cells(*CELL), table.cells(*CELL, "y")
    value = np.unique(table[name], return_inverse=True)[1]
    several = np.bincount(setting) > 1
    varies = np.bincount(np.unique(np.stack([setting, value]), axis=1)[0]) > 1
    if not several.any() or varies[several].mean() < HALF:
        return False
    # At how many y of its (x, z) each row's value occurs.
    y = np.unique(table["y"], return_inverse=True)[1]
    placed = np.unique(np.stack([cell, value, y]), axis=1)
    _, which, times = np.unique(placed[:2], axis=1, return_inverse=True, return_counts=True)
    at_other = dict(zip(map(tuple, placed.T.tolist()), times[which.reshape(-1)] > 1, strict=True))
    rows = zip(cell.tolist(), value.tolist(), y.tolist(), strict=True)
    return float(np.mean([at_other[row] for row in rows])) >= HALF


def _is_size(name: str) -> bool:
    words = name_words(name)
    if NOT_OF_SIZE.intersection(words):
        return False
    return bool(OF_SIZE.intersection(words)) or (len(words) == 1 and words[0] in OF_SIZE_ALONE)


def _varies_by_more_than_rounding(table: Table, name: str) -> bool:
    values, cell = table[name], table.cells(*CELL)
    low, high = np.full(cell.max() + 1, np.inf), np.full(cell.max() + 1, -np.inf)
    np.minimum.at(low, cell, values)
    np.maximum.at(high, cell, values)
    return bool(np.any(high > ROUNDING * low))
